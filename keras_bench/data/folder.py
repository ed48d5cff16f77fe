"""A user's folder of images: one folder per class, with or without folders for train, val and test above them.

Read as they are shipped: plain train/ val/ test/ folders, the Intel set (seg_train/seg_train/<class>, and seg_pred
without labels), ImageNet-100 (train.X1 to train.X4 and val.X, titles in Labels.json), and whatever a person has.
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

# Folder names that mean a split; `seg_` is how the Intel set writes them.
SPLIT_FOLDERS = {
    "train": ("train", "training", "seg_train"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "seg_test"),
}
_PART = re.compile(r"\.x\d*$")  # ImageNet-100 on Kaggle: train.X1 holds 25 classes, val.X all of them
_IGNORED_FOLDERS = ("__MACOSX",)
_IGNORED_FILES = ("thumbs.db", "desktop.ini")  # which Windows leaves everywhere
TITLES_FILE = "Labels.json"  # {"n01440764": "tench, Tinca tinca"}, as ImageNet-100 has it
NAMED = 5  # classes that a message names at most


@dataclass
class _Listing:
    """What was found so far.

    Attributes:
        entries: class name, id and split of each image, and its file.
        class_names: of every class folder, with images or not.
        splits: those with class folders; "" where there are no split folders.
        skipped: files in class folders that are not named like images, or links to nothing.
        warnings: a line each.
    """

    entries: list[tuple[str, str, str, Path]] = field(default_factory=list)
    class_names: set[str] = field(default_factory=set)
    splits: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def open_folder(path: Path | None, log: Log) -> ImageIndex:
    """List the images of a folder (or zip archive) with one folder per class.

    Images may lie deeper inside their class folder. Hidden files are passed over. Files that are not named like
    images, and images without a label, are passed over too, and a warning counts them. Where the folder holds train/
    and val/ or test/, those are its official splits.

    Raises:
        UserError: no path, no class folders, images outside any class, or a class that one split lacks.
    """
    if path is None:
        raise UserError("the folder source needs --data FOLDER (or $KERAS_BENCH_DATA), with one folder per class")
    root = _unwrap(extracted(path, log) if path.is_file() else path)
    found = _Listing()
    split_folders = find_split_folders(root)
    if split_folders:
        _warn_of_others(root, [folder for _, folder in split_folders], found)
    labelled = [(split, _unwrap(folder)) for split, folder in split_folders] or [("", root)]
    for split, folder in labelled:
        _list_classes(root, split, folder, found)
    class_names = sorted(found.class_names)
    if not class_names:
        raise UserError(
            f"{path}: found no class folders; expected {path}/<class>/<image> or {path}/train/<class>/<image>"
        )
    _check_split_classes(path, found, class_names)
    if found.skipped:
        found.warnings.append(
            f"{path}: {len(found.skipped):,} files in class folders are not named like images or link to nothing, "
            f"and are not used, e.g. {found.skipped[0]!r}"
        )
    titles = _titles(root, class_names, found)
    return _index(str(path), class_names, titles, found)


def _index(location: str, class_names: list[str], titles: list[str], found: _Listing) -> ImageIndex:
    entries = sorted(found.entries, key=lambda entry: entry[1])
    number = {name: k for k, name in enumerate(class_names)}
    files = [file for *_, file in entries]
    return ImageIndex(
        source="folder",
        location=location,
        class_names=tuple(class_names),
        class_titles=tuple(titles),
        ids=tuple(image_id for _, image_id, _, _ in entries),
        labels=np.array([number[name] for name, _, _, _ in entries], dtype=np.int64),
        official=tuple(split for _, _, split, _ in entries),
        read=lambda i: files[i].read_bytes(),
        warnings=tuple(found.warnings),
    )


def find_split_folders(root: Path) -> list[tuple[str, Path]]:
    """Return the official splits below `root` as (split, folder), a split perhaps in several folders.

    Empty where there is no train folder, or nothing beside it: a lone `train` may be a class of vehicles.
    """
    split_of = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}
    found = []
    for child in _folders(root):
        split = split_of.get(_PART.sub("", child.name.lower()))
        if split is not None:
            found.append((split, child))
    found.sort(key=lambda one: SPLITS.index(one[0]))
    if not any(split == "train" for split, _ in found):
        return []
    return found if len(found) > 1 or found[0][1].name.lower() not in ("train", "training") else []


def _unwrap(folder: Path) -> Path:
    """Step into a single child folder of the same or an enclosing name, as archives often nest one."""
    children = _folders(folder)
    if len(children) == 1 and not any(_is_image(entry) for entry in folder.iterdir()):
        child = children[0]
        if child.name.lower() == folder.name.lower() or len(_folders(child)) > 1:
            return _unwrap(child)
    return folder


def _warn_of_others(root: Path, split_folders: list[Path], found: _Listing) -> None:
    """Say which images lie beside the split folders and are not used, e.g. the Intel set's unlabelled seg_pred."""
    for folder in _folders(root):
        if folder not in split_folders and (count := _count_images(folder)):
            found.warnings.append(
                f"{_written(folder)}: neither train, val nor test: its {count:,} images are taken as unlabelled and "
                "are not used"
            )
    stray = [entry for entry in sorted(root.iterdir()) if _is_image(entry)]
    if stray:
        found.warnings.append(_stray_words(root, stray))


def _list_classes(root: Path, split: str, split_root: Path, found: _Listing) -> None:
    """Add the classes and images of one split; images outside any class are named and not used."""
    folders = _folders(split_root)
    stray = [entry for entry in sorted(split_root.iterdir()) if _is_image(entry)]
    if stray and not folders and split not in ("val", "test"):
        raise UserError(
            f"{_written(split_root)}: {len(stray):,} images without a class, e.g. {_written(stray[0].name)!r}; "
            "expected one folder per class"
        )
    if stray:
        found.warnings.append(_stray_words(split_root, stray))
    if folders:
        found.splits.add(split)
    for folder in folders:
        name = _written(folder.name)
        found.class_names.add(name)
        for file in _files(folder):
            image_id = _written(file.relative_to(root).as_posix())
            if is_image_name(file.name) and file.is_file():
                found.entries.append((name, image_id, split, file))
            elif file.name.lower() not in _IGNORED_FILES:
                found.skipped.append(image_id)


def _stray_words(folder: Path, stray: list[Path]) -> str:
    return (
        f"{_written(folder)}: {len(stray):,} images lie outside any class folder and are not used, "
        f"e.g. {_written(stray[0].name)!r}"
    )


def _check_split_classes(path: Path, found: _Listing, class_names: list[str]) -> None:
    """Refuse a class that one split lacks: that is a mistake in the data more often than not."""
    present: dict[str, set[str]] = {}
    for name, _, split, _ in found.entries:
        present.setdefault(split, set()).add(name)
    for split in sorted(found.splits - {""}):
        missing = [name for name in class_names if name not in present.get(split, ())]
        if missing:
            names = ", ".join(map(repr, missing[:NAMED]))
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            raise UserError(f"{path}: {split}/ has no images of class {names}{more}; add them, or remove the class")


def _titles(root: Path, class_names: list[str], found: _Listing) -> list[str]:
    """Return names for people from Labels.json where the folder has one, else the class names."""
    file = root / TITLES_FILE
    if not file.is_file():
        return class_names
    try:
        titles = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        found.warnings.append(f"{_written(file)}: not JSON, so classes go by their folder names ({error})")
        return class_names
    known = titles if isinstance(titles, dict) else {}
    return [str(known.get(name) or name) for name in class_names]


def _files(folder: Path) -> list[Path]:
    """Return every file below a folder that is not hidden, sorted."""
    files = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_shown(name))
        files += [Path(where) / name for name in sorted(names) if not name.startswith(".")]
    return files


def _count_images(folder: Path) -> int:
    return sum(is_image_name(file.name) for file in _files(folder))


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and _is_shown(child.name))


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name not in _IGNORED_FOLDERS


def _is_image(path: Path) -> bool:
    return is_image_name(path.name) and path.is_file()


def _written(name: str | Path) -> str:
    """Return a file name as text that any file can hold: bytes that are not UTF-8 become e.g. \\xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
