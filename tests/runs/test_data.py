"""Training images that val or test hold too are left out, and everything says so."""

import json
from pathlib import Path

import pytest
from PIL import Image

from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.runs.data import audit_data, data_path, load_data, open_data, write_data_files
from keras_bench.runs.job import Request, resolve
from tests.audit.test_inspect import put, scene
from tests.conftest import encoded


def data_of(root, out, *settings):
    settings = ("dataset.source=folder", *settings)
    job = resolve(Request("digits", "MobileNet", "scratch", root, "none", 0, out, settings=settings))
    index, store, fingerprint = open_data(job, Log())
    data = load_data(job, index, store, fingerprint, Log())
    return job, data, audit_data(job, data, Log())


def ids(data, split):
    return [data.index.ids[i] for i in data.splits.positions[split]]


@pytest.fixture
def photos(tmp_path):
    for i in range(24):
        put(tmp_path / "photos", f"train/cat/{i:02}.png", encoded(scene(i), "PNG"))
        put(tmp_path / "photos", f"train/dog/{i:02}.png", encoded(scene(100 + i), "PNG"))
    for i in range(3):
        put(tmp_path / "photos", f"test/cat/{i}.png", encoded(scene(200 + i), "PNG"))
        put(tmp_path / "photos", f"test/dog/{i}.png", encoded(scene(300 + i), "PNG"))
    put(tmp_path / "photos", "train/cat/exact.png", encoded(scene(200), "PNG"))
    put(tmp_path / "photos", "train/dog/near.jpg", encoded(scene(301), quality=60))
    return tmp_path / "photos"


def test_a_run_says_how_many_images_are_left_out_for_their_size(photos, tmp_path, capsys):
    put(tmp_path / "photos", "train/cat/half.png", encoded(scene(0), "PNG")[:200])
    for name in ("large", "larger"):
        put(tmp_path / "photos", f"train/dog/{name}.png", encoded(Image.new("1", (1200, 1000)), "PNG"))
    data_of(photos, tmp_path / "runs")
    assert "for the size" not in capsys.readouterr().out
    data_of(photos, tmp_path / "runs", "dataset.max_megapixels=1")
    output = capsys.readouterr().out
    assert "3 unreadable images are left out" in output
    assert "2 of them are left out for the size alone; dataset.max_megapixels (1) is the limit" in output


@pytest.mark.parametrize(
    ("which", "gone"),
    [("near", {"train/cat/exact.png", "train/dog/near.jpg"}), ("exact", {"train/cat/exact.png"}), ("none", set())],
)
def test_training_images_that_test_holds_too_are_left_out(photos, tmp_path, capsys, which, gone):
    job, before, data = data_of(
        photos, tmp_path / "runs", f"dataset.remove_leaked={which}", "dataset.validation_fraction=0.05"
    )
    assert gone <= set(ids(before, "train"))
    assert set(ids(before, "train")) - set(ids(data, "train")) == gone
    assert all(ids(data, split) == ids(before, split) for split in ("val", "test"))
    output = capsys.readouterr()
    assert ("left out of train" in output.out) == bool(gone)
    assert "near-duplicate in train: 2" in output.out + output.err
    write_data_files(job.folder, data)
    assert set(json.loads(job.folder.dataset.read_text())["leaked"]) == gone
    rows = [line.split(",") for line in job.folder.splits.read_text().splitlines()[1:]]
    assert {name for name, _, split, _ in rows if split == "leaked"} == gone
    assert len(list(photos.rglob("*.*"))) == 56  # the user's files are as they were


def test_another_split_of_the_same_images_is_audited_anew(photos, tmp_path):
    first = data_of(photos, tmp_path / "runs")[0]
    before = first.experiment_folder.audit.read_text()
    data_of(photos, tmp_path / "runs")
    assert first.experiment_folder.audit.read_text() == before
    data_of(photos, tmp_path / "runs", "dataset.split_seed=5")
    assert first.experiment_folder.audit.read_text() != before
    first.experiment_folder.audit.write_text('{"fingerprint": "of an older version"}')
    data_of(photos, tmp_path / "runs")
    assert first.experiment_folder.audit.read_text() == before


def test_a_class_that_would_be_empty_is_refused(tmp_path):
    root = tmp_path / "photos"
    for i in range(12):
        put(root, f"train/cat/{i}.png", encoded(scene(i), "PNG"))
        put(root, f"train/dog/{i}.png", encoded(scene(100 + i), "PNG"))
        put(root, f"test/cat/{i}.png", encoded(scene(200 + i), "PNG"))
        put(root, f"test/dog/{i}.png", encoded(scene(100 + i), "PNG"))
    with pytest.raises(UserError, match=r"every training image of class 'dog' .* dataset.remove_leaked=none"):
        data_of(root, tmp_path / "runs")


def test_imbalance_is_warned_about_unless_something_was_chosen(tmp_path, capsys):
    for i in range(60):
        put(tmp_path / "photos", f"many/{i}.png", encoded(scene(i), "PNG"))
    for i in range(15):
        put(tmp_path / "photos", f"few/{i}.png", encoded(scene(100 + i), "PNG"))
    data_of(tmp_path / "photos", tmp_path / "runs")
    said = capsys.readouterr()
    assert "(4.0 to 1); read balanced accuracy" in said.out + said.err
    data_of(tmp_path / "photos", tmp_path / "runs", "training.imbalance=oversample")
    said = capsys.readouterr()
    assert "balanced accuracy" not in said.out + said.err


@pytest.mark.parametrize(
    ("source", "is_read"),
    [("tiny-imagenet", True), ("folder", True), ("csv", True), ("tfds", False), ("digits", False)],
)
def test_the_environment_stands_in_for_data_where_it_holds_images(tmp_path, monkeypatch, source, is_read):
    def path_of(data):
        settings = (f"dataset.source={source}", "dataset.tfds_name=cifar10")
        return data_path(
            resolve(Request("digits", "MobileNet", "scratch", data, "none", 0, tmp_path, settings=settings))
        )

    monkeypatch.setenv("KERAS_BENCH_DATA", "elsewhere")
    assert path_of(None) == (Path("elsewhere") if is_read else None)
    assert path_of(tmp_path) == tmp_path
