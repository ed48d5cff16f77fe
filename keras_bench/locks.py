"""Lock files with which processes that want the same file take turns; the operating system frees those of dead ones.

On a file system without flock, filelock warns and treats the file's existence as the lock. If the process then dies,
the file may stay and has to be removed by hand.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from keras_bench.console import Log
from keras_bench.disk import full_disk, is_full
from keras_bench.errors import UserError, one_line
from keras_bench.files import final_name, sweep


@contextmanager
def wait_for_lock(path: Path, activity: str, log: Log) -> Iterator[None]:
    """Hold a lock file, waiting for the process that holds it; check again, once inside, what the lock guards.

    Whether the file remains after the release is up to filelock: a waiting process whose open file was removed
    notices and opens the new one.

    Args:
        path: the lock file; its folder is created.
        activity: what the other process is doing, for the message "waiting for another process that is …".
        log: receives that message, once.

    Raises:
        UserError: the file cannot be created or locked.
    """
    lock = FileLock(path)
    try:
        _acquire_or_explain(lock, path, 0)
    except Timeout:
        log.line(f"waiting for another process that is {activity}")
        _acquire_or_explain(lock, path, -1)
    try:
        yield
    finally:
        lock.release()


def _acquire_or_explain(lock: FileLock, path: Path, timeout: float) -> None:
    """Acquire the lock, or raise UserError where the file cannot be locked at all; `Timeout` passes through."""
    try:
        try:
            _acquire_in_folder(lock, path, timeout)
        except FileNotFoundError:  # the empty folder was removed at that very moment, as `cache --clear` does
            _acquire_in_folder(lock, path, timeout)
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and is_full(error):
            raise full_disk(path, error) from error
        reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error, limit=None)
        raise UserError(
            f"cannot lock {path}: {reason}. Expected a folder that this account may write to, "
            "on a file system that supports locks; grant write permission, or use another folder: $KERAS_BENCH_CACHE "
            "for the cache, --out for runs"
        ) from error


def _acquire_in_folder(lock: FileLock, path: Path, timeout: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock.acquire(timeout=timeout)


@contextmanager
def refuse_if_locked(path: Path, message: str) -> Iterator[None]:
    """Hold a lock file, or refuse at once if another process holds it.

    Raises:
        UserError: with this message if the lock is held; or the file cannot be created or locked.
    """
    lock = FileLock(path)
    try:
        _acquire_or_explain(lock, path, 0)
    except Timeout as error:
        raise UserError(message) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def remove_if_unlocked(path: Path) -> Iterator[bool]:
    """Hold a lock file while the block removes what it guards, then remove the file; yields False if it is in use.

    Args:
        path: the lock file, which need not exist.

    Raises:
        UserError: the file cannot be created or locked.
    """
    lock = FileLock(path)
    try:
        _acquire_or_explain(lock, path, 0)
    except Timeout:
        yield False
        return
    try:
        yield True
        # Removed while it is held: a process that opened it in the meantime finds it gone and opens a new one.
        path.unlink(missing_ok=True)
    finally:
        lock.release()


def sweep_unlocked(folder: Path, lock_of: Callable[[str], Path]) -> None:
    """Remove what killed processes left unfinished in a folder in which each name has a lock of its own.

    Args:
        folder: the folder, which need not exist.
        lock_of: function from a final name to the lock file under which it is written.

    Raises:
        UserError: a lock file cannot be created or locked.
    """
    if not folder.is_dir():
        return
    for name in sorted({name for path in folder.iterdir() if (name := final_name(path)) is not None}):
        with remove_if_unlocked(lock_of(name)) as is_free:
            if is_free:
                sweep(folder, name.__eq__)


@contextmanager
def lock_file(path: Path, activity: str, log: Log) -> Iterator[None]:
    """Lock one file, waiting for a process that is writing it, and remove what killed ones left of it."""
    with wait_for_lock(path.with_name(f".{path.stem}.lock"), activity, log):
        sweep(path.parent, path.name.__eq__)
        yield


@contextmanager
def lock_folder(folder: Path, path: Path, activity: str, log: Log) -> Iterator[None]:
    """Lock all results in a folder, waiting for a process that is writing them, and remove what killed ones left."""
    with wait_for_lock(path, activity, log):
        sweep(folder, lambda name: True, recursive=True)
        yield
