"""Space on the disk and permission to write: checked before long work where they can be, explained where they lack."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keras_bench.errors import RunError, UserError, one_line

# Error numbers of a full disk, an exhausted quota, and a limit on the size of files (RLIMIT_FSIZE, or FAT's 4 GB).
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this account's quota is used up",
    errno.EFBIG: "the system allows no larger file",
}
_REMEDIES = {
    errno.EACCES: "grant this account the permission",
    errno.EPERM: "grant this account the permission",
    errno.EROFS: "use a folder on a file system that is not read-only",
    errno.ENOTDIR: "a file is where a folder is expected",
    errno.EEXIST: "a file is where a folder is expected",
    errno.EISDIR: "a folder is where a file is expected; remove it, or use another name",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOENT: "it was removed, or never existed",
    errno.ELOOP: "a link points to itself; remove it",
}
FOLDERS = "--out sets the folder of runs, --exports that of bundles, $KERAS_BENCH_CACHE the cache"


class DiskFullError(RunError):
    """There is no space for a file."""


def size_text(count: int) -> str:
    """Return a number of bytes in readable form: 12 bytes, 3.4 kB, 56 MB, 1.6 GB."""
    if count < 1000:
        return f"{count} bytes"
    size, units = count / 1000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 999.5 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:,.0f} {unit}"


def free_bytes(path: Path) -> int:
    """Return the space that this account may still use on the disk of a path, which need not exist."""
    return shutil.disk_usage(_existing_folder(path)).free


def _existing_folder(path: Path) -> Path:
    """Return the nearest of a path and its parents that exists."""
    absolute = Path(os.path.abspath(path))
    return next(folder for folder in (absolute, *absolute.parents) if os.path.lexists(folder))


def is_full(error: BaseException) -> bool:
    """Return whether an error says that there is no space for a file."""
    return isinstance(error, OSError) and error.errno in _FULL


def full_disk(path: Path, error: OSError | None, needed: int | None = None) -> DiskFullError:
    """Return the error of a file for which there is no space.

    Args:
        path: the file or folder.
        error: what the system said; None where space was checked before writing.
        needed: bytes that it needs; None if unknown.
    """
    reason = _FULL[error.errno or errno.ENOSPC] if error else "the disk is too full"
    with suppress(OSError, AttributeError):  # not every system counts files
        counts = os.statvfs(_existing_folder(path))
        if error and error.errno == errno.ENOSPC and counts.f_files and not counts.f_favail:
            reason = "the disk holds no more files"
    wanted = f"it needs {size_text(needed)}, and " if needed is not None else ""
    return DiskFullError(
        f"{path} cannot be written: {reason}; {wanted}{size_text(free_bytes(path))} are free there. "
        f"Make room and repeat the command ({FOLDERS})"
    )


@contextmanager
def writing(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn the system's error where there is no space for a file into one for the user.

    Args:
        path: the file that the block writes.
        needed: its size in bytes; None if unknown.

    Raises:
        DiskFullError: there is no space for it.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full_disk(path, error, needed) from error
        raise


def require_space(path: Path, needed: int) -> None:
    """Refuse to begin what would fill the disk.

    Raises:
        DiskFullError: fewer than `needed` bytes are free on the disk of `path`.
    """
    if needed > free_bytes(path):
        raise full_disk(path, None, needed)


def allocate(path: Path) -> None:
    """Reserve the disk space of a file that has holes; its content stays.

    A memory map of such a file ends the process by SIGBUS when the disk is full.

    Raises:
        OSError: there is no space for it.
    """
    with path.open("r+b") as stream:
        size = os.fstat(stream.fileno()).st_size
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
            return
        for start in range(0, size, 1 << 20):  # macOS: only writing reserves space
            content = stream.read(1 << 20)
            stream.seek(start)
            stream.write(content)


def require_writable(folder: Path, option: str) -> None:
    """Refuse a folder in which nothing can be written; nothing is created.

    Args:
        folder: it need not exist.
        option: what the user sets it with, for the message.

    Raises:
        UserError: a file is in its place, it may not be written to, or its name is too long for the file system.
        DiskFullError: the disk is full.
    """
    try:
        existing = _existing_folder(folder)
        _refuse_long_names(existing, folder)
        with writing(folder), tempfile.TemporaryFile(dir=existing) as stream:
            stream.write(b"0")
    except OSError as error:
        ending = "; " if error.errno in (errno.ENOTDIR, errno.EEXIST) else ", or "
        remedy = "" if error.errno == errno.ENOENT else _REMEDIES.get(error.errno or 0, "check the disk") + ending
        raise UserError(
            f"{folder}: nothing can be written there ({error.strerror or one_line(error)}); "
            f"{remedy}set another folder by {option}"
        ) from error


def _refuse_long_names(existing: Path, folder: Path) -> None:
    limits = {"PC_NAME_MAX": 255, "PC_PATH_MAX": 4096}
    for name in limits:
        with suppress(OSError, ValueError, AttributeError):  # not on every system
            limits[name] = os.pathconf(existing, name)
    names = Path(os.path.abspath(folder)).relative_to(existing).parts
    for name in names:
        length = len(os.fsencode(name))
        if length > limits["PC_NAME_MAX"]:
            raise UserError(
                f"the folder's name {name[:40]}… has {length} bytes, expected at most {limits['PC_NAME_MAX']}, which "
                f"the file system of {existing} allows; use a shorter name for the experiment, variant or folder"
            )
    if len(os.fsencode(os.path.abspath(folder))) > limits["PC_PATH_MAX"] - 256:  # leaves room for the files in it
        raise UserError(f"{str(folder)[:60]}…: the path is too long for the file system; use shorter names")


def describe_os_error(error: OSError) -> tuple[str, int]:
    """Return what to tell the user about an error of the system that nobody expected, and the exit code."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if is_full(error) and not names:  # every file of this package is written with its name
        reason = _FULL[error.errno or errno.ENOSPC]
        return f"standard output cannot be written: {reason}; print to the screen or to a file on another disk", 1
    if is_full(error):
        return str(full_disk(Path(names[0]), error)), DiskFullError.exit_code
    remedy = _REMEDIES.get(error.errno or 0)
    reason = error.strerror or one_line(error)
    text = f"{' -> '.join(names)}: {reason}" if names else f"the system refused to read or write a file: {reason}"
    if remedy is None:
        return f"{text}; check the disk and repeat the command; with --debug it says where", RunError.exit_code
    return f"{text}; {remedy} ({FOLDERS})", UserError.exit_code
