"""`SOURCES`: one entry per source of images; only this module knows which module reads which source."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data import csv_table, digit_scenes, digits, folder, tfds, tiny_imagenet
from keras_bench.data.archive import entry_names
from keras_bench.data.index import ImageIndex
from keras_bench.errors import UserError, unknown_name

# NumPy and pandas end a name at NUL, and UTF-8 has no half of a surrogate pair, as Labels.json may contain one.
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Source:
    """How one source is opened, recognised and described.

    Attributes:
        open: lists the images, from the data settings, the user's path or None, and the log that shows progress.
        layout: what the user's path should hold, for messages.
        metavar: placeholder for that path in messages.
        needs_path: whether the user must provide the images; else they are bundled or downloaded.
        reads_environment: whether $KERAS_BENCH_DATA is used if --data is absent.
        bundled_with: the package that includes the images, so that the source takes no path; None for other sources.
        recognises: whether an existing path has the layout of this source alone. Raises UserError for a damaged zip. An
            unrecognised layout counts as `folder`.
    """

    open: Callable[[DatasetConfig, Path | None, Log], ImageIndex]
    layout: str
    metavar: str = "FOLDER-OR-ZIP"
    needs_path: bool = False
    reads_environment: bool = True
    bundled_with: str | None = None
    recognises: Callable[[Path], bool] = lambda _: False


# The keys are the values of `dataset.source`; a test compares the two.
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
    "digit-scenes": Source(
        lambda *_: digit_scenes.open_digit_scenes(), "nothing", reads_environment=False, bundled_with="scikit-learn"
    ),
}


def open_source(config: DatasetConfig, path: Path | None, log: Log) -> ImageIndex:
    """List the images of the configured source, downloading or extracting them first if necessary.

    Args:
        config: the source, and which of its classes to use.
        path: the user's folder or file; None lets the source find or download its images.
        log: shows progress.

    Raises:
        UserError: the data is missing, has not the layout that the source expects, or has unusable classes.
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
            entry_names(path)
    except UserError as error:
        expected = "a folder or a zip of images, or a .csv table of them"
        raise UserError(f"expected {expected}, received none of these: {error}") from error
    return "folder"


def _select_classes(index: ImageIndex, selected: tuple[str, ...] | None) -> ImageIndex:
    if selected is None:
        return index
    labels = {name: label for label, name in enumerate(index.class_names)}
    for name in selected:
        if name not in labels:
            raise UserError(f"dataset.classes: {unknown_name('class', name, index.class_names)}")
    old_labels = sorted({labels[name] for name in selected})
    keep = np.flatnonzero(np.isin(index.labels, old_labels))
    read = index.read
    return replace(
        index,
        class_names=tuple(index.class_names[k] for k in old_labels),
        class_titles=tuple(index.class_titles[k] for k in old_labels),
        ids=tuple(index.ids[i] for i in keep),
        labels=np.searchsorted(old_labels, index.labels[keep]),
        official=tuple(index.official[i] for i in keep),
        read=lambda i: read(int(keep[i])),
        boxes=None if index.boxes is None else index.boxes[keep],
    )


def _check_classes(index: ImageIndex) -> ImageIndex:
    for name in (*index.class_names, *index.class_titles, *index.ids):
        if bad := _NOT_STORABLE.search(name):
            raise UserError(f"{index.location}: {name!r} holds {bad[0]!r}, which tables cannot hold; rename it")
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
