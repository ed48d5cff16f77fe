"""Removes cached features that have not been used for longest, and what killed processes left unfinished."""

import time
from contextlib import suppress

from keras_bench.locks import remove_if_unlocked
from keras_bench.training.feature_store import Entry, entries, features_folder

PART_AGE = 7 * 24 * 3600.0  # seconds after which an unfinished array counts as abandoned


def evict(limit: int) -> int:
    """Remove finished arrays, least recently used first, until the rest takes at most `limit` bytes.

    Unfinished arrays are removed a week after their last change. Arrays that another process holds are never removed.

    Returns:
        the number of finished arrays removed.
    """
    _remove_abandoned()
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


def _remove_abandoned() -> None:
    for part in [*features_folder().glob("*.part.*"), *features_folder().glob(".writing-*")]:
        with suppress(FileNotFoundError):  # its process finished it just now
            if time.time() - part.stat().st_mtime > PART_AGE:
                key = part.name.removeprefix(".").partition(".")[0]
                with remove_if_unlocked(features_folder() / f"{key}.lock") as is_free:
                    if is_free:
                        part.unlink()
