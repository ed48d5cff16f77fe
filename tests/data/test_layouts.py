"""Folders as published on Kaggle and as people have them, read from the folder and from a zip of it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data.sources import open_source
from keras_bench.data.splits import split_images
from keras_bench.data.store import ImageStore
from keras_bench.errors import UserError
from tests.stand_ins import INTEL_CLASSES, WORDNET_IDS, make_imagenet100, make_intel, make_messy, scans, write_scans

CONFIG = DatasetConfig(source="folder")


def opened(path):
    return open_source(CONFIG, path, Log())


def counts(index):
    return {split: index.official.count(split) for split in sorted(set(index.official))}


def zipped(root, inside="."):
    """Make a zip of a folder's content or, if `inside` is its name, of the folder itself."""
    base = root if inside == "." else root.parent
    return Path(shutil.make_archive(f"{root}-{inside.strip('.')}zip", "zip", base, inside))


@pytest.mark.parametrize("make", [make_intel, make_imagenet100, make_messy])
def test_a_zip_reads_like_its_folder(make, tmp_path):
    root = make(tmp_path / "data")
    (root / "Ünïcode & spaces" / "gone.jpg").unlink(missing_ok=True)  # a zip would omit the link
    index = opened(root)
    for archive in (zipped(root), zipped(root, root.name)):
        other = opened(archive)
        assert (other.ids, other.official, other.class_names) == (index.ids, index.official, index.class_names)
        assert other.class_titles == index.class_titles
        assert [other.read(i) for i in range(0, len(other.ids), 7)] == [
            index.read(i) for i in range(0, len(index.ids), 7)
        ]
        assert len(other.warnings) == len(index.warnings)


def test_intel_has_train_and_test_and_unlabelled_images_are_skipped_with_a_warning(tmp_path):
    index = opened(make_intel(tmp_path / "intel"))
    assert index.class_names == INTEL_CLASSES
    assert counts(index) == {"train": 24, "test": 12}
    for image_id, label, split in zip(index.ids, index.labels, index.official, strict=True):
        assert image_id.startswith(f"seg_{split}/seg_{split}/{INTEL_CLASSES[label]}/")
    (warning,) = index.warnings
    assert warning.endswith(
        "intel/seg_pred: neither train, val nor test: its 5 images are taken as unlabelled and are not used"
    )
    splits = split_images(index, CONFIG)
    assert splits.test_origin == "the source's test images"
    assert {split: len(where) for split, where in splits.positions.items()} == {"train": 18, "val": 6, "test": 12}


def test_a_lone_seg_train_is_a_split_not_a_class(tmp_path):
    root = make_intel(tmp_path / "intel")
    shutil.rmtree(root / "seg_test")
    index = opened(root)
    assert index.class_names == INTEL_CLASSES
    assert counts(index) == {"train": 24}
    assert "10% of all images" in split_images(index, DatasetConfig(source="folder")).test_origin


def test_imagenet100_is_read_from_its_parts_with_titles_and_its_val_becomes_the_test(tmp_path):
    root = make_imagenet100(tmp_path / "imagenet100")
    index = opened(root)
    assert index.class_names == WORDNET_IDS
    assert index.class_titles == tuple(f"title {k}, synonym" for k in range(8))
    assert counts(index) == {"train": 32, "val": 16}
    assert "train.X3/n01494475/n01494475_" in index.ids[16]
    for image_id, label in zip(index.ids, index.labels, strict=True):
        assert image_id.split("/")[1] == WORDNET_IDS[label]
    assert index.warnings == ()
    splits = split_images(index, CONFIG)
    assert "val is held out of train" in splits.test_origin
    assert {index.official[i] for i in splits.positions["test"]} == {"val"}
    assert {index.official[i] for i in splits.positions["val"]} == {"train"}


def test_imagenet100_in_plain_folders_reads_the_same_images(tmp_path):
    root = make_imagenet100(tmp_path / "parts")
    plain = tmp_path / "plain"
    for folder in root.glob("*.X*/*"):
        split = folder.parent.name.partition(".")[0]
        shutil.copytree(folder, plain / split / folder.name)
    index, parts = opened(plain), opened(root)
    assert (index.class_names, index.class_titles) == (WORDNET_IDS, WORDNET_IDS)  # no Labels.json
    assert counts(index) == counts(parts)
    assert sorted(map(index.read, range(48))) == sorted(map(parts.read, range(48)))


def test_a_missing_part_of_imagenet100_is_named_with_a_few_classes(tmp_path):
    root = make_imagenet100(tmp_path / "imagenet100")
    for part in ("train.X1", "train.X2", "train.X3"):
        shutil.rmtree(root / part)
    with pytest.raises(UserError, match=r"train/ has no images of class 'n01440764', .*'n01494475' and 1 more; add"):
        opened(root)


def test_unreadable_titles_leave_the_folder_names(tmp_path):
    root = make_imagenet100(tmp_path / "imagenet100")
    (root / "Labels.json").write_text("{")
    index = opened(root)
    assert index.class_titles == WORDNET_IDS
    assert "Labels.json: not JSON, so classes keep their folder names" in index.warnings[0]
    (root / "Labels.json").write_text("[1]")
    assert opened(root).class_titles == WORDNET_IDS


def test_a_messy_folder_is_read_and_everything_left_out_is_reported(tmp_path):
    root = make_messy(tmp_path / "photos")
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    index = opened(root)
    assert index.class_names == ('class, "b" <i>', "plain", "Ünïcode & spaces")
    assert np.bincount(index.labels).tolist() == [30, 20, 12 + 3]
    loose, skipped = index.warnings
    assert "1 image lies outside any class folder and is not used, e.g. 'loose.jpg'" in loose
    assert "3 files in class folders have no image extension or are broken links" in skipped
    assert skipped.endswith("e.g. 'Ünïcode & spaces/gone.jpg'")
    store = ImageStore(index, 1 << 30)
    store.load(Log())
    reasons = {index.ids[i].rsplit("/", 1)[1]: reason for i, reason in store.unreadable.items()}
    assert set(reasons) == {"half.jpg", "empty.png", "page.jpg"}
    assert reasons["empty.png"] == "the file is empty"
    assert "not a JPEG, PNG, BMP, GIF or WebP image" in reasons["page.jpg"]
    assert len(store.sizes) == 3
    assert all(store.image(int(i)).shape[2] == 3 for i in np.flatnonzero(store.readable))
    nested = [image_id for image_id in index.ids if "/deeper/still/" in image_id]
    assert len(nested) == 7 + 5 + 3  # every fourth
    splits = split_images(index, CONFIG, store.readable)
    # 80/10/10 of 30, 20 and 12, rounded class by class
    assert {split: len(where) for split, where in splits.positions.items()} == {"train": 50, "val": 6, "test": 6}
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


def test_names_that_are_not_utf_8_are_shown_by_their_bytes(tmp_path):
    root = tmp_path / "photos"
    write_scans(root / "a", scans(0, 0, 2), 16)
    folder = os.fsencode(root) + b"/caf\xe9"
    os.mkdir(folder)
    (picture,) = (root / "a").glob(f"{scans(0, 0, 1)[0]}.jpg")
    shutil.copy(picture, folder + b"/\xff.jpg")
    index = opened(root)
    assert index.class_names == ("a", "caf\\xe9")
    assert index.ids[-1] == "caf\\xe9/\\xff.jpg"
    assert index.read(2) == picture.read_bytes()
    ImageStore(index, 1 << 20).load(Log())


def test_a_test_folder_without_labels_is_skipped_with_a_warning(tmp_path):
    root = tmp_path / "cats"
    for digit, name in enumerate(("cat", "dog")):
        write_scans(root / "train" / name, scans(digit, 0, 4), 16)
    write_scans(root / "test", scans(3, 0, 6), 16)
    index = opened(root)
    assert (index.class_names, counts(index)) == (("cat", "dog"), {"train": 8})
    assert "/test: 6 images lie outside any class folder and are not used" in index.warnings[0]


def test_a_class_may_be_called_train(tmp_path):
    for digit, name in enumerate(("bus", "train", "tram")):
        write_scans(tmp_path / "vehicles" / name, scans(digit, 0, 3), 16)
    assert opened(tmp_path / "vehicles").class_names == ("bus", "train", "tram")
