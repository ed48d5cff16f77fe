"""Opens the source an experiment names; the only place that knows which module reads which source."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data import digits, folder, tfds, tiny_imagenet
from keras_bench.data.index import ImageIndex
from keras_bench.errors import UserError, unknown_name


def open_source(config: DatasetConfig, path: Path | None, log: Log) -> ImageIndex:
    """List the images of the configured source, downloading or extracting first where needed.

    Args:
        config: which source, and which of its classes.
        path: the user's data, a folder or an archive; None lets the source find or fetch its own.
        log: shows progress.

    Raises:
        UserError: the data is missing, is not laid out as the source expects, or has unusable classes.
    """
    if path is not None and config.source == "digits":
        raise UserError(f"--data {path}: the digits source is bundled with scikit-learn and takes no path")
    if path is not None and not path.exists():
        raise UserError(f"--data {path}: no such file or folder")
    if config.source == "tiny-imagenet":
        index = tiny_imagenet.open_tiny_imagenet(path, log)
    elif config.source == "folder":
        index = folder.open_folder(path, log)
    elif config.source == "tfds":
        index = tfds.open_tfds(config.tfds_name, path, log)
    else:
        index = digits.open_digits()
    return _check_classes(_select_classes(index, config.classes))


def guess_source(path: Path) -> str:
    """Return "tiny-imagenet" for a folder or zip of its layout, else "folder".

    Raises:
        UserError: there is nothing at `path`, or it is a damaged archive.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        found = any(path.glob("val/val_annotations.txt")) or any(path.glob("*/val/val_annotations.txt"))
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                found = any(name.endswith("val/val_annotations.txt") for name in archive.namelist())
        except zipfile.BadZipFile as error:
            raise UserError(f"{path}: expected a folder or a zip of images, received neither ({error})") from error
    return "tiny-imagenet" if found else "folder"


def _select_classes(index: ImageIndex, wanted: tuple[str, ...] | None) -> ImageIndex:
    if wanted is None:
        return index
    for name in wanted:
        if name not in index.class_names:
            raise UserError(f"dataset.classes: {unknown_name('class', name, index.class_names)}")
    old = [index.class_names.index(name) for name in index.class_names if name in set(wanted)]
    keep = np.flatnonzero(np.isin(index.labels, old))
    read = index.read
    return replace(
        index,
        class_names=tuple(index.class_names[k] for k in old),
        class_titles=tuple(index.class_titles[k] for k in old),
        ids=tuple(index.ids[i] for i in keep),
        labels=np.searchsorted(old, index.labels[keep]),
        official=tuple(index.official[i] for i in keep),
        read=lambda i: read(int(keep[i])),
        boxes=None if index.boxes is None else index.boxes[keep],
    )


def _check_classes(index: ImageIndex) -> ImageIndex:
    if len(index.class_names) < 2:
        names = ", ".join(index.class_names) or "none"
        raise UserError(f"{index.location}: expected at least two classes, found {len(index.class_names)} ({names})")
    counts = np.bincount(index.labels, minlength=len(index.class_names))
    empty = [name for name, count in zip(index.class_names, counts, strict=True) if count == 0]
    if empty:
        raise UserError(
            f"{index.location}: no images in class {', '.join(map(repr, empty))}; "
            "add images, remove the class, or list the classes to use under dataset.classes"
        )
    return index
