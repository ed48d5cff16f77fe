"""Tiny ImageNet (Stanford CS231n): 200 classes of 64×64 JPEG, or a subset of them in the same layout.

Layout: `train/<wnid>/images/*.JPEG`, a flat `val/images` labelled by `val/val_annotations.txt`, `words.txt`, and a
`test/` without labels that is not used.
"""

import os
import zipfile
from pathlib import Path

import numpy as np

from keras_bench.console import Log
from keras_bench.data.archive import extracted
from keras_bench.data.index import ImageIndex
from keras_bench.download import DownloadError, cache_folder, download
from keras_bench.errors import UserError
from keras_bench.images import is_image_name

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"  # of the 248,100,043 bytes published


def open_tiny_imagenet(path: Path | None, log: Log) -> ImageIndex:
    """List the images of Tiny ImageNet; the labelled val images are marked as official val.

    Class names are WordNet ids in sorted order, because several other orders circulate; titles come from
    words.txt.

    Args:
        path: the extracted folder or the zip archive; None downloads the archive to the cache (248 MB).
        log: shows progress.

    Raises:
        UserError: the layout is not Tiny ImageNet's, or the download failed.
    """
    location = path or _fetch(log)
    root = _find_root(extracted(location, log) if location.is_file() else location, location)
    class_names = _class_names(root, location)
    number = {name: k for k, name in enumerate(class_names)}
    train = [(f"train/{name}/images/{file}", k, "train") for name, k in number.items() for file in _images(root, name)]
    val, boxes, warnings = _validation(root, number)
    entries = sorted(train + val)
    unknown = (np.nan,) * 4
    files = [root / entry[0] for entry in entries]
    return ImageIndex(
        source="tiny-imagenet",
        location=str(location),
        class_names=tuple(class_names),
        class_titles=tuple(_titles(root, class_names)),
        ids=tuple(entry[0] for entry in entries),
        labels=np.array([entry[1] for entry in entries], dtype=np.int64),
        official=tuple(entry[2] for entry in entries),
        read=lambda i: files[i].read_bytes(),
        warnings=tuple(warnings),
        boxes=np.array([boxes.get(entry[0], unknown) for entry in entries], dtype=np.float32),
    )


def is_tiny_imagenet(path: Path) -> bool:
    """Return whether a folder or zip, or the one folder in it, has the annotations that only this layout has.

    Raises:
        zipfile.BadZipFile: it is a damaged zip.
    """
    annotations = "val/val_annotations.txt"
    if path.is_dir():
        return any(path.glob(annotations)) or any(path.glob(f"*/{annotations}"))
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(annotations) for name in archive.namelist())


def archive_path() -> Path:
    """Return where the downloaded archive is kept."""
    return cache_folder() / "downloads" / URL.rsplit("/", 1)[-1]


def _fetch(log: Log) -> Path:
    target = archive_path()
    if not target.is_file():
        log.line(f"Tiny ImageNet is not in {target.parent}: downloading 248 MB from {URL}")
    try:
        return download(URL, target, MD5, log)
    except DownloadError as error:
        raise UserError(
            f"{error}. Download it on another machine and put it at {target}, or pass --data with the zip or folder"
        ) from error


def _find_root(folder: Path, location: Path) -> Path:
    for candidate in [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]:
        if (candidate / "train").is_dir() and (candidate / "val" / "val_annotations.txt").is_file():
            return candidate
    raise UserError(
        f"{location}: not laid out as Tiny ImageNet; expected train/<wnid>/images/ and val/val_annotations.txt. "
        "For one folder per class use --set dataset.source=folder"
    )


def _class_names(root: Path, location: Path) -> list[str]:
    folders = {child.name for child in (root / "train").iterdir() if child.is_dir() and child.name.startswith("n")}
    listing = root / "wnids.txt"
    if listing.is_file():
        listed = set(listing.read_text().split())
        missing = sorted(listed - folders)
        if missing:
            raise UserError(f"{location}: wnids.txt lists {', '.join(missing[:5])} but train/ has no such folder")
    return sorted(folders)


def _images(root: Path, name: str) -> list[str]:
    folder = root / "train" / name / "images"
    return sorted(file for file in os.listdir(folder) if is_image_name(file)) if folder.is_dir() else []


def _validation(
    root: Path, number: dict[str, int]
) -> tuple[list[tuple[str, int, str]], dict[str, tuple[float, ...]], list[str]]:
    """Read labels and boxes of val/; lines of classes that train/ lacks are passed over, as a subset may keep them."""
    lines = (root / "val" / "val_annotations.txt").read_text().splitlines()
    labels = {file: rest for file, *rest in (line.split("\t") for line in lines)}
    present = {file for file in os.listdir(root / "val" / "images") if is_image_name(file)}
    unlabelled = sorted(present - set(labels))
    if unlabelled:
        raise UserError(
            f"{root}: val/val_annotations.txt has no label for {len(unlabelled)} images, e.g. {unlabelled[0]}"
        )
    wanted = {file: rest for file, rest in labels.items() if rest and rest[0] in number}
    absent = sorted(set(wanted) - present)
    warnings = [f"{len(absent)} images of val_annotations.txt are absent, e.g. {absent[0]}"] if absent else []
    found = sorted(set(wanted) & present)
    entries = [(f"val/images/{file}", number[wanted[file][0]], "val") for file in found]
    boxes = {f"val/images/{file}": _box(wanted[file][1:]) for file in found}
    return entries, {name: box for name, box in boxes.items() if box}, warnings


def _box(fields: list[str]) -> tuple[float, ...]:
    """Return left, top, right, bottom with the last two exclusive; the files count the last pixel in."""
    if len(fields) != 4 or not all(field.strip().isdigit() for field in fields):
        return ()
    left, top, right, bottom = map(float, fields)
    return left, top, right + 1, bottom + 1


def _titles(root: Path, class_names: list[str]) -> list[str]:
    words = root / "words.txt"
    if not words.is_file():
        return class_names
    titles = dict(line.split("\t", 1) for line in words.read_text(encoding="utf-8").splitlines() if "\t" in line)
    return [titles.get(name, name) for name in class_names]
