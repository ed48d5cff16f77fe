"""Checks the entries of an untrusted zip archive before the first byte is written."""

import os
import re
import shutil
import stat
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from keras_bench.disk import DiskFullError
from keras_bench.errors import UserError, one_line

SPARE_DISK_BYTES = 1 << 30  # left free on the disk for the run itself
# Photographs hardly compress, bitmaps and tables 2 to 20 times; deflate reaches 1,032 on zeros.
MAX_RATIO = 100.0
RATIO_VARIABLE = "KERAS_BENCH_MAX_ZIP_RATIO"
UNSUSPICIOUS_BYTES = 1 << 30  # up to this size, unpacked, an archive may have any ratio
MAX_NAME_LENGTH = 80  # of an entry's name in a message

_READABLE_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_SPECIAL_FILES = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
_YOURSELF = "unpack it yourself and pass the folder"


def checked_entries(archive: Path, entries: Sequence[zipfile.ZipInfo], folder: Path) -> list[zipfile.ZipInfo]:
    """Return the files to extract, each once.

    Args:
        archive: the zip file.
        entries: all its entries.
        folder: where they are to be extracted; it need not exist.

    Raises:
        UserError: the archive holds no files; an entry is encrypted, compressed in an unknown way, a link or a device,
            would leave the folder, or clashes with another one; the entries overlap, unpack to suspiciously much or to
            more than the disk has room for; or the variable that sets the limit is not a positive number.
    """
    files = [entry for entry in entries if not entry.is_dir()]
    if not files:
        raise UserError(f"{archive}: the archive holds no files; expected images in one folder per class")
    for entry in files:
        _check_entry(archive, entry)
    files = _without_copies(archive, files)
    _refuse_files_used_as_folders(archive, files, [entry for entry in entries if entry.is_dir()])
    _check_sizes(archive, files, folder)
    return files


def quoted(name: str) -> str:
    """Return an entry's name for a message: quoted, escaped and cut."""
    return repr(name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}…")


def indistinct_names(files: Iterable[zipfile.ZipInfo]) -> tuple[str, str] | None:
    """Return two paths that a file system without upper and lower case cannot tell apart, or None.

    They may be files or folders: `Cat/1.jpg` and `cat/2.jpg` would merge two classes into one.
    """
    known: dict[str, str] = {}
    for entry in files:
        path = PurePosixPath(entry.filename)
        for name in (str(path), *(str(parent) for parent in path.parents)):
            other = known.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
            if other != name:
                return other, name
    return None


def _check_entry(archive: Path, entry: zipfile.ZipInfo) -> None:
    name, mode = PurePosixPath(entry.filename.replace("\\", "/")), entry.external_attr >> 16
    first = name.parts[0] if name.parts else ""
    is_drive = re.match("[A-Za-z]:" if os.name == "nt" else "[A-Za-z]:$", first)  # elsewhere `C:a` is a usual name
    drive_or_empty = not first or is_drive is not None
    if name.is_absolute() or ".." in name.parts or drive_or_empty or stat.S_ISLNK(mode):
        raise UserError(f"{archive}: refused, its entry {quoted(entry.filename)} would leave the folder")
    if stat.S_IFMT(mode) in _SPECIAL_FILES:
        raise UserError(f"{archive}: refused, its entry {quoted(entry.filename)} is a device or a pipe, not a file")
    if entry.flag_bits & 1:
        raise UserError(f"{archive}: its entry {quoted(entry.filename)} is encrypted; {_YOURSELF}")
    if entry.compress_type not in _READABLE_METHODS:
        raise UserError(
            f"{archive}: its entry {quoted(entry.filename)} is compressed by method {entry.compress_type}; expected "
            f"stored, deflate, bzip2 or LZMA; {_YOURSELF}"
        )


def _without_copies(archive: Path, files: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Return the files without repetitions of an entry; refuse two contents of one name."""
    by_path: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in files:
        first = by_path.setdefault(PurePosixPath(entry.filename), entry)
        if (first.CRC, first.file_size) != (entry.CRC, entry.file_size):
            raise UserError(
                f"{archive}: refused, it holds {quoted(entry.filename)} twice with different contents; {_YOURSELF}"
            )
    return list(by_path.values())


def _refuse_files_used_as_folders(
    archive: Path, files: Sequence[zipfile.ZipInfo], folders: Sequence[zipfile.ZipInfo]
) -> None:
    paths = [PurePosixPath(entry.filename) for entry in files]
    used = {parent for path in paths for parent in path.parents} | {PurePosixPath(entry.filename) for entry in folders}
    for path in paths:
        if path in used:
            raise UserError(f"{archive}: refused, its entry {quoted(str(path))} is both a file and a folder")


def _check_sizes(archive: Path, files: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    packed, needed = archive.stat().st_size, sum(entry.file_size for entry in files)
    if sum(entry.compress_size for entry in files) > packed:
        raise UserError(f"{archive}: refused, its entries overlap or are cut off; make or download the archive again")
    limit = _ratio_limit()
    if needed > UNSUSPICIOUS_BYTES and needed > limit * packed:
        raise UserError(
            f"{archive}: refused, its {packed / 1e9:.3f} GB unpack to {needed / 1e9:,.1f} GB, {needed / packed:,.0f} "
            f"times as much, expected at most {limit:g} times; if you trust it, set {RATIO_VARIABLE} to a higher number"
        )
    existing = next(parent for parent in folder.resolve().parents if parent.exists())
    free = shutil.disk_usage(existing).free - SPARE_DISK_BYTES
    if needed > free:
        raise DiskFullError(
            f"{archive}: refused, it holds {needed / 1e9:.1f} GB but only {max(0, free) / 1e9:.1f} GB may be used in "
            f"{existing}; free some space or set KERAS_BENCH_CACHE to a folder on another disk"
        )


def _ratio_limit() -> float:
    text = os.environ.get(RATIO_VARIABLE)
    try:
        limit = float(text) if text else MAX_RATIO
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise UserError(f"{RATIO_VARIABLE}: expected a positive number, received {one_line(repr(text), limit=40)}")
    return limit
