"""Reads untrusted zip archives and extracts them into the cache, each of them once."""

import errno
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from keras_bench.console import Log
from keras_bench.data.zip_checks import checked_entries, indistinct_names, quoted
from keras_bench.disk import DiskFullError, full_disk, is_full
from keras_bench.download import cache_folder, digest_file
from keras_bench.errors import UserError, one_line
from keras_bench.files import replacing_folder, sweep
from keras_bench.locks import sweep_unlocked
from keras_bench.reading import refused

EXTRACT_CHUNK_BYTES = 1 << 20
MAX_STEM_BYTES = 180  # of an archive's name in that of its folder, whose suffixes must fit into 255 bytes

# First bytes, or those at the given offset, of archives that people have beside zips.
_OTHER_ARCHIVES = (
    (0, b"\x1f\x8b", "a gzip file, often a .tar.gz"),
    (0, b"BZh", "a bzip2 file, often a .tar.bz2"),
    (0, b"\xfd7zXZ", "an xz file, often a .tar.xz"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file, often a .tar.zst"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
)


def extracted(archive: Path, log: Log) -> Path:
    """Return the folder with the archive's content, extracting it on the first call.

    The folder is named after the archive's digest, so a changed archive is extracted again.

    Raises:
        UserError: the file is not a zip archive or is damaged, or `checked_entries` refuses its entries.
    """
    stem = os.fsdecode(os.fsencode(archive.stem)[:MAX_STEM_BYTES])
    try:
        digest = digest_file(archive)
    except OSError as error:
        raise refused(archive, error) from error
    folder = cache_folder() / "extracted" / f"{stem}-{digest[:16]}"
    if not folder.is_dir():  # one that is there is whole, and the cache may be read-only
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                sweep(folder.parent, folder.name.__eq__)
                with replacing_folder(folder) as unfinished:
                    extract_archive(archive, unfinished, log)
    sweep_unlocked(folder.parent, lambda name: folder.with_name(f"{name}.lock"))
    return folder


def extract_archive(archive: Path, folder: Path, log: Log) -> None:
    """Extract a zip archive into a new or empty folder, which is removed again if that fails.

    Every entry is checked before the first byte is written, and no entry may exceed its declared size.

    Raises:
        UserError: as for `extracted`, or an entry cannot be written.
        DiskFullError: there is no space for the entries.
    """
    with _reading(archive), zipfile.ZipFile(archive) as content:
        entries = checked_entries(archive, content.infolist(), folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _refuse_indistinct_names(archive, entries, folder)
            with log.progress(f"extracting {archive.name}", len(entries), "files") as advance:
                for entry in entries:
                    _write_entry(archive, content, entry, folder / entry.filename)
                    advance(1)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def is_zip(path: Path) -> bool:
    """Return whether a file is a zip archive; one that is cut off at its end is none."""
    with _reading(path):
        return zipfile.is_zipfile(path)


def entry_names(archive: Path) -> list[str]:
    """Return the names of a zip archive's entries.

    Raises:
        UserError: the file is not a zip archive or is damaged.
    """
    with _reading(archive), zipfile.ZipFile(archive) as content:
        return content.namelist()


def first_line(archive: Path, name: str, limit: int) -> bytes:
    """Return the first line of an entry, at most `limit` bytes.

    Raises:
        UserError: the archive or the entry is damaged or encrypted.
    """
    with _reading(archive), zipfile.ZipFile(archive) as content, content.open(name) as stream:
        return stream.readline(limit)


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn whatever reading a damaged archive raises into one error for the user."""
    try:
        yield
    except (UserError, DiskFullError):
        raise
    except OSError as error:
        if is_full(error):
            raise
        # A damaged offset makes a seek fail with EINVAL, and bz2 reports damage without a number; anything else is the
        # system's refusal.
        if error.errno not in (None, errno.EINVAL):
            raise refused(archive, error) from error
        raise _unreadable(archive, error) from error
    except Exception as error:  # zipfile and its decompressors report damage through nearly any exception
        raise _unreadable(archive, error) from error


def _unreadable(archive: Path, error: Exception) -> UserError:
    with archive.open("rb") as stream:
        start = stream.read(512)
    for offset, signature, kind in _OTHER_ARCHIVES:
        if start.startswith(signature, offset):
            return UserError(
                f"{archive}: not a readable zip archive but {kind}; unpack it yourself and pass the folder, or make a "
                "zip of it"
            )
    return UserError(
        f"{archive}: not a readable zip archive ({one_line(error)}); download or make it again, or pass a folder"
    )


@contextmanager
def _writing(archive: Path, entry: zipfile.ZipInfo, target: Path) -> Iterator[None]:
    """Turn the system's refusal to write an entry, e.g. because of its long name, into an error for the user."""
    try:
        yield
    except (OSError, UnicodeEncodeError) as error:
        if isinstance(error, OSError) and is_full(error):
            raise full_disk(target, error, entry.file_size) from error
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(
            f"{archive}: its entry {quoted(entry.filename)} cannot be written ({reason}); unpack the archive "
            "yourself and pass the folder"
        ) from error


def _refuse_indistinct_names(archive: Path, entries: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    names = indistinct_names(entries)
    if names and _ignores_case(folder):
        raise UserError(
            f"{archive}: refused, {quoted(names[0])} and {quoted(names[1])} would be one in {folder.parent}, where "
            "upper and lower case do not count; set KERAS_BENCH_CACHE to a folder on another file system"
        )


def _ignores_case(folder: Path) -> bool:
    probe = folder / "case"
    probe.touch()
    try:
        return (folder / "CASE").exists()
    finally:
        probe.unlink()


def _write_entry(archive: Path, content: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    with _writing(archive, entry, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = target.open("xb")
    written = 0
    with sink, content.open(entry) as source:
        while chunk := source.read(EXTRACT_CHUNK_BYTES):
            written += len(chunk)
            if written > entry.file_size:
                raise zipfile.BadZipFile(f"{entry.filename!r} is larger than the archive says")
            with _writing(archive, entry, target):
                sink.write(chunk)
        with _writing(archive, entry, target):
            sink.flush()
        if written < entry.file_size:
            raise zipfile.BadZipFile(f"{entry.filename!r} is smaller than the archive says")
