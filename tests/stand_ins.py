"""Small data sets in the layouts of the studies' data, made from real scans of digits; each digit is a class."""

import json
from pathlib import Path

import numpy as np

from tests.conftest import digit_image, digits, encoded

INTEL_CLASSES = ("buildings", "forest", "glacier", "mountain", "sea", "street")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WORDNET_IDS = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475", "n01496331", "n01498041", "n01514668")


def scans(digit: int, start: int, count: int) -> list[int]:
    """Return the positions of `count` scans of a digit, from the `start`-th on."""
    return [int(i) for i in np.flatnonzero(digits().target == digit)[start : start + count]]


def write_scans(folder: Path, positions: list[int], side: int, name: str = "{}.jpg") -> None:
    """Write scans, `side` pixels square, to files named by position."""
    folder.mkdir(parents=True, exist_ok=True)
    for position in positions:
        (folder / name.format(position)).write_bytes(encoded(digit_image(position, side)))


def make_intel(root: Path, train: int = 4, test: int = 2) -> Path:
    """Write the Intel data set in Kaggle's layout, including seg_pred, which has no labels."""
    for digit, name in enumerate(INTEL_CLASSES):
        write_scans(root / "seg_train" / "seg_train" / name, scans(digit, 0, train), 30)
        write_scans(root / "seg_test" / "seg_test" / name, scans(digit, train, test), 30)
    write_scans(root / "seg_pred" / "seg_pred", scans(7, 0, 5), 30)
    return root


def make_imagenet100(root: Path, train: int = 4, val: int = 2) -> Path:
    """Write ImageNet-100 in Kaggle's layout: train is in four parts that have no class in common."""
    for digit, name in enumerate(WORDNET_IDS):
        part = root / f"train.X{1 + digit // 2}"
        write_scans(part / name, scans(digit, 0, train), 20 + 8 * (digit % 2), name + "_{}.JPEG")
        write_scans(root / "val.X" / name, scans(digit, train, val), 20, "ILSVRC2012_val_{:08d}.JPEG")
    titles = {name: f"title {digit}, synonym" for digit, name in enumerate(WORDNET_IDS)}
    (root / "Labels.json").write_text(json.dumps({**titles, "n09999999": "in no folder"}))
    return root


def make_messy(root: Path, counts: tuple[int, ...] = (12, 30, 20)) -> Path:
    """Write a messy folder: damaged and stray files, mixed sizes and modes, nesting, odd names, unbalanced classes."""
    names = ["Ünïcode & spaces", 'class, "b" <i>', "plain"]
    for digit, (name, count) in enumerate(zip(names, counts, strict=True)):
        for number, position in enumerate(scans(digit, 0, count)):
            folder = root / name / ("deeper/still" if number % 4 == 3 else "")
            folder.mkdir(parents=True, exist_ok=True)
            image = digit_image(position, 24 + 7 * (number % 3)).resize((24 + 7 * (number % 3), 30))
            mode, kind = (("RGB", "JPEG"), ("L", "PNG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "GIF"))[number % 5]
            (folder / f"Foto {number} ({digit}).{kind.lower()}").write_bytes(encoded(image.convert(mode), kind))
    first = root / names[0]
    (first / "half.jpg").write_bytes(encoded(digit_image(0, 64))[:200])
    (first / "empty.png").write_bytes(b"")
    (first / "page.jpg").write_text("<html>404</html>")
    (first / "notes.txt").write_text("not an image")
    (first / "raw.tiff").write_bytes(b"II*\0")
    (first / "Thumbs.db").write_bytes(b"\0")
    (first / ".hidden.jpg").write_bytes(b"\0")
    (first / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "README.md").write_text("my photographs")
    (root / "loose.jpg").write_bytes(encoded(digit_image(0)))
    return root


def make_cifar10(data_dir: Path, train: int = 4, test: int = 2) -> Path:
    """Write CIFAR-10 as tensorflow-datasets stores it once prepared."""
    import tensorflow_datasets as tfds

    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(names=list(CIFAR10_CLASSES)),
    }
    ranges = {"train": (0, train), "test": (train, test)}  # start and count of each digit's scans
    examples = {
        split: [
            {"id": f"{split}_{position:05d}", "image": np.asarray(digit_image(position, 32)), "label": digit}
            for digit in range(10)
            for position in scans(digit, start, count)
        ]
        for split, (start, count) in ranges.items()
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="cifar10",
        version=str(tfds.builder("cifar10", data_dir=data_dir).version),
        features=tfds.features.FeaturesDict(features),
        split_datasets={split: list(enumerate(split_examples)) for split, split_examples in examples.items()},
        data_dir=data_dir,
        disable_shuffling=True,
    )
    return data_dir
