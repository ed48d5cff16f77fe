import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from keras_bench.cli.main import main
from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data import tiny_imagenet
from keras_bench.data.sources import SOURCES, open_source
from keras_bench.download import DownloadError
from keras_bench.errors import UserError
from keras_bench.images import decode


def open_folder(path, **options):
    return open_source(DatasetConfig(source="folder", **options), path, Log())


def open_tiny(path):
    return open_source(DatasetConfig(source="tiny-imagenet"), path, Log())


def test_configuration_table_and_help_name_the_same_sources(capsys):
    assert set(SOURCES) == set(get_args(DatasetConfig.model_fields["source"].annotation))
    with pytest.raises(SystemExit):
        main(["audit", "--help"])
    help_text = "".join(capsys.readouterr().out.split())  # argparse breaks lines at hyphens too
    assert f"{'|'.join(SOURCES)}(default:bythelayout)" in help_text


def test_a_bundled_source_takes_no_path(tmp_path):
    message = "the digits source is bundled with scikit-learn and takes no path"
    with pytest.raises(UserError, match=f"--data {tmp_path}: {message}"):
        open_source(DatasetConfig(source="digits"), tmp_path, Log())


def test_digits_are_the_scans_of_scikit_learn():
    from sklearn.datasets import load_digits

    index = open_source(DatasetConfig(source="digits"), None, Log())
    assert len(index.ids) == len(set(index.ids)) == 1797
    np.testing.assert_array_equal(index.labels, load_digits().target)
    expected = np.round(load_digits().images[17] * 255 / 16)
    np.testing.assert_array_equal(decode(index.read(17))[..., 0], expected)


def test_classes_can_be_chosen_and_keep_their_order_and_images():
    index = open_source(DatasetConfig(source="digits", classes=("9", "5")), None, Log())
    assert index.class_names == ("5", "9")
    everything = open_source(DatasetConfig(source="digits"), None, Log())
    position = everything.ids.index(index.ids[3])
    assert everything.class_names[everything.labels[position]] == index.class_names[index.labels[3]]
    assert index.read(3) == everything.read(position)
    with pytest.raises(UserError, match="unknown class 'seven'"):
        open_source(DatasetConfig(source="digits", classes=("1", "seven")), None, Log())
    with pytest.raises(UserError, match=r"expected at least two classes, found 1 \(1\)"):
        open_source(DatasetConfig(source="digits", classes=("1",)), None, Log())


def test_a_folder_of_classes_is_read_by_name(image_folder):
    index = open_folder(image_folder)
    assert index.class_names == ("class 0", "class 1", "class 2")
    assert np.bincount(index.labels).tolist() == [12, 20, 30]
    assert set(index.official) == {""}
    assert index.ids[0].startswith("class 0/scan")
    assert index.read(0) == (image_folder / index.ids[0]).read_bytes()


def test_a_folder_may_hold_official_splits_other_files_and_deeper_folders(image_folder, tmp_path):
    root = tmp_path / "split"
    shutil.copytree(image_folder, root / "train")
    shutil.copytree(image_folder, root / "validation")
    (root / "train" / "class 1" / "deeper").mkdir()
    Image.new("RGB", (4, 4)).save(root / "train" / "class 1" / "deeper" / "IMG.PNG")
    (root / "train" / "class 1" / "notes.txt").write_text("not an image")
    (root / "train" / "class 1" / ".hidden.jpg").write_text("ignored")
    (root / "train" / ".git").mkdir()
    index = open_folder(root)
    assert index.class_names == ("class 0", "class 1", "class 2")
    assert {split: index.official.count(split) for split in set(index.official)} == {"train": 63, "val": 62}
    assert "train/class 1/deeper/IMG.PNG" in index.ids


def test_a_zip_of_a_folder_works_like_the_folder(image_folder, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path, "photos")
    assert open_folder(Path(archive)).ids == open_folder(image_folder).ids


def test_errors_say_what_is_wrong_with_a_folder(image_folder, tmp_path):
    (image_folder / "class 9").mkdir()
    with pytest.raises(UserError, match="no images in class 'class 9'; add images, remove the class, or list"):
        open_folder(image_folder)
    shutil.rmtree(image_folder / "class 9")
    stray = image_folder / "stray.jpg"
    shutil.copy(next((image_folder / "class 0").iterdir()), stray)
    assert open_folder(image_folder).warnings == (
        f"{image_folder}: 1 image lies outside any class folder and is not used, e.g. 'stray.jpg'",
    )
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(stray, flat)
    with pytest.raises(UserError, match="1 images without a class, e.g. 'stray.jpg'; expected one folder per class"):
        open_folder(flat)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found no class folders; expected"):
        open_folder(tmp_path / "empty")
    with pytest.raises(UserError, match="no such file or folder"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="needs --data FOLDER"):
        open_folder(None)


def test_a_class_missing_from_a_split_is_named(image_folder, tmp_path):
    root = tmp_path / "split"
    shutil.copytree(image_folder, root / "train")
    shutil.copytree(image_folder, root / "test")
    shutil.rmtree(root / "test" / "class 1")
    with pytest.raises(UserError, match=r"test/ has no images of class 'class 1'"):
        open_folder(root)


def test_tiny_imagenet_is_read_in_sorted_order_with_words_and_labels(tiny_imagenet_folder, tiny_imagenet_zip):
    index = open_tiny(tiny_imagenet_folder)
    assert index.class_names == ("n01000000", "n02000000", "n03000000")
    assert index.class_titles == ("goldfish, Carassius auratus", "jackfruit", "n03000000")
    assert index.official.count("train") == 30
    assert index.official.count("val") == 12
    lines = (tiny_imagenet_folder / "val/val_annotations.txt").read_text().splitlines()
    labels = dict(line.split("\t")[:2] for line in lines)
    for image_id, label, split in zip(index.ids, index.labels, index.official, strict=True):
        wnid = labels[image_id.rsplit("/", 1)[1]] if split == "val" else image_id.split("/")[1]
        assert index.class_names[label] == wnid
    zipped = open_tiny(tiny_imagenet_zip)
    assert zipped.ids == index.ids
    assert [zipped.read(i) for i in range(42)] == [index.read(i) for i in range(42)]


def test_a_subset_of_tiny_imagenet_may_keep_the_complete_annotations(tiny_imagenet_folder):
    shutil.rmtree(tiny_imagenet_folder / "train" / "n03000000")
    (tiny_imagenet_folder / "wnids.txt").write_text("n01000000\nn02000000\n")
    index = open_tiny(tiny_imagenet_folder)
    assert len(index.class_names) == 2
    assert index.official.count("val") == 8


def test_errors_say_what_is_wrong_with_tiny_imagenet(tiny_imagenet_folder, image_folder):
    annotations = tiny_imagenet_folder / "val" / "val_annotations.txt"
    lines = annotations.read_text().splitlines(keepends=True)
    annotations.write_text("".join(lines[1:]))
    with pytest.raises(UserError, match=r"no label for 1 images, e.g. val_"):
        open_tiny(tiny_imagenet_folder)
    annotations.write_text("".join(lines) + "val_absent.JPEG\tn01000000\t0\t0\t1\t1\n")
    assert open_tiny(tiny_imagenet_folder).warnings == (
        "1 images of val_annotations.txt are missing, e.g. val_absent.JPEG",
    )
    (tiny_imagenet_folder / "wnids.txt").write_text("n01000000\nn04000000\n")
    with pytest.raises(UserError, match="wnids.txt lists n04000000 but train/ has no such folder"):
        open_tiny(tiny_imagenet_folder)
    with pytest.raises(UserError, match="not laid out as Tiny ImageNet.*--set dataset.source=folder"):
        open_tiny(image_folder)


def test_without_data_tiny_imagenet_is_downloaded_to_the_cache(tiny_imagenet_zip, monkeypatch):
    def fake_download(url, destination, checksum, log):
        assert url == "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_imagenet_zip, destination)
        return destination

    monkeypatch.setattr(tiny_imagenet, "download", fake_download)
    assert len(open_tiny(None).ids) == 42
    assert tiny_imagenet.archive_path().is_file()

    def no_network(*arguments):
        raise DownloadError("could not download it: no connection")

    monkeypatch.setattr(tiny_imagenet, "download", no_network)
    with pytest.raises(UserError, match=r"no connection. Download it on another machine and put it at .*--data"):
        open_tiny(None)


@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_a_name_that_no_table_can_hold_is_refused(image_folder, character):
    (image_folder / "Labels.json").write_text(json.dumps({"class 0": f"zero{character}"}))
    with pytest.raises(UserError) as refusal:
        open_source(DatasetConfig(source="folder"), image_folder, Log())
    assert f"{f'zero{character}'!r} holds {character!r}, which tables cannot hold; rename it" in str(refusal.value)
