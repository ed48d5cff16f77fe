"""Tables of labelled images: what is read, and one-line errors for everything that can be wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_bench.cli.main import main
from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data.sources import guess_source, open_source
from keras_bench.data.splits import split_images
from keras_bench.errors import UserError
from keras_bench.runs.data import require_data
from keras_bench.runs.job import Request, resolve
from tests.audit.test_inspect import put, scene
from tests.conftest import encoded

CONFIG = DatasetConfig(source="csv")
IMAGES = ("a.png", "b, c.png", "deep er/d.png", "Ünï.png")


def opened(path):
    return open_source(CONFIG, path, Log())


def table(folder, text, name="table.csv", encoding="utf-8"):
    """Write a table beside four small images."""
    for i, image in enumerate(IMAGES):
        put(folder, image, encoded(scene(i, side=16), "PNG"))
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture
def photos(tmp_path):
    text = 'path,label\ndeep er/d.png,sea  lion \nÜnï.png,1\n"b, c.png",007\na.png,1\n'
    return table(tmp_path / "photos", text).parent


def test_names_may_be_quoted_and_labels_are_text(photos):
    index = opened(photos / "table.csv")
    assert index.class_names == index.class_titles == ("007", "1", "sea lion")
    assert index.ids == ("a.png", "b, c.png", "deep er/d.png", "Ünï.png")
    assert index.labels.tolist() == [1, 0, 2, 1]
    assert index.labels.dtype == np.int64
    assert index.official == ("", "", "", "")
    assert [index.read(i) for i in range(4)] == [(photos / name).read_bytes() for name in IMAGES]
    assert (index.source, index.location, index.warnings) == ("csv", str(photos / "table.csv"), ())


def test_a_table_written_on_windows_reads_like_any_other(tmp_path):
    text = '"label", "path"\r\ncat, .\\a.png\r\n\r\ndog, deep er\\d.png\r\n'
    index = opened(table(tmp_path, text, encoding="utf-8-sig"))
    assert index.ids == ("a.png", "deep er/d.png")
    assert [index.class_names[k] for k in index.labels] == ["cat", "dog"]
    assert index.read(1) == (tmp_path / "deep er/d.png").read_bytes()


def test_a_folder_or_zip_with_one_table_reads_like_the_table(photos, tmp_path):
    (photos / "._table.csv").write_bytes(b"\x00\x05\x16\x07")  # created by macOS
    index = opened(photos / "table.csv")
    flat = Path(shutil.make_archive(str(tmp_path / "flat"), "zip", photos))
    nested = Path(shutil.make_archive(str(tmp_path / "nested"), "zip", tmp_path, "photos"))
    for path in (photos, tmp_path, flat, nested):
        other = opened(path)
        assert (other.ids, other.class_names, other.location) == (index.ids, index.class_names, str(path))
        assert [other.read(i) for i in range(4)] == [index.read(i) for i in range(4)]


def test_the_table_must_be_the_only_one(photos):
    shutil.copy(photos / "table.csv", photos / "more.csv")
    with pytest.raises(UserError, match=r"photos: expected exactly one .csv table .*, found 2: more.csv, table.csv; "):
        opened(photos)
    assert len(opened(photos / "more.csv").ids) == 4
    with pytest.raises(UserError, match=r"found 0; pass the path of the table itself \(extract a zip first\)"):
        opened(photos / "deep er")


def test_the_layout_is_recognised_by_the_columns(photos, image_folder, tmp_path):
    assert guess_source(photos / "table.csv") == "csv"
    assert guess_source(photos) == "csv"
    assert guess_source(Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", photos))) == "csv"
    (photos / "table.csv").write_text("epoch,loss\n1,0.5\n")
    assert guess_source(photos) == "folder"
    assert guess_source(Path(shutil.make_archive(str(tmp_path / "others"), "zip", photos))) == "folder"


def test_splits_are_official_and_an_empty_cell_means_none(tmp_path):
    rows = [
        f"{label}/{i}.png,{label},{split}"
        for label in ("cat", "dog")
        for i, split in enumerate(["train"] * 4 + ["Valid", "validation", "val", "TEST", "test", ""])
    ]
    for i in range(10):
        for label in ("cat", "dog"):
            put(tmp_path, f"{label}/{i}.png", encoded(scene(i, side=16), "PNG"))
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *rows]))
    index = opened(tmp_path / "table.csv")
    assert index.official[:10] == (*["train"] * 4, *["val"] * 3, "test", "test", "")
    splits = split_images(index, CONFIG)
    assert splits.test_origin == "the source's test images"
    # In order of id: cat/0 to cat/9, then dog/0 to dog/9; images without a split train.
    assert {name: where.tolist() for name, where in splits.positions.items()} == {
        "train": [0, 1, 2, 3, 9, 10, 11, 12, 13, 19],
        "val": [4, 5, 6, 14, 15, 16],
        "test": [7, 8, 17, 18],
    }


def test_a_repeated_row_counts_once_and_groups_are_reported_as_unused(tmp_path):
    text = "path,label,group\na.png,x,1\n./a.png,x,1\ndeep er/d.png,y,2\na.png,x,1\n"
    index = opened(table(tmp_path, text))
    assert index.ids == ("a.png", "deep er/d.png")
    repeats, group = index.warnings
    assert repeats.endswith("2 rows repeat an earlier one and count once, e.g. 'a.png' on line 3, 'a.png' on line 5")
    assert "column 'group' is not used: images of one group may fall into different splits" in group


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"table.csv: the table is empty; expected the columns path,label\[,split\]\[,group\]"),
        ("path,label\n\n", "table.csv: a header but no rows; expected one row per image"),
        ("filepath,label\na.png,x", r"line 1: no column 'path'; did you mean 'filepath'\? .* received filepath,label"),
        ("path,split\na.png,train", r"line 1: no column 'label'. Expected path,label"),
        ("path,label,spilt\na.png,x,train", r"line 1: unknown column 'spilt'; did you mean 'split'\?"),
        ("path,label,label\na.png,x,y", "line 1: column 'label' occurs 2 times, expected once"),
        ("path,label\na.png,x\nb, c.png,y", "line 3: expected 2 cells, received 3; quote names that contain commas"),
        ("path,label\na.png", "line 2: expected 2 cells, received 1"),
        ('path,label\n\na.png,x\n"b, c.png,y\n', "line 4: not a row of CSV .*; is a quotation mark not closed"),
        ("path,label\na.png,x\n ,y", "line 3: empty path; name the image, or remove the row"),
        ('path,label\na.png,x\n"b, c.png"," "', "line 3: empty label; add one, or remove the row"),
        ('path,label\n"a\nb.png",x\na.png,', "line 4: empty label"),
        ("path,label,split\na.png,x,tran", r"line 2: unknown split 'tran'; did you mean 'train'\? .*\(or nothing\)"),
        ("path,label\n../a.png,x", r"line 2: '../a.png' leaves the table's folder; expected a path below it"),
        ("path,label\n/etc/a.png,x", "line 2: '/etc/a.png' leaves"),
        ("path,label\nC:\\a.png,x", "line 2: .* leaves the table's folder"),
        ("path,label\na.png,x\na.png,y", "line 3: 'a.png' has label 'y', but 'x' on line 2; keep one of them"),
        ("path,label,split\na.png,x,train\na.png,x,test", "line 3: 'a.png' has split 'test', but 'train' on line 2"),
        (
            "path,label\na.png,x\n1.png,x\n2.png,y\n3.png,y\n4.png,y",
            r"4 of 5 images are missing, e.g. '1.png' \(line 3\), '2.png' \(line 4\), '3.png' \(line 5\); paths are "
            "relative to the table's folder; correct or remove these rows",
        ),
        ("path,label\na,x", r"1 of 1 images are missing, e.g. 'a' \(line 2\); .*there is a 'a.png': add the extension"),
        ("path,label\na.png,x", r"expected at least two classes, found 1 \(x\)"),
    ],
)
def test_errors_in_a_table_are_one_line_that_names_the_table_and_the_line(tmp_path, text, message):
    path = table(tmp_path, text)
    with pytest.raises(UserError, match=message) as raised:
        opened(path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(path))


def test_a_table_in_another_encoding_names_the_line(tmp_path):
    path = table(tmp_path, "path,label\na.png,x\nÜnï.png,y\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"table.csv, line 3: not UTF-8 .*; save the table as CSV in UTF-8"):
        opened(path)


def test_without_a_path_the_error_asks_for_the_table(tmp_path):
    with pytest.raises(UserError, match=r"the csv source needs --data TABLE.csv \(or \$KERAS_BENCH_DATA\)"):
        opened(None)
    settings = ("dataset.source=csv",)
    job = resolve(Request("digits", "MobileNet", "scratch", None, "none", 0, tmp_path, settings=settings))
    with pytest.raises(UserError, match=r"give them with --data TABLE.csv .* Expected: a table path,label\["):
        require_data(job)


def test_the_audit_reads_a_table_and_ends_with_the_next_command(tmp_path, capsys):
    rows = ["path,label"]
    for i in range(30):
        put(tmp_path, f"images/{i}.jpg", encoded(scene(i)))
        rows.append(f"images/{i}.jpg,{'sea lion' if i % 2 else 7}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows))
    assert main(["audit", str(path)]) == 0
    output = capsys.readouterr().out
    assert "sea lion" in output
    assert f"next: keras-bench run --experiment folder --data {path} --set dataset.source=csv --dry-run" in output
