"""A folder of images with one folder per class, optionally inside folders for train, val and test.

Layouts are read as published: plain train/ val/ test/ folders, the Intel set (seg_train/seg_train/<class>, and
seg_pred without labels), ImageNet-100 (train.X1 to train.X4 and val.X, titles in Labels.json), and personal folders.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_bench.console import Log
from keras_bench.data.archive import extracted
from keras_bench.data.index import SPLITS, ImageIndex
from keras_bench.errors import UserError
from keras_bench.images import is_image_name

# Folder names that denote a split; the Intel set prefixes them with `seg_`.
SPLIT_FOLDERS = {
    "train": ("train", "training", "seg_train"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "seg_test"),
}
_PART_SUFFIX = re.compile(r"\.x\d*$")  # ImageNet-100 on Kaggle: train.X1 holds 25 classes, val.X all of them
_IGNORED_FOLDERS = ("__MACOSX",)
_IGNORED_FILES = ("thumbs.db", "desktop.ini")  # created by Windows
TITLES_FILE = "Labels.json"  # {"n01440764": "tench, Tinca tinca"}, as in ImageNet-100
_MOST_CLASSES = 5  # named in a message


@dataclass
class _Listing:
    """The images and classes listed so far.

    Attributes:
        entries: class name, id, split and file of each image.
        class_names: names of all class folders, including empty ones.
        splits: splits that have class folders; "" stands for a layout without split folders.
        skipped: ids of files in class folders without an image's extension, and of broken links.
        warnings: one line each.
    """

    entries: list[tuple[str, str, str, Path]] = field(default_factory=list)
    class_names: set[str] = field(default_factory=set)
    splits: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def open_folder(path: Path | None, log: Log) -> ImageIndex:
    """List the images of a folder (or zip archive) with one folder per class.

    Class folders are searched recursively. Hidden files are ignored. Files without an image's extension, and images
    without a label, are skipped with a warning that counts them. If the folder holds train/ and val/ or test/, those
    are its official splits.

    Raises:
        UserError: no path, no class folders, only images outside class folders, or a class missing from a split.
    """
    if path is None:
        raise UserError("the folder source needs --data FOLDER (or $KERAS_BENCH_DATA), with one folder per class")
    root = _unwrap(extracted(path, log) if path.is_file() else path)
    listing = _Listing()
    split_folders = find_split_folders(root)
    if split_folders:
        _warn_of_unlabelled(root, [folder for _, folder in split_folders], listing)
    labelled = [(split, _unwrap(folder)) for split, folder in split_folders] or [("", root)]
    for split, folder in labelled:
        _list_classes(root, split, folder, listing)
    class_names = sorted(listing.class_names)
    if not class_names:
        raise UserError(
            f"{path}: found no class folders; expected {path}/<class>/<image> or {path}/train/<class>/<image>"
        )
    _check_split_classes(path, listing, class_names)
    if listing.skipped:
        listing.warnings.append(
            f"{path}: {len(listing.skipped):,} files in class folders have no image extension or are broken links, "
            f"and are not used, e.g. {listing.skipped[0]!r}"
        )
    titles = _read_labels_json(root, class_names, listing)
    return _build_index(str(path), class_names, titles, listing)


def _build_index(location: str, class_names: list[str], titles: list[str], listing: _Listing) -> ImageIndex:
    entries = sorted(listing.entries, key=lambda entry: entry[1])
    label_index = {name: k for k, name in enumerate(class_names)}
    files = [file for *_, file in entries]
    return ImageIndex(
        source="folder",
        location=location,
        class_names=tuple(class_names),
        class_titles=tuple(titles),
        ids=tuple(image_id for _, image_id, _, _ in entries),
        labels=np.array([label_index[name] for name, _, _, _ in entries], dtype=np.int64),
        official=tuple(split for _, _, split, _ in entries),
        read=lambda i: files[i].read_bytes(),
        warnings=tuple(listing.warnings),
    )


def find_split_folders(root: Path) -> list[tuple[str, Path]]:
    """Return the official splits below `root` as (split, folder) pairs; a split may have several folders.

    Empty if there is no train folder, or no other split beside it: a lone `train` may be a class of vehicles.
    """
    split_of = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}
    folders = []
    for child in _subfolders(root):
        split = split_of.get(_PART_SUFFIX.sub("", child.name.lower()))
        if split is not None:
            folders.append((split, child))
    folders.sort(key=lambda split_folder: SPLITS.index(split_folder[0]))
    if not any(split == "train" for split, _ in folders):
        return []
    return folders if len(folders) > 1 or folders[0][1].name.lower() not in ("train", "training") else []


def _unwrap(folder: Path) -> Path:
    """Descend into an only subfolder that has the same name or several subfolders: archives often nest a folder."""
    children = _subfolders(folder)
    if len(children) == 1 and not any(_is_image(entry) for entry in folder.iterdir()):
        child = children[0]
        if child.name.lower() == folder.name.lower() or len(_subfolders(child)) > 1:
            return _unwrap(child)
    return folder


def _warn_of_unlabelled(root: Path, split_folders: list[Path], listing: _Listing) -> None:
    """Warn about images beside the split folders, which are not used, e.g. the Intel set's unlabelled seg_pred."""
    for folder in _subfolders(root):
        if folder not in split_folders and (count := _count_images(folder)):
            listing.warnings.append(
                f"{_valid_text(folder)}: neither train, val nor test: its {count:,} images are taken as unlabelled and "
                "are not used"
            )
    stray = [entry for entry in sorted(root.iterdir()) if _is_image(entry)]
    if stray:
        listing.warnings.append(_stray_warning(root, stray))


def _list_classes(root: Path, split: str, split_root: Path, listing: _Listing) -> None:
    """Add the classes and images of one split; warn about images outside class folders."""
    folders = _subfolders(split_root)
    stray = [entry for entry in sorted(split_root.iterdir()) if _is_image(entry)]
    if stray and not folders and split not in ("val", "test"):
        raise UserError(
            f"{_valid_text(split_root)}: {len(stray):,} images without a class, e.g. {_valid_text(stray[0].name)!r}; "
            "expected one folder per class"
        )
    if stray:
        listing.warnings.append(_stray_warning(split_root, stray))
    if folders:
        listing.splits.add(split)
    for folder in folders:
        name = _valid_text(folder.name)
        listing.class_names.add(name)
        for file in _files_below(folder):
            image_id = _valid_text(file.relative_to(root).as_posix())
            if is_image_name(file.name) and file.is_file():
                listing.entries.append((name, image_id, split, file))
            elif file.name.lower() not in _IGNORED_FILES:
                listing.skipped.append(image_id)


def _stray_warning(folder: Path, stray: list[Path]) -> str:
    lie = (
        "image lies outside any class folder and is"
        if len(stray) == 1
        else "images lie outside any class folder and are"
    )
    return f"{_valid_text(folder)}: {len(stray):,} {lie} not used, e.g. {_valid_text(stray[0].name)!r}"


def _check_split_classes(path: Path, listing: _Listing, class_names: list[str]) -> None:
    """Refuse data in which a split lacks a class: more often than not that is a mistake."""
    classes_by_split: dict[str, set[str]] = {}
    for name, _, split, _ in listing.entries:
        classes_by_split.setdefault(split, set()).add(name)
    for split in sorted(listing.splits - {""}):
        missing = [name for name in class_names if name not in classes_by_split.get(split, ())]
        if missing:
            names = ", ".join(map(repr, missing[:_MOST_CLASSES]))
            more = f" and {len(missing) - _MOST_CLASSES} more" if len(missing) > _MOST_CLASSES else ""
            raise UserError(f"{path}: {split}/ has no images of class {names}{more}; add them, or remove the class")


def _read_labels_json(root: Path, class_names: list[str], listing: _Listing) -> list[str]:
    """Return display names from Labels.json if the folder has one, else the class names."""
    file = root / TITLES_FILE
    if not file.is_file():
        return class_names
    try:
        titles = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        listing.warnings.append(f"{_valid_text(file)}: not JSON, so classes keep their folder names ({error})")
        return class_names
    title_by_name = titles if isinstance(titles, dict) else {}
    return [str(title_by_name.get(name) or name) for name in class_names]


def _files_below(folder: Path) -> list[Path]:
    """Return every file below a folder that is not hidden, sorted."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_ignored_folder(name))
        files += [Path(parent) / name for name in sorted(names) if not name.startswith(".")]
    return files


def _count_images(folder: Path) -> int:
    return sum(is_image_name(file.name) for file in _files_below(folder))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not _is_ignored_folder(child.name))


def _is_ignored_folder(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED_FOLDERS


def _is_image(path: Path) -> bool:
    return is_image_name(path.name) and path.is_file()


def _valid_text(name: str | Path) -> str:
    """Return a file name as valid text: bytes that are not UTF-8 become e.g. \\xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
