"""Tables on disk are what the csv module would write, byte by byte, and come back with every digit and as text."""

import csv
import io
import math

import numpy as np
import pandas as pd
import pytest

from keras_bench.errors import UserError
from keras_bench.frames import append_frame, frame_csv, frame_of, read_frame, write_frame
from keras_bench.printable import UNSAFE
from tests.checks import python

# Floats that writers and readers get wrong: in the last digit, or in whether there is an exponent or a point.
AWKWARD = [
    *(1e-05, 0.1 + 0.2, 1e22, 1e16, 123456789012345680.0, 100000.0),
    *(1.0, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3, 2e-4),
]
# Text that has to be quoted, or that looks like a number or a missing value.
NAMES = ["a,b", 'say "cheese"', "ночь", " space ", "", "NA", "null", "None", "nan", "1e5", "007", "True"]


def by_csv(rows, line_end="\n"):
    """The same rows by an independent writer."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, dict.fromkeys(name for row in rows for name in row), lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize(
    "values",
    [
        AWKWARD,
        [*AWKWARD, None],
        NAMES,
        [*NAMES, None],
        [5, None, -3, 2**62],
        [True, None, False],
        [None, None],
        [1, 2.5, None, "word", True],
        [np.float64(0.1), np.float64(1e-7), None],
        [np.int64(7), 8],
        [[1, 2], {"a": 1}, None],
    ],
    ids=str,
)
def test_a_column_is_written_as_the_csv_module_writes_it(values):
    rows = [{"before": 1, "a column, of": value, "after": "x"} for value in values]
    assert frame_csv(frame_of(rows)) == by_csv(rows)


def test_a_hundred_thousand_numbers_have_the_digits_of_repr():
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**64, 100_000, dtype=np.uint64).view(np.float64)
    rows = [{"value": value} for value in bits[np.isfinite(bits)].tolist()]
    assert frame_csv(frame_of(rows)) == by_csv(rows)


def test_rows_that_lack_a_column_are_empty_there_and_columns_come_in_order_of_appearance():
    rows = [{"model": "VGG16", "seed": 0}, {"model": "MobileNet", "xla": True, "epochs": 3}]
    frame = frame_of(iter(rows))
    assert frame_csv(frame) == by_csv(rows) == "model,seed,xla,epochs\nVGG16,0,,\nMobileNet,,True,3\n"
    assert frame.dtypes.astype(str).tolist()[1:] == ["Int64", "boolean", "Int64"]
    assert frame["epochs"].sum() == 3


def test_numbers_are_written_with_the_digits_asked_for():
    rows = [{"step": 1, "rate": 1e-7, "loss": 2.302585092994046}, {"step": 2, "rate": 1.0, "loss": 1e10}]
    formatted = [{"step": row["step"], **{name: f"{row[name]:.9g}" for name in ("rate", "loss")}} for row in rows]
    assert frame_csv(frame_of(rows), "%.9g") == by_csv(formatted)


def test_text_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "folder" / "names.csv"
    frame = pd.DataFrame({"id": NAMES, "class": NAMES[::-1]}, dtype=str)
    write_frame(path, frame)
    assert path.read_bytes().decode() == frame_csv(frame)
    assert [file.name for file in path.parent.iterdir()] == ["names.csv"]
    again = read_frame(path, str, required=["id"])
    assert again.to_dict("list") == {"id": NAMES, "class": NAMES[::-1]}


def test_names_that_control_a_terminal_or_a_spreadsheet_are_harmless_on_disk_and_come_back(tmp_path):
    names = [
        "two\nlines",
        "a\rb",
        "\x1b]0;title\x07",
        "\u202egpj.exe",
        "=cmd|' /C calc'!A0",
        "@SUM(1)",
        "'=1",
        "-1+1",
    ]
    path = tmp_path / "table.csv"
    write_frame(path, frame_of({"id": name, "value": -0.5} for name in names))
    content = path.read_bytes().decode()
    assert not UNSAFE.search(content.replace("\n", ""))
    assert content.splitlines()[1:4] == [r"two\u{a}lines,-0.5", r"a\u{d}b,-0.5", r"\u{1b}]0;title\u{7},-0.5"]
    assert content.splitlines()[5:] == [
        "'=cmd|' /C calc'!A0,-0.5",
        "'@SUM(1),-0.5",
        "''=1,-0.5",
        "'-1+1,-0.5",
    ]
    assert read_frame(path, str)["id"].tolist() == names
    append_frame(path, frame_of([{"id": "+1 or\tso", "value": 2}]), ["id", "value"])
    assert read_frame(path, str)["id"].tolist() == [*names, "+1 or\tso"]
    write_frame(tmp_path / "again.csv", read_frame(path, str))  # negative numbers read as text stay numbers
    assert read_frame(tmp_path / "again.csv", str).equals(read_frame(path, str))
    assert "'-0.5" not in (tmp_path / "again.csv").read_text()


def test_categories_and_headers_are_harmless_too_and_come_back(tmp_path):
    frame = pd.DataFrame({"=1+1": pd.Categorical(["=a", "b", None]), "x;=2": ["a;b", "c;=d", "e"], "n": [1, 2, 3]})
    path = tmp_path / "table.csv"
    write_frame(path, frame)
    assert path.read_text().splitlines() == [
        r"'=1+1,x\u{3b}=2,n", "'=a,a;b,1", r"b,c\u{3b}=d,2", ",e,3"
    ]  # fmt: skip
    again = read_frame(path, str)
    assert again.columns.tolist() == list(frame.columns)
    assert again["=1+1"].tolist() == ["=a", "b", ""]
    assert again["x;=2"].tolist() == ["a;b", "c;=d", "e"]
    append_frame(path, pd.DataFrame({"=1+1": ["f"], "n": [4]}), [])
    assert read_frame(path, str)["=1+1"].tolist() == ["=a", "b", "", "f"]


def test_numbers_come_back_with_every_digit_and_an_empty_cell_is_nan(tmp_path):
    path = tmp_path / "numbers.csv"
    write_frame(path, frame_of([{"epoch": k, "loss": value} for k, value in enumerate([*AWKWARD, None])]))
    frame = read_frame(path, float)
    assert frame.dtypes.tolist() == [np.float64, np.float64]
    assert frame["loss"].tolist()[:-1] == AWKWARD
    assert math.isnan(frame["loss"].iloc[-1])


def test_rows_are_added_as_the_csv_module_adds_them_and_a_file_keeps_its_columns(tmp_path):
    path = tmp_path / "history.csv"
    rows = [{"epoch": 1, "seconds": "2.500", "loss": "1e-05"}, {"epoch": 2, "loss": "0.3", "seconds": "1.000"}]
    for row in rows:
        append_frame(path, frame_of([row | {"unknown": 1}]), ["epoch", "seconds", "loss", "top5"])
    expected = by_csv([{"epoch": 1, "seconds": "2.500", "loss": "1e-05", "top5": None}, rows[1]], "\r\n")
    assert path.read_bytes() == expected.encode()
    earlier = tmp_path / "earlier.csv"
    earlier.write_bytes(b"epoch,old\n1,2\n")
    append_frame(earlier, frame_of([{"old": 4, "epoch": 2, "new": 5}]), ["epoch", "new"])
    assert earlier.read_bytes() == b"epoch,old\n1,2\n2,4\r\n"


def test_a_line_that_a_crash_cut_short_lacks_its_last_cells(tmp_path):
    path = tmp_path / "cut.csv"
    path.write_text("epoch,seconds,loss\n1,2.5,0.25\n2,1.")
    assert read_frame(path, str).to_dict("list") == {
        "epoch": ["1", "2"],
        "seconds": ["2.5", "1."],
        "loss": ["0.25", ""],
    }
    frame = read_frame(path, float)
    assert frame["seconds"].tolist() == [2.5, 1.0]
    assert math.isnan(frame["loss"].iloc[1])


def test_a_module_that_may_need_a_table_imports_no_pandas_before_it_does():
    users = (
        "frames",
        "runs.history",
        "audit.selection",
        "report.tables",
        "sweep.page",
        "lr_find.records",
        "workflow.compare",
    )
    imports = "; ".join(f"import keras_bench.{name}" for name in users)
    assert python(f"{imports}; import sys; print('pandas' in sys.modules)") == "False\n"


@pytest.mark.parametrize(
    ("content", "dtype", "why"),
    [
        (b"", str, "No columns to parse from file"),
        (b"epoch,loss\n1,much\n", float, "could not convert string to float"),
        (b"epoch,loss\n1,1e-", float, "could not convert string to float"),
        (b"epoch,loss\n1,2,3\n", float, "its rows have more cells than its header"),
        (b"epoch,loss\n1,2\n1,2,3\n", str, "Expected 2 fields in line 3, saw 3"),
        (b"id,loss\n1,2\n", str, "no column 'epoch'"),
        (b'epoch,loss\n1,"2\n', str, "EOF inside string"),
        (b"epoch,loss\n1,\xff\n", str, "can't decode byte 0xff"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, content, dtype, why):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read") as refused:
        read_frame(path, dtype, required=["epoch"])
    line = str(refused.value)
    assert line.startswith(f"{path} cannot be read (")
    assert why in line
    assert "\n" not in line
