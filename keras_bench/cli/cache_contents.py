"""The verb `cache`: what lies in the cache of downloads and features, and how to make room. No TensorFlow."""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from keras_bench.console import Log
from keras_bench.download import cache_folder
from keras_bench.locks import remove_if_unlocked
from keras_bench.training.feature_store import Entry, entries, evict

CACHE_PARTS = ("downloads", "extracted", "tfds", "decoded", "features")  # what we put into the cache


def show_cache(log: Log) -> None:
    """Print the cached features, last used first, and the size of everything else."""
    rows = [row for entry in entries() if (row := _entry_row(entry)) is not None]
    if rows:
        table = Table(title="cached features, last used first")
        for column in ("backbone", "pixels", "precision", "view", "images", "MB", "took", "last used"):
            table.add_column(column)
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        log.table(table)
    parts = cached_parts()
    for part in parts:
        log.line(f"{part}: {folder_size(part) / 1e6:,.1f} MB")
    log.line(f"cache: {cache_folder()}" + ("" if parts else ", empty"))


def limit_features(megabytes: int, log: Log) -> None:
    """Remove cached features, least recently used first, until they take at most so much."""
    log.line(f"removed {evict(megabytes << 20)} arrays of features; {len(entries())} are left")


def _entry_row(entry: Entry) -> tuple[object, ...] | None:
    """Return what the table says of an array, "?" for what its version did not note; None where it is gone by now."""
    try:
        facts, used = entry.read_facts(), entry.facts.stat().st_mtime
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return ("damaged", *"?????", f"{entry.key}: a run that needs it computes it again")
    about = facts.get("about", {})
    known = [about.get(key, "?") for key in ("backbone", "image_size", "precision", "view")]
    images, size = f"{len(about.get('positions', [])):,}", f"{facts.get('bytes', 0) / 1e6:.1f}"
    return (*known, images, size, f"{facts.get('seconds', 0):.0f} s", f"{datetime.fromtimestamp(used):%Y-%m-%d %H:%M}")


def clear_cache(log: Log) -> None:
    """Remove all of ours: downloads and archives come again when they are needed, features are computed again.

    $KERAS_BENCH_CACHE may name a folder that holds other things too; they stay. So does what another process is making
    at this moment.
    """
    parts = cached_parts()
    before, in_use = sum(map(folder_size, parts)), 0
    for part in parts:
        in_use += _clear(part)
    removed = before - sum(map(folder_size, cached_parts()))
    log.line(f"removed {removed / 1e6:,.1f} MB from {cache_folder()}")
    if in_use:
        log.line(f"left: {in_use} that other processes are making now; the same command removes them later")


def _clear(folder: Path) -> int:
    """Remove what lies in a folder, but for what a lock that is held guards; returns how many such locks there are.

    A lock guards what has its name, before any suffix, within its own. What appears from now on is left alone.
    """
    listed = sorted(folder.iterdir())
    locks = [path for path in listed if path.suffix == ".lock"]
    busy = []
    for lock in locks:
        guarded = lock.stem.removeprefix(".")
        with remove_if_unlocked(lock) as is_free:
            if is_free:
                _remove_paths(path for path in listed if guarded in path.name and path != lock)
        busy += [] if is_free else [guarded]
    _remove_paths(path for path in listed if path not in locks and not any(name in path.name for name in busy))
    with suppress(OSError):  # not empty
        folder.rmdir()
    return len(busy)


def _remove_paths(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def cached_parts() -> list[Path]:
    """Return the folders of ours that lie in the cache."""
    return [path for name in CACHE_PARTS if (path := cache_folder() / name).is_dir()]


def folder_size(folder: Path) -> int:
    """Return the bytes that a folder's files take; one that another process removes meanwhile counts 0."""
    sizes = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            sizes += path.stat().st_size if path.is_file() else 0
    return sizes
