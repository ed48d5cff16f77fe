"""Removes cached features that have not been used for longest, and what killed processes left unfinished."""

import time
from contextlib import suppress
from pathlib import Path

from keras_bench.locks import remove_if_unlocked, sweep_unlocked
from keras_bench.training.feature_store import Entry, entries, features_folder

RESUMABLE_AGE = 7 * 24 * 3600.0  # seconds for which an interrupted array is kept, to be resumed


def evict(limit: int) -> int:
    """Remove finished arrays, least recently used first, until the rest takes at most `limit` bytes.

    An interrupted array is kept for a week after its last change, because the same command resumes it; whatever else
    killed processes left behind is removed at once. Arrays that another process holds are never removed.

    Returns:
        the number of finished arrays removed.
    """
    _remove_unfinished()
    kept = removed = 0
    for entry in entries():
        try:
            size = entry.array.stat().st_size
        except FileNotFoundError:
            size = 0
        if kept + size <= limit or not _remove_entry(entry):
            kept += size
        else:
            removed += 1
    return removed


def _remove_entry(entry: Entry) -> bool:
    """Remove a finished array; return False if another process holds it."""
    with remove_if_unlocked(entry.lock_file) as is_free:
        if is_free:
            entry.facts.unlink(missing_ok=True)
            entry.array.unlink(missing_ok=True)
    return is_free


def _remove_unfinished() -> None:
    """Remove what killed processes left behind, except arrays that can be resumed."""
    folder = features_folder()
    sweep_unlocked(folder, _lock_of)
    for path in [*folder.glob("[!.]*.npy"), *folder.glob("[!.]*.json")]:
        if _is_abandoned(path):
            with remove_if_unlocked(_lock_of(path.name)) as is_free:
                if is_free and _is_abandoned(path):  # its process may have finished it just now
                    path.unlink(missing_ok=True)


def _lock_of(name: str) -> Path:
    """Return the lock of the array that a file belongs to: all its files are called after its key."""
    return Entry(features_folder(), name.partition(".")[0]).lock_file


def _is_abandoned(path: Path) -> bool:
    """Return whether nothing reads or resumes a file: it is half of a pair, or has been unfinished for a week."""
    other = path.with_suffix({".npy": ".json", ".json": ".npy"}[path.suffix])
    with suppress(FileNotFoundError):
        is_old = time.time() - path.stat().st_mtime > RESUMABLE_AGE
        return not other.exists() or (".part." in path.name and is_old)
    return False
