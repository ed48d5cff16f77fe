"""Tables on disk: pandas DataFrames as CSV, whole or not at all, with every digit and no text taken for a number.

Numbers have the fewest digits that read back as the same number, truth values are True and False, and a missing value
is an empty cell, as Python's csv module writes them. pandas takes half a second to import, so only what reads or writes
a table imports it, not what merely could.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_bench.files import write_text
from keras_bench.reading import unreadable

if TYPE_CHECKING:
    import pandas as pd

# The dtype of a column whose values, apart from missing ones, are all of one kind. pandas itself would make 5.0 of an
# integer as soon as another is missing.
_DTYPES = {"integer": "Int64", "floating": "float64", "boolean": "boolean", "string": "str"}


def frame_of(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Return rows as a frame, whose columns are all the rows' keys in order of first appearance.

    Args:
        rows: value by column; None, or no entry, is a missing value.

    Returns:
        columns of dtype Int64, float64, boolean or str; object where a column mixes several kinds or holds another.
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
    """Return a frame as CSV without its index: a header, then one line per row, each ended by a newline.

    Args:
        frame: one row per line.
        float_format: for the columns of floats, e.g. "%.9g"; None: the fewest digits that read back as the same number.
    """
    return str(frame.to_csv(index=False, lineterminator="\n", float_format=float_format))


def write_frame(path: Path, frame: pd.DataFrame, float_format: str | None = None) -> None:
    """Write a frame as `frame_csv` does, in UTF-8, whole or not at all."""
    write_text(path, frame_csv(frame, float_format))


def append_frame(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Add rows to the end of a file; it is begun where it is not there.

    Lines end with a carriage return and a newline, as the csv module ends them and such files always have.

    Args:
        path: the file; it keeps the columns it was begun with.
        frame: what it has in other columns is left out.
        columns: of a new file.

    Raises:
        UserError: the file has no header.
    """
    is_begun = path.is_file()
    frame = frame.reindex(columns=read_frame(path, str).columns if is_begun else list(columns))
    frame.to_csv(path, mode="a", header=not is_begun, index=False, lineterminator="\r\n", encoding="utf-8")


def read_frame(path: Path, dtype: type[str] | type[float], required: Sequence[str] = ()) -> pd.DataFrame:
    """Return a CSV file whose cells are all text, or all numbers.

    A line that ends early, as after a crash, lacks its last cells.

    Args:
        path: the file, in UTF-8, with a header.
        dtype: str keeps every cell as it stands ("NA", "1e5" and "" included); float makes NaN of an empty one.
        required: columns that every version wrote.

    Raises:
        UserError: the file is damaged, lacks a required column, or has other cells than numbers where they should be.
        OSError: there is no such file.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, encoding="utf-8", keep_default_na=False)
        if not isinstance(frame.index, pd.RangeIndex):  # what pandas makes of rows that are longer than the header
            raise ValueError("its rows have more cells than its header")
        if missing := [name for name in required if name not in frame]:
            raise ValueError(f"no column {missing[0]!r}")
        # By way of text, since before pandas 3.1 its own reader of numbers may miss the last digit.
        return frame.mask(frame == "").astype(float) if dtype is float else frame
    except ValueError as error:  # of which pandas' own are subclasses, and UnicodeDecodeError
        raise unreadable(path, str(error), None) from error
