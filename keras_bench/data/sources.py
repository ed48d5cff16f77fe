"""`SOURCES`: where images may come from, one entry each; the only place that knows which module reads which source."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data import csv_table, digits, folder, tfds, tiny_imagenet
from keras_bench.data.index import ImageIndex
from keras_bench.errors import UserError, unknown_name


@dataclass(frozen=True)
class Source:
    """What is known of one source before it is opened.

    Attributes:
        open: lists the images; is given the data settings, the user's path or None, and where progress is shown.
        layout: what the user's path should hold, for people.
        metavar: what stands for that path in messages.
        needs_path: whether only the user can provide the images; else they are bundled or downloaded.
        reads_environment: whether $KERAS_BENCH_DATA, which is meant for images, stands in for --data.
        bundled_with: the package that its images come with, so that it takes no path; None for other sources.
        recognises: whether the layout of an existing path is this source's and no other's. It may raise
            zipfile.BadZipFile. What nobody recognises is taken for a `folder`.
    """

    open: Callable[[DatasetConfig, Path | None, Log], ImageIndex]
    layout: str
    metavar: str = "FOLDER-OR-ZIP"
    needs_path: bool = False
    reads_environment: bool = True
    bundled_with: str | None = None
    recognises: Callable[[Path], bool] = lambda _: False


# Its names are the values of `dataset.source`; a test holds the two together.
SOURCES: Mapping[str, Source] = {
    "tiny-imagenet": Source(
        lambda _, path, log: tiny_imagenet.open_tiny_imagenet(path, log),
        "train/<wnid>/images/ and val/val_annotations.txt, as a folder or zip",
        recognises=tiny_imagenet.is_tiny_imagenet,
    ),
    "folder": Source(
        lambda _, path, log: folder.open_folder(path, log),
        "a folder or zip with one folder of images per class",
        needs_path=True,
    ),
    "csv": Source(
        lambda _, path, log: csv_table.open_csv(path, log),
        "a table path,label[,split][,group] beside the images, or a folder or zip with exactly one",
        metavar="TABLE.csv",
        needs_path=True,
        recognises=csv_table.is_csv_table,
    ),
    "tfds": Source(
        lambda config, path, log: tfds.open_tfds(config.tfds_name, path, log),
        "the data folder of tensorflow-datasets",
        metavar="FOLDER",
        reads_environment=False,
    ),
    "digits": Source(lambda *_: digits.open_digits(), "nothing", reads_environment=False, bundled_with="scikit-learn"),
}


def open_source(config: DatasetConfig, path: Path | None, log: Log) -> ImageIndex:
    """List the images of the configured source, downloading or extracting first where needed.

    Args:
        config: which source, and which of its classes.
        path: the user's data, a folder or an archive; None lets the source find or fetch its own.
        log: shows progress.

    Raises:
        UserError: the data is missing, is not laid out as the source expects, or has unusable classes.
    """
    source = SOURCES[config.source]
    if path is not None and source.bundled_with:
        raise UserError(
            f"--data {path}: the {config.source} source is bundled with {source.bundled_with} and takes no path"
        )
    if path is not None and not path.exists():
        raise UserError(f"--data {path}: no such file or folder")
    return _check_classes(_select_classes(source.open(config, path, log), config.classes))


def guess_source(path: Path) -> str:
    """Return the source that recognises the layout of a folder or file, else "folder".

    Raises:
        UserError: there is nothing at `path`, or it is a damaged archive.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    try:
        for name, source in SOURCES.items():
            if source.recognises(path):
                return name
        if path.is_file():
            zipfile.ZipFile(path).close()
    except zipfile.BadZipFile as error:
        expected = "a folder or a zip of images, or a .csv table of them"
        raise UserError(f"{path}: expected {expected}, received none of these ({error})") from error
    return "folder"


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
