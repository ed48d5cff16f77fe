"""A CSV table of labels beside the images it lists: `path,label[,split][,group]`, as in most Kaggle data sets.

UTF-8 with commas and a header line; names that contain commas are quoted. Paths are relative to the table's folder and
must stay inside it. Labels are text, even if they look like numbers.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from keras_bench.console import Log
from keras_bench.data.archive import entry_names, extracted, first_line, is_zip
from keras_bench.data.index import ImageIndex
from keras_bench.errors import UserError, nearest, unknown_name
from keras_bench.images import EXTENSIONS

REQUIRED = ("path", "label")
CSV_COLUMNS = (*REQUIRED, "split", "group")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "": ""}
_MOST_EXAMPLES = 3  # in a message
_HEADER_BYTES = 4096  # read of the first line; four columns need less


@dataclass(frozen=True)
class _Row:
    """One image: the line on which its row begins, counted from 1, and its cells."""

    line: int
    path: str
    label: str
    split: str


def open_csv(path: Path | None, log: Log) -> ImageIndex:
    """List the images of a table.

    `split` is train, val (or valid, validation), test, or empty for an image without an official split. `group` is
    accepted but not used, with a warning.

    Args:
        path: the table, or a folder or zip that holds exactly one.
        log: shows progress.

    Raises:
        UserError: there is no table, or more than one; a column is missing or unknown; a row has too many or too few
            cells, no path, no label or an unknown split, or contradicts an earlier row for the same image; a path
            leaves the folder; or an image is missing. The message names the line.
    """
    if path is None:
        raise UserError("the csv source needs --data TABLE.csv (or $KERAS_BENCH_DATA), with columns path,label")
    table = _find_table(path, log)
    name = str(table) if table == path or path.is_dir() else f"{path}: {table.name}"
    columns, numbered_cells = _read_cells(table, name)
    rows, warnings = _without_repeats([_parse_row(line, cells, columns, name) for line, cells in numbered_cells], name)
    if not rows:
        raise UserError(f"{name}: a header but no rows; expected one row per image")
    _check_files(rows, table.parent, name)
    if "group" in columns:
        warnings.append(f"{name}: column 'group' is not used: images of one group may fall into different splits")
    class_names = tuple(sorted({row.label for row in rows}))
    label_index = {label: k for k, label in enumerate(class_names)}
    rows.sort(key=lambda row: row.path)
    return ImageIndex(
        source="csv",
        location=str(path),
        class_names=class_names,
        class_titles=class_names,
        ids=tuple(row.path for row in rows),
        labels=np.array([label_index[row.label] for row in rows], dtype=np.int64),
        official=tuple(row.split for row in rows),
        read=lambda i: (table.parent / rows[i].path).read_bytes(),
        warnings=tuple(warnings),
    )


def is_csv_table(path: Path) -> bool:
    """Return whether a path is a .csv file, or a folder or zip whose only .csv file has the columns path and label.

    Raises:
        UserError: the file is a damaged zip.
    """
    if path.is_dir():
        tables = _shallowest_tables(_shallow_names(path))
        if len(tables) != 1:
            return False
        with (path / tables[0]).open("rb") as stream:
            return _has_columns(stream.readline(_HEADER_BYTES))
    if not is_zip(path):
        return path.suffix.lower() == ".csv"
    tables = _shallowest_tables(map(PurePosixPath, entry_names(path)))
    if len(tables) != 1:
        return False
    try:
        return _has_columns(first_line(path, str(tables[0]), _HEADER_BYTES))
    except UserError:  # encrypted, damaged or of unknown compression: extracting it says so
        return False


def _has_columns(header: bytes) -> bool:
    cells = header.decode("utf-8-sig", "replace").split(",")
    return set(REQUIRED) <= {cell.strip(' "\r\n') for cell in cells}


def _shallow_names(folder: Path) -> Iterator[PurePosixPath]:
    """Yield the entries of a folder and of its direct subfolders, relative to it."""
    for pattern in ("*", "*/*"):
        yield from (PurePosixPath(entry.relative_to(folder).as_posix()) for entry in folder.glob(pattern))


def _shallowest_tables(names: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    """Return the tables at the top level or, if it has none, one folder down: archives often nest a folder."""
    tables = [
        name
        for name in names
        if name.suffix.lower() == ".csv" and not name.name.startswith(".") and name.parts[0] != "__MACOSX"
    ]
    return sorted(
        [name for name in tables if len(name.parts) == 1] or [name for name in tables if len(name.parts) == 2]
    )


def _find_table(path: Path, log: Log) -> Path:
    if path.is_file() and not is_zip(path):
        return path
    folder = extracted(path, log) if path.is_file() else path
    tables = _shallowest_tables(_shallow_names(folder))
    if len(tables) != 1:
        more = ", …" if len(tables) > _MOST_EXAMPLES else ""
        names = f": {', '.join(map(str, tables[:_MOST_EXAMPLES]))}{more}" if tables else ""
        raise UserError(
            f"{path}: expected exactly one .csv table beside the images, found {len(tables)}{names}; "
            "pass the path of the table itself (extract a zip first)"
        )
    return folder / tables[0]


def _read_cells(table: Path, name: str) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
    """Return the position of each column, and the cells of each non-blank row with the line on which it begins."""
    content = table.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{name}, line {line}: not UTF-8 ({error.reason}); save the table as CSV in UTF-8") from error
    # Not pandas: it knows no line numbers, and a row with too few cells is as good to it as any.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    rows, line = [], 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{name}, line {line}: not a row of CSV ({error}); is a quotation mark not closed?") from error
    if not rows:
        raise UserError(f"{name}: the table is empty; expected the columns path,label[,split][,group]")
    header_line, header = rows[0]
    return _column_places([cell.strip() for cell in header], f"{name}, line {header_line}"), rows[1:]


def _column_places(header: list[str], where: str) -> dict[str, int]:
    for column in REQUIRED:
        if column not in header:
            similar = nearest(column, [name for name in header if name not in CSV_COLUMNS])
            hint = f"; did you mean {similar[0]!r}?" if similar else "."
            raise UserError(
                f"{where}: no column {column!r}{hint} Expected path,label[,split][,group] with commas, received "
                f"{','.join(header)}"
            )
    for column in header:
        if column not in CSV_COLUMNS:
            raise UserError(f"{where}: {unknown_name('column', column, CSV_COLUMNS)}")
        if header.count(column) > 1:
            raise UserError(f"{where}: column {column!r} occurs {header.count(column)} times, expected once")
    return {column: k for k, column in enumerate(header)}


def _parse_row(line: int, cells: list[str], columns: dict[str, int], name: str) -> _Row:
    where = f"{name}, line {line}"
    if len(cells) != len(columns):
        raise UserError(
            f"{where}: expected {len(columns)} cells, received {len(cells)}; quote names that contain commas"
        )
    label = " ".join(cells[columns["label"]].split())
    if not label:
        raise UserError(f"{where}: empty label; add one, or remove the row")
    split = cells[columns["split"]].strip() if "split" in columns else ""
    if split.lower() not in _SPLITS:
        raise UserError(f"{where}: {unknown_name('split', split, filter(None, _SPLITS))} (or nothing)")
    return _Row(line, _path_inside(cells[columns["path"]], where), label, _SPLITS[split.lower()])


def _path_inside(text: str, where: str) -> str:
    """Return a path below the table's folder; backslashes, as Windows writes them, become forward slashes."""
    path = PurePosixPath(text.replace("\\", "/"))
    if not path.parts:
        raise UserError(f"{where}: empty path; name the image, or remove the row")
    if path.is_absolute() or ".." in path.parts or path.parts[0][1:2] == ":":
        raise UserError(f"{where}: {text!r} leaves the table's folder; expected a path below it")
    return str(path)


def _without_repeats(rows: list[_Row], name: str) -> tuple[list[_Row], list[str]]:
    """Return the first row of each image, and a warning about identical repeats.

    Raises:
        UserError: two rows of an image differ in label or split.
    """
    first_rows: dict[str, _Row] = {}
    repeats = []
    for row in rows:
        first = first_rows.setdefault(row.path, row)
        for column, before, now in (("label", first.label, row.label), ("split", first.split, row.split)):
            if before != now:
                raise UserError(
                    f"{name}, line {row.line}: {row.path!r} has {column} {now!r}, but {before!r} on line {first.line}; "
                    "keep one of them"
                )
        if first is not row:
            repeats.append(row)
    if not repeats:
        return rows, []
    examples = ", ".join(f"{row.path!r} on line {row.line}" for row in repeats[:_MOST_EXAMPLES])
    return list(first_rows.values()), [
        f"{name}: {len(repeats):,} rows repeat an earlier one and count once, e.g. {examples}"
    ]


def _check_files(rows: list[_Row], folder: Path, name: str) -> None:
    missing = [row for row in rows if not (folder / row.path).is_file()]
    if not missing:
        return
    first = folder / missing[0].path
    extension = next((end for end in EXTENSIONS if first.with_name(first.name + end).is_file()), None)
    remedy = (
        f"there is a {first.name + extension!r}: add the extension" if extension else "correct or remove these rows"
    )
    examples = ", ".join(f"{row.path!r} (line {row.line})" for row in missing[:_MOST_EXAMPLES])
    raise UserError(
        f"{name}: {len(missing):,} of {len(rows):,} images are missing, e.g. {examples}; paths are relative to the "
        f"table's folder; {remedy}"
    )
