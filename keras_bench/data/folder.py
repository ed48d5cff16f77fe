"""A user's folder of images: one folder a class, with or without train/val/test above them."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_bench.console import Log
from keras_bench.data.archive import extracted
from keras_bench.errors import UserError
from keras_bench.images import is_image_name
from keras_bench.records.dataset import ImageIndex

# Folder names that mean a split; `seg_` is how the Intel set writes them.
SPLIT_FOLDERS = {
    "train": ("train", "training", "seg_train"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "seg_test"),
}
_IGNORED_FOLDERS = ("__MACOSX",)


def open_folder(path: Path | None, log: Log) -> ImageIndex:
    """List the images of a folder (or zip archive) with one folder a class.

    Images may lie deeper inside their class folder. Hidden files, and files that are not named like images, are
    passed over. Where the folder holds train/ and val/ or test/, those are its official splits.

    Raises:
        UserError: no path, no class folders, images outside any class, or a class that one split lacks.
    """
    if path is None:
        raise UserError("the folder source needs --data FOLDER (or $KERAS_BENCH_DATA), with one folder a class")
    root = _unwrap(extracted(path, log) if path.is_file() else path)
    split_roots = find_split_folders(root)
    warnings: list[str] = []
    entries: list[tuple[str, str, str]] = []  # split, class, path below root
    for split, split_root in split_roots or [("", root)]:
        entries += [(split, name, file) for name, file in _labelled_images(root, split_root, warnings)]
    class_names = _class_folders([split_root for _, split_root in split_roots] or [root])
    if not class_names:
        raise UserError(
            f"{path}: found no class folders; expected {path}/<class>/<image> or {path}/train/<class>/<image>"
        )
    _check_split_classes(path, entries, class_names, [split for split, _ in split_roots])
    entries.sort(key=lambda entry: entry[2])
    number = {name: k for k, name in enumerate(class_names)}
    files = [root / file for _, _, file in entries]
    return ImageIndex(
        source="folder",
        location=str(path),
        class_names=tuple(class_names),
        class_titles=tuple(class_names),
        ids=tuple(file for _, _, file in entries),
        labels=np.array([number[name] for _, name, _ in entries], dtype=np.int64),
        official=tuple(split for split, _, _ in entries),
        read=lambda i: files[i].read_bytes(),
        warnings=tuple(warnings),
    )


def find_split_folders(root: Path) -> list[tuple[str, Path]]:
    """Return the official splits below `root` as (split, folder); empty unless there is a train folder."""
    found = []
    present = {child.name.lower(): child for child in _folders(root)}
    for split, names in SPLIT_FOLDERS.items():
        found += [(split, _unwrap(present[name])) for name in names if name in present]
    return found if any(split == "train" for split, _ in found) and len(found) > 1 else []


def _unwrap(folder: Path) -> Path:
    """Step into a single child folder of the same or an enclosing name, as archives often nest one."""
    children = _folders(folder)
    if len(children) == 1 and not any(_is_image(entry) for entry in folder.iterdir()):
        child = children[0]
        if child.name.lower() == folder.name.lower() or len(_folders(child)) > 1:
            return _unwrap(child)
    return folder


def _labelled_images(root: Path, split_root: Path, warnings: list[str]) -> Iterator[tuple[str, str]]:
    stray = [entry.name for entry in sorted(split_root.iterdir()) if _is_image(entry)]
    if stray and not _folders(split_root):
        raise UserError(
            f"{split_root}: {len(stray)} images without a class, e.g. {stray[0]!r}; expected one folder a class"
        )
    if stray:
        warnings.append(
            f"{split_root}: {len(stray)} images lie outside any class folder and are not used, e.g. {stray[0]!r}"
        )
    for folder in _folders(split_root):
        for where, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                if is_image_name(name):
                    yield folder.name, (Path(where) / name).relative_to(root).as_posix()


def _check_split_classes(
    path: Path, entries: list[tuple[str, str, str]], class_names: list[str], splits: list[str]
) -> None:
    for split in splits:
        present = {name for place, name, _ in entries if place == split}
        missing = [name for name in class_names if name not in present]
        if missing:
            raise UserError(f"{path}: {split}/ has no images of class {', '.join(map(repr, missing))}")


def _class_folders(roots: list[Path]) -> list[str]:
    return sorted({child.name for root in roots for child in _folders(root)})


def _folders(folder: Path) -> list[Path]:
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith(".") and child.name not in _IGNORED_FOLDERS
    )


def _is_image(path: Path) -> bool:
    return is_image_name(path.name) and path.is_file()
