"""Reads and writes tables: pandas DataFrames as CSV, written whole or not at all, without losing a digit.

Numbers have the fewest digits that read back as the same number, booleans are True and False, and a missing value is
an empty cell, as in the output of Python's csv module. Text that looks like a number stays text. Names from data are
written so that they control neither a terminal nor a spreadsheet, and `read_frame` returns the original names. pandas
takes half a second to import, so each function that needs it imports it when called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_bench.disk import writing
from keras_bench.files import write_text
from keras_bench.printable import cell_text, text_of_cell
from keras_bench.reading import unreadable

if TYPE_CHECKING:
    import pandas as pd

# The dtype of a column whose values, apart from missing ones, are all of one kind. By default pandas would turn the
# integer 5 into 5.0 as soon as another value of its column is missing.
_DTYPES = {"integer": "Int64", "floating": "float64", "boolean": "boolean", "string": "str"}


def frame_of(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Return rows as a DataFrame, whose columns are the keys of all rows in order of first appearance.

    Args:
        rows: value by column; None, or no entry, is a missing value.

    Returns:
        a DataFrame with columns of dtype Int64, float64, boolean or str; object for values of mixed or other kinds.
    """
    import pandas as pd

    listed = list(rows)
    names = dict.fromkeys(name for row in listed for name in row)
    return pd.DataFrame({name: _column([row.get(name) for row in listed]) for name in names})


def _column(values: list[object]) -> pd.Series:
    import pandas as pd
    from pandas.api.types import infer_dtype

    return pd.Series(values, dtype=_DTYPES.get(infer_dtype(values, skipna=True), object))


def frame_csv(frame: pd.DataFrame, float_format: str | None = None) -> str:
    """Return a DataFrame as CSV without its index: a header, then one line per row, each ending with a newline.

    Args:
        frame: the table.
        float_format: format of the float columns, e.g. "%.9g"; None for the fewest digits that read back unchanged.
    """
    return str(_with_safe_cells(frame).to_csv(index=False, lineterminator="\n", float_format=float_format))


def write_frame(path: Path, frame: pd.DataFrame, float_format: str | None = None) -> None:
    """Write a DataFrame in the format of `frame_csv`, in UTF-8, whole or not at all."""
    write_text(path, frame_csv(frame, float_format))


def _with_safe_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the text of its cells and of its header as `cell_text` writes it."""
    import pandas as pd
    from pandas.api.types import is_object_dtype, is_string_dtype

    def safe(value: object) -> object:
        return cell_text(value) if isinstance(value, str) else value

    def safe_column(column: pd.Series) -> pd.Series:
        if isinstance(column.dtype, pd.CategoricalDtype):  # it takes no text but its categories
            column = column.astype(object)
        if not (is_object_dtype(column) or is_string_dtype(column)):
            return column
        return pd.Series(list(map(safe, column)), column.index, column.dtype)

    columns = {position: safe_column(column) for position, (_, column) in enumerate(frame.items())}
    return pd.DataFrame(columns, frame.index).set_axis(list(map(safe, frame.columns)), axis=1)


def append_frame(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Append rows to a CSV file, which is created with a header if it does not exist.

    Lines end with a carriage return and a newline, as in files of earlier versions, which used Python's csv module.

    Args:
        path: the file; an existing one keeps its columns.
        frame: the rows; columns that the file does not have are dropped.
        columns: the columns of a new file.

    Raises:
        UserError: the file has no header.
    """
    exists = path.is_file()
    frame = frame.reindex(columns=read_frame(path, str).columns if exists else list(columns))
    with writing(path):
        _with_safe_cells(frame).to_csv(
            path, mode="a", header=not exists, index=False, lineterminator="\r\n", encoding="utf-8"
        )


def read_frame(path: Path, dtype: type[str] | type[float], required: Sequence[str] = ()) -> pd.DataFrame:
    """Return a CSV file as a DataFrame whose cells are all text or all numbers.

    A line that a crash cut short lacks its last cells.

    Args:
        path: the file, in UTF-8, with a header.
        dtype: str returns every cell as it was ("NA", "1e5" and "" included), without the escapes of `write_frame`;
            float turns an empty cell into NaN.
        required: columns that every version has written.

    Raises:
        UserError: the file is damaged, lacks a required column, or holds text where numbers are expected.
        OSError: the file does not exist.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, encoding="utf-8", keep_default_na=False)
        if not isinstance(frame.index, pd.RangeIndex):  # how pandas reads rows that are longer than the header
            raise ValueError("its rows have more cells than its header")
        frame.columns = frame.columns.map(text_of_cell)
        if missing := [name for name in required if name not in frame]:
            raise ValueError(f"no column {missing[0]!r}")
        # Converted from text, because the number parser of pandas may get the last digit wrong before version 3.1.
        return frame.mask(frame == "").astype(float) if dtype is float else frame.map(text_of_cell)
    except ValueError as error:  # includes pandas's parser errors and UnicodeDecodeError
        raise unreadable(path, str(error), None) from error
