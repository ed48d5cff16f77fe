"""Processes that want the same file take turns, by lock files that the operating system gives back when one dies.

On a file system without flock, filelock warns and takes a file's existence for the lock. Such a file may stay when its
process dies, and then has to be removed by hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from keras_bench.console import Log
from keras_bench.errors import UserError, one_line


@contextmanager
def wait_for_lock(path: Path, activity: str, log: Log) -> Iterator[None]:
    """Hold a lock file, after any process that has it now; what it guards must be looked at again once it is held.

    Whether the file stays when the lock is given back is up to filelock: a process that waits, and has a file open that
    was removed, notices and opens the new one.

    Args:
        path: the lock file; its folder is made.
        activity: what the other process is doing, for the line that says why this one waits.
        log: told, once, that it waits.

    Raises:
        UserError: the file cannot be made or locked.
    """
    lock = FileLock(path)
    try:
        _acquire(lock, path, 0)
    except Timeout:
        log.line(f"waiting for another process that is {activity}")
        _acquire(lock, path, -1)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, path: Path, timeout: float) -> None:
    try:
        try:
            _acquire_in_folder(lock, path, timeout)
        except FileNotFoundError:  # the empty folder was removed at this very moment, as `cache --clear` does
            _acquire_in_folder(lock, path, timeout)
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error, limit=None)
        raise UserError(
            f"cannot lock {path}: {reason}. Expected a folder that this account may write to, "
            "on a file system that has locks; give it write permission, or use another folder: $KERAS_BENCH_CACHE for "
            "the cache, --out for runs"
        ) from error


def _acquire_in_folder(lock: FileLock, path: Path, timeout: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock.acquire(timeout=timeout)


@contextmanager
def refuse_if_locked(path: Path, message: str) -> Iterator[None]:
    """Hold a lock file, or say that another process has it instead of waiting.

    Raises:
        UserError: with this message; or the file cannot be made or locked.
    """
    lock = FileLock(path)
    try:
        _acquire(lock, path, 0)
    except Timeout as error:
        raise UserError(message) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def remove_if_unlocked(path: Path) -> Iterator[bool]:
    """Hold a lock file in order to remove what it guards, and the file with it; yields False where it is in use.

    Args:
        path: the lock file, whether there is one or not.

    Raises:
        UserError: the file cannot be made or locked.
    """
    lock = FileLock(path)
    try:
        _acquire(lock, path, 0)
    except Timeout:
        yield False
        return
    try:
        yield True
        path.unlink(missing_ok=True)  # while it is held: who opened it meanwhile finds that it is gone, and opens anew
    finally:
        lock.release()
