"""Extracts untrusted zip archives into the cache, each of them once."""

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from filelock import FileLock

from keras_bench.console import Log
from keras_bench.download import cache_folder, digest_file
from keras_bench.errors import UserError

SPARE_DISK_BYTES = 1 << 30  # left free on the disk for the run itself
EXTRACT_CHUNK_BYTES = 1 << 20


def extracted(archive: Path, log: Log) -> Path:
    """Return the folder with the archive's content, extracting it on the first call.

    The folder is named after the archive's digest, so a changed archive is extracted again.

    Raises:
        UserError: the file is not a zip archive or is damaged, an entry would leave the folder, or the disk is too
            full.
    """
    folder = cache_folder() / "extracted" / f"{archive.stem}-{digest_file(archive)[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            unfinished = folder.with_name(folder.name + ".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            extract_archive(archive, unfinished, log)
            os.replace(unfinished, folder)
    return folder


def extract_archive(archive: Path, folder: Path, log: Log) -> None:
    """Extract a zip archive into a new folder.

    Every entry is checked before the first byte is written, and no entry may exceed its declared size.

    Raises:
        UserError: as for `extracted`.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            entries = [entry for entry in content.infolist() if not entry.is_dir()]
            _check_entries(archive, entries, folder)
            with log.progress(f"extracting {archive.name}", len(entries), "files") as advance:
                for entry in entries:
                    _write_entry(content, entry, folder / entry.filename)
                    advance(1)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"{archive}: not a readable zip archive ({error})") from error


def _check_entries(archive: Path, entries: list[zipfile.ZipInfo], folder: Path) -> None:
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        drive_or_empty = len(name.parts[0]) > 1 and name.parts[0][1] == ":" if name.parts else True
        if name.is_absolute() or ".." in name.parts or drive_or_empty or stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(f"{archive}: refused, its entry {entry.filename!r} would leave the folder")
    needed = sum(entry.file_size for entry in entries)
    existing = next(parent for parent in [folder, *folder.resolve().parents] if parent.exists())
    free = shutil.disk_usage(existing).free - SPARE_DISK_BYTES
    if needed > free:
        raise UserError(
            f"{archive}: refused, it holds {needed / 1e9:.1f} GB but only {max(0, free) / 1e9:.1f} GB may be used in "
            f"{existing}; free some space or set KERAS_BENCH_CACHE to a folder on another disk"
        )


def _write_entry(content: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with content.open(entry) as source, target.open("wb") as sink:
        while chunk := source.read(EXTRACT_CHUNK_BYTES):
            written += len(chunk)
            if written > entry.file_size:
                raise zipfile.BadZipFile(f"{entry.filename!r} is larger than the archive says")
            sink.write(chunk)
