"""Tiny ImageNet (Stanford CS231n): 200 classes of 64×64 JPEG images, or a subset of the classes in the same layout.

Layout: `train/<wnid>/images/*.JPEG`, a flat `val/images` labelled by `val/val_annotations.txt`, `words.txt`, and
`test/`, which has no labels and is not used.
"""

import os
from pathlib import Path

import numpy as np

from keras_bench.console import Log
from keras_bench.data.archive import entry_names, extracted, is_zip
from keras_bench.data.index import ImageIndex
from keras_bench.download import DownloadError, cache_folder, download
from keras_bench.errors import UserError
from keras_bench.images import is_image_name

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"  # of the 248,100,043 bytes published


def open_tiny_imagenet(path: Path | None, log: Log) -> ImageIndex:
    """List the images of Tiny ImageNet; the labelled val images are the official val.

    Class names are WordNet ids, sorted because several other orders circulate; titles come from words.txt.

    Args:
        path: the extracted folder or the zip archive; None downloads the archive to the cache (248 MB).
        log: shows progress.

    Raises:
        UserError: the layout is not Tiny ImageNet's, or the download failed.
    """
    location = path or _downloaded_archive(log)
    root = _find_root(extracted(location, log) if location.is_file() else location, location)
    class_names = _class_names(root, location)
    label_index = {name: k for k, name in enumerate(class_names)}
    train = [
        (f"train/{name}/images/{file}", k, "train")
        for name, k in label_index.items()
        for file in _training_files(root, name)
    ]
    val, boxes, warnings = _read_validation(root, label_index)
    entries = sorted(train + val)
    unknown_box = (np.nan,) * 4
    files = [root / entry[0] for entry in entries]
    return ImageIndex(
        source="tiny-imagenet",
        location=str(location),
        class_names=tuple(class_names),
        class_titles=tuple(_read_words(root, class_names)),
        ids=tuple(entry[0] for entry in entries),
        labels=np.array([entry[1] for entry in entries], dtype=np.int64),
        official=tuple(entry[2] for entry in entries),
        read=lambda i: files[i].read_bytes(),
        warnings=tuple(warnings),
        boxes=np.array([boxes.get(entry[0], unknown_box) for entry in entries], dtype=np.float32),
    )


def is_tiny_imagenet(path: Path) -> bool:
    """Return whether a folder or zip, or a folder in it, has val/val_annotations.txt, which only this layout has.

    Raises:
        UserError: the file is a damaged zip.
    """
    annotations = "val/val_annotations.txt"
    if path.is_dir():
        return any(path.glob(annotations)) or any(path.glob(f"*/{annotations}"))
    return is_zip(path) and any(name.endswith(annotations) for name in entry_names(path))


def archive_path() -> Path:
    """Return the path of the downloaded archive."""
    return cache_folder() / "downloads" / URL.rsplit("/", 1)[-1]


def _downloaded_archive(log: Log) -> Path:
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


def _training_files(root: Path, name: str) -> list[str]:
    folder = root / "train" / name / "images"
    return sorted(file for file in os.listdir(folder) if is_image_name(file)) if folder.is_dir() else []


def _read_validation(
    root: Path, label_index: dict[str, int]
) -> tuple[list[tuple[str, int, str]], dict[str, tuple[float, ...]], list[str]]:
    """Return the entries, boxes and warnings of val/, without the classes that train/ lacks, as in a subset."""
    lines = (root / "val" / "val_annotations.txt").read_text().splitlines()
    annotations = {file: fields for file, *fields in (line.split("\t") for line in lines)}
    present = {file for file in os.listdir(root / "val" / "images") if is_image_name(file)}
    unlabelled = sorted(present - set(annotations))
    if unlabelled:
        raise UserError(
            f"{root}: val/val_annotations.txt has no label for {len(unlabelled)} images, e.g. {unlabelled[0]}"
        )
    selected = {file: fields for file, fields in annotations.items() if fields and fields[0] in label_index}
    missing = sorted(set(selected) - present)
    warnings = [f"{len(missing)} images of val_annotations.txt are missing, e.g. {missing[0]}"] if missing else []
    files = sorted(set(selected) & present)
    entries = [(f"val/images/{file}", label_index[selected[file][0]], "val") for file in files]
    boxes = {f"val/images/{file}": _parse_box(selected[file][1:]) for file in files}
    return entries, {name: box for name, box in boxes.items() if box}, warnings


def _parse_box(fields: list[str]) -> tuple[float, ...]:
    """Return left, top, right and bottom, the last two exclusive, whereas the file's are inclusive; () if invalid."""
    if len(fields) != 4 or not all(field.strip().isdigit() for field in fields):
        return ()
    left, top, right, bottom = map(float, fields)
    return left, top, right + 1, bottom + 1


def _read_words(root: Path, class_names: list[str]) -> list[str]:
    words = root / "words.txt"
    if not words.is_file():
        return class_names
    titles = dict(line.split("\t", 1) for line in words.read_text(encoding="utf-8").splitlines() if "\t" in line)
    return [titles.get(name, name) for name in class_names]
