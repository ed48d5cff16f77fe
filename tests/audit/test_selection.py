"""Images that two splits share: kept where a class merely looks alike, out of val, and never calibrated on."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from keras_bench.audit.selection import Selection, recorded_selection, splits_frame
from keras_bench.cli.main import main
from keras_bench.console import Log
from keras_bench.data.index import ImageIndex, SplitTable
from keras_bench.errors import UserError
from keras_bench.evaluation.predictions import Predictions
from keras_bench.export.phases import data_of_run
from keras_bench.files import DIGEST, write_bytes, write_record, write_text
from keras_bench.frames import write_frame
from keras_bench.reading import read_json
from keras_bench.runs.damage import FILES
from keras_bench.runs.data import audit_data, load_data, open_data, shared_of_run, write_data_files
from tests.audit.test_inspect import put, scene
from tests.conftest import encoded
from tests.made import make_run
from tests.runs.test_data import data_of, ids

NEAR = tuple(f"train/cat/near{i}.jpg" for i in range(4))


def folder(root, *splits):
    """Two classes: 24 training images each, 8 of val where it is asked for, and 8 of test."""
    for k, name in enumerate(("cat", "dog")):
        for start, split in enumerate(("train", *splits)):
            for i in range(24 if split == "train" else 8):
                put(root, f"{split}/{name}/{i:02}.png", encoded(scene(1000 * k + 100 * start + i), "PNG"))
    return root


@pytest.fixture
def alike(tmp_path):
    """Of the 29 training cats one is a copy of a test image, and four are near-duplicates of others."""
    root = folder(tmp_path / "photos", "test")
    put(root, "train/cat/exact.png", encoded(scene(100), "PNG"))
    for i, name in enumerate(NEAR):
        put(root, name, encoded(scene(101 + i), quality=60))
    put(root, "train/dog/near.jpg", encoded(scene(1101), quality=60))
    return root


@pytest.fixture
def shared(tmp_path):
    """Of the val images one is a copy of a test image, and one a near-duplicate of another."""
    root = folder(tmp_path / "photos", "val", "test")
    put(root, "val/cat/exact.png", encoded(scene(200), "PNG"))
    put(root, "val/dog/near.jpg", encoded(scene(1201), quality=60))
    return root


def said(capsys):
    output = capsys.readouterr()
    return " ".join((output.out + output.err).split())


def recorded(job):
    with job.folder.splits.open(encoding="utf-8", newline="") as stream:
        rows = {row["id"]: row for row in csv.DictReader(stream)}
    return rows, json.loads(job.folder.dataset.read_text(encoding="utf-8"))


VAL = "dataset.validation_fraction=0.05"  # draws no image that the tests name


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        ("near", {"train/cat/exact.png", "train/dog/near.jpg"}),
        ("near_always", {"train/cat/exact.png", "train/dog/near.jpg", *NEAR}),
        ("exact", {"train/cat/exact.png"}),
        ("none", set()),
    ],
)
def test_a_class_of_many_near_duplicates_keeps_them_unless_the_setting_insists(alike, tmp_path, capsys, rule, gone):
    job, before, data = data_of(alike, tmp_path / "runs", f"dataset.remove_leaked={rule}", VAL)
    shared = {"train/cat/exact.png", "train/dog/near.jpg", *NEAR}
    assert shared <= set(ids(before, "train"))
    assert set(ids(before, "train")) - set(ids(data, "train")) == gone
    words = said(capsys)
    assert "train: classes with more than 1% near-duplicates of val or test: 1 ('cat' 4 of 28" in words
    assert "look at train/cat/near0.jpg ~ test/cat/01.png" in words
    assert "dataset.remove_leaked=near keeps them, near_always leaves them out" in words
    write_data_files(job.folder, data)
    rows, dataset = recorded(job)
    assert dataset["leaked"] == sorted(gone)
    assert set(dataset["kept"]["train"]) == shared - gone
    assert {name for name, row in rows.items() if row["split"] == "leaked"} == gone
    assert {name for name, row in rows.items() if row["note"]} == shared
    if rule == "near":
        assert all("probably different images that look alike" in rows[name]["note"] for name in NEAR)
        assert rows["train/cat/near0.jpg"]["split"] == "train"
        assert rows["train/cat/exact.png"]["note"] == "same pixels as an image of val or test"
        assert rows["train/dog/near.jpg"]["note"] == "near-duplicate of an image of val or test"


def test_the_audit_and_its_page_show_what_is_kept(alike, tmp_path, capsys):
    page = tmp_path / "audit.html"
    assert main(["audit", str(alike), "--html", str(page), "--set", VAL]) == 1
    words = said(capsys)
    assert "near-duplicates too many to be copies: dataset.remove_leaked=near keeps them" in words
    assert "train/cat/near0.jpg ~ test/cat/01.png" in words
    text = page.read_text(encoding="utf-8")
    assert "Classes in train with too many near-duplicates to be copies: 1<" in text
    assert '<bdi class="name">train/cat/near2.jpg</bdi></td><td class="left"><bdi class="name">test/cat/03.png' in text


def test_images_of_val_that_test_holds_too_are_left_out_of_val(shared, tmp_path, capsys):
    job, before, data = data_of(shared, tmp_path / "runs")
    gone = {"val/cat/exact.png", "val/dog/near.jpg"}
    assert set(ids(before, "val")) - set(ids(data, "val")) == gone
    assert all(ids(data, split) == ids(before, split) for split in ("train", "test"))
    words = said(capsys)
    assert "val images that test holds too, exactly or nearly: 2, e.g. val/cat/exact.png" in words
    assert "left out of val: 2 images that are also in test (dataset.remove_leaked: near)" in words
    write_data_files(job.folder, data)
    rows, dataset = recorded(job)
    assert {name for name, row in rows.items() if row["split"] == "val_in_test"} == gone
    assert dataset["val_in_test"] == sorted(gone)
    assert dataset["images"]["val"] == dataset["images_per_class"]["cat"]["val"] + 8 == 16
    assert shared_of_run(job.folder, job.experiment_folder) == 0
    assert json.loads(job.experiment_folder.audit.read_text())["leaks"]["val"]["exact"] == ["val/cat/exact.png"]


def test_what_the_setting_keeps_in_val_is_counted(shared, tmp_path):
    for rule, count in (("exact", 1), ("none", 2)):
        job, before, data = data_of(shared, tmp_path / rule, f"dataset.remove_leaked={rule}")
        assert len(ids(before, "val")) - len(ids(data, "val")) == 2 - count
        write_data_files(job.folder, data)
        assert shared_of_run(job.folder, job.experiment_folder) == count


def make_earlier(job, drawn):
    """Rewrite what a run wrote as an earlier version did: all of val is used, without notes and digests."""
    lines = job.folder.splits.read_text(encoding="utf-8").splitlines()
    lines = [line.rpartition(",")[0].replace(",val_in_test", ",val") for line in lines]
    write_text(job.folder.splits, "\n".join(lines) + "\n")
    dataset = recorded(job)[1]
    write_text(
        job.folder.dataset, json.dumps({key: dataset[key] for key in dataset if key not in (*drawn, FILES, DIGEST)})
    )


def test_the_audit_answers_for_runs_of_earlier_versions(shared, tmp_path):
    job, _, data = data_of(shared, tmp_path / "runs")
    write_data_files(job.folder, data)
    make_earlier(job, ("kept", "val_in_test"))
    assert shared_of_run(job.folder, job.experiment_folder) == 2
    made = read_json(job.experiment_folder.audit)
    write_text(job.experiment_folder.audit, json.dumps({**made, "split": "another"}))
    assert shared_of_run(job.folder, job.experiment_folder) is None
    write_text(job.experiment_folder.audit, json.dumps({**made, "fingerprint": "other images"}))
    assert shared_of_run(job.folder, job.experiment_folder) is None
    job.experiment_folder.audit.unlink()
    assert shared_of_run(job.folder, job.experiment_folder) is None


def test_a_run_that_goes_on_with_its_splits_promises_nothing_and_counts_what_val_shares(shared, tmp_path, capsys):
    job, before, data = data_of(shared, tmp_path / "runs")
    assert "a run leaves them out of val" in said(capsys)
    write_data_files(job.folder, data)
    make_earlier(job, ("kept", "val_in_test"))
    again = audit_data(job, before, Log(), begun=True)
    words = said(capsys)
    assert "val images that test holds too, exactly or nearly: 2" in words
    assert "a run leaves" not in words
    assert "Decisions used val, which shares 2 images with test" in words
    assert {"val/cat/exact.png", "val/dog/near.jpg"} <= set(ids(again, "val"))
    write_data_files(job.folder, again)
    rows, dataset = recorded(job)
    assert set(dataset["kept"]["val"]) == {"val/cat/exact.png", "val/dog/near.jpg"}
    assert "earlier version" in rows["val/dog/near.jpg"]["note"]
    assert shared_of_run(job.folder, job.experiment_folder) == 2


def test_what_a_run_with_other_splits_shares_stays_unknown(shared, tmp_path, capsys):
    job, before, data = data_of(shared, tmp_path / "runs")
    write_data_files(job.folder, data)
    make_earlier(job, ("kept", "val_in_test"))
    words = job.folder.splits.read_text(encoding="utf-8").replace("val/cat/00.png,cat,val", "val/cat/00.png,cat,unused")
    write_text(job.folder.splits, words)
    for _ in range(2):  # what is written is read as unknown again
        again = audit_data(job, before, Log(), begun=True)
        assert "It is unknown whether decisions used some of the test images" in said(capsys)
        write_data_files(job.folder, again)
        assert shared_of_run(job.folder, job.experiment_folder) is None


@pytest.mark.parametrize("copied", [("cat",), ("cat", "dog")])
def test_a_val_that_test_holds_whole_is_refused(tmp_path, copied):
    root = folder(tmp_path / "photos", "val", "test")
    for name in copied:
        for i in range(8):
            put(root, f"val/{name}/{i:02}.png", (root / f"test/{name}/{i:02}.png").read_bytes())
    where = "" if len(copied) == 2 else " of class 'cat'"
    with pytest.raises(UserError, match=rf"every val image{where} is a duplicate of one in test; .*remove_leaked=none"):
        data_of(root, tmp_path / "runs")


def test_an_export_sees_the_splits_of_its_run(alike, tmp_path, capsys):
    """Training images that were left out must not calibrate the 8-bit model either."""
    job, _, data = data_of(alike, tmp_path / "runs", VAL)
    write_data_files(job.folder, data)
    exported = data_of_run(job, Log())
    for split in ("train", "val", "test"):
        assert ids(exported, split) == ids(data, split)
    assert (exported.left_out, exported.kept) == (data.left_out, data.kept)
    assert "train/cat/exact.png" not in ids(exported, "train")


def test_the_splits_a_run_was_made_with_are_the_truth_whatever_is_left_out_today(alike, tmp_path):
    job, _, data = data_of(alike, tmp_path / "runs", VAL)
    write_data_files(job.folder, data)
    before = job.folder.splits.read_text(encoding="utf-8")
    lines = [line.rpartition(",")[0] for line in before.splitlines()]  # an earlier version: no notes,
    earlier = [line.replace(",train", ",leaked") if line.startswith("train/cat/near") else line for line in lines]
    write_text(job.folder.splits, "\n".join(earlier) + "\n")  # near-duplicates always left out,
    write_record(job.folder.dataset, {**read_json(job.folder.dataset), FILES: {}})  # and no digest of splits.csv
    index, store, fingerprint = open_data(job, Log())
    again = load_data(job, index, store, fingerprint, Log())
    for read in (data_of_run(job, Log()), audit_data(job, again, Log(), begun=True)):
        assert set(ids(data, "train")) - set(ids(read, "train")) == set(NEAR)
        assert ids(read, "val") == ids(data, "val")
        assert set(read.left_out["train"]) == {"train/cat/exact.png", "train/dog/near.jpg", *NEAR}
    assert ids(audit_data(job, again, Log()), "train") == ids(data, "train")  # a new run goes by today's rule
    job.folder.splits.unlink()
    assert ids(data_of_run(job, Log()), "train") == ids(data, "train")
    write_text(job.folder.splits, "id,class,split\nelsewhere.png,cat,train\n")
    with pytest.raises(UserError, match=r"'elsewhere.png' is not among the images"):
        data_of_run(job, Log())


def test_an_audit_of_an_earlier_version_is_made_again(alike, tmp_path):
    job = data_of(alike, tmp_path / "runs")[0]
    made = job.experiment_folder.audit.read_text()
    tree = json.loads(made)
    earlier = {key: value for key, value in tree.items() if key not in ("leaks", "near_likeness")}
    write_text(job.experiment_folder.audit, json.dumps({**earlier, "leaked_exact": [], "leaked_near": []}))
    data_of(alike, tmp_path / "runs")
    assert job.experiment_folder.audit.read_text() == made


def test_the_report_names_what_val_and_test_share(tmp_path):
    run = make_run(tmp_path, "MobileNet")
    dataset = json.loads(run.dataset.read_text())
    page = tmp_path / "made" / "index.html"
    assert main(["report", "made", "--out", str(tmp_path)]) == 0  # of an earlier version: neither key is there
    text = page.read_text(encoding="utf-8")
    assert "On 200 test images (it is unknown whether decisions used some of them)" in text
    assert "once per phase. It is unknown whether decisions used some of the test images." in text
    assert "only to report the results" not in text
    assert "No decision used the test images" not in run.model_card.read_text(encoding="utf-8")
    for kept, words in (
        ({}, "that no decision has used"),
        ({"val/<b>.png": "why"}, "that share 1 image with val (exact duplicates, near-duplicates or look-alikes)"),
    ):
        new = {"val_in_test": ["val/<i>.png"], "kept": {"train": {}, "val": kept}}
        write_text(run.dataset, json.dumps({**dataset, **new}))
        assert main(["report", "made", "--out", str(tmp_path)]) == 0
        text = page.read_text(encoding="utf-8")
        assert "Left out of val because they are also in test: 1 images" in text
        assert "val/&lt;i&gt;.png" in text
        assert f"On 200 test images {words}" in text
        assert ("val/&lt;b&gt;.png" in text) == bool(kept)
        card = run.model_card.read_text(encoding="utf-8")
        assert ("No decision used the test images" in card) == (not kept)
        shared = "val, which shares 1 image with test (exact duplicates, near-duplicates or look-alikes)"
        assert (shared in card) == bool(kept)
        assert ("only to report the results" in text) == (not kept)
        summary = " ".join(page.with_name("summary.txt").read_text(encoding="utf-8").split())
        assert ("No decision used test." in summary) == (not kept)


def test_each_run_has_its_count_and_the_comparison_the_largest(tmp_path):
    runs = [make_run(tmp_path, "MobileNet"), make_run(tmp_path, "VGG16", skills=(("tl", 0.5),))]
    for run, kept in zip(runs, ({}, {"val/a.png": "why", "val/b.png": "why"}), strict=True):
        write_text(run.dataset, json.dumps({**json.loads(run.dataset.read_text()), "kept": {"val": kept}}))
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "made" / "index.html").read_text(encoding="utf-8")
    assert "that share 2 images with val" in page
    assert "same val images" not in page
    best, other = (run.model_card.read_text(encoding="utf-8") for run in runs)
    assert "No decision used the test images" in best
    assert "which shares 2 images with test" in other


def test_runs_with_different_val_images_say_so(tmp_path):
    runs = [make_run(tmp_path, name) for name in ("MobileNet", "VGG16")]
    path = runs[1].predictions("ft", "val")
    val = Predictions.from_npz(path)
    write_bytes(path, replace(val, ids=np.char.replace(val.ids, "image", "other")).to_npz())
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "made" / "index.html").read_text(encoding="utf-8")
    assert "The runs do not all have the same val images" in page


def test_splits_csv_is_what_the_csv_module_writes_and_ids_and_classes_stay_text(tmp_path):
    names = ("1e5", "NA", "a,b", "null", 'the "x"')
    ids = ("007", "NA", "a,b.jpg", "null", "two\nlines.jpg", "наш.jpg", "1e5")
    index = ImageIndex("folder", "photos", names, names, ids, np.array([0, 1, 2, 3, 4, 0, 1]), ("",) * 7, None)
    splits = SplitTable({"train": np.array([0, 6]), "val": np.array([1]), "test": np.array([2])}, "made up")
    made = Selection(splits, {"train": {"null": "as test, too"}, "val": {}}, {"train": {}, "val": {"NA": "nearly"}})
    path = tmp_path / "splits.csv"
    write_frame(path, splits_frame(index, {4: "broken"}, made))
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        [
            ("id", "class", "split", "note"),
            ("007", "1e5", "train", ""), ("NA", "NA", "val", "nearly"), ("a,b.jpg", "a,b", "test", ""),
            ("null", "null", "leaked", "as test, too"), (r"two\u{a}lines.jpg", 'the "x"', "unreadable", ""),
            ("наш.jpg", "1e5", "unused", ""), ("1e5", "NA", "train", ""),
        ]
    )  # fmt: skip
    assert path.read_bytes() == stream.getvalue().encode()
    again = recorded_selection(path, index, splits)
    assert (again.left_out, again.kept) == (made.left_out, made.kept)
    assert {split: where.tolist() for split, where in again.splits.positions.items()} == {
        "train": [0, 6], "val": [1], "test": [2],
    }  # fmt: skip
    assert [where.dtype for where in again.splits.positions.values()] == [np.int64] * 3
    path.write_text(path.read_text().replace("007", "7"))
    with pytest.raises(UserError, match="'7' is not among the images of photos"):
        recorded_selection(path, index, splits)
    write_text(path, path.read_text().replace("class,split", "class,place"))
    with pytest.raises(UserError, match="no column 'split'"):
        recorded_selection(path, index, splits)
