"""The verb `cache`: lists and limits the cache of downloads and features, without TensorFlow."""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from keras_bench.console import Log
from keras_bench.download import cache_folder
from keras_bench.errors import DamagedFileError
from keras_bench.locks import remove_if_unlocked
from keras_bench.training.feature_eviction import evict
from keras_bench.training.feature_store import Entry, entries

CACHE_PARTS = ("downloads", "extracted", "tfds", "decoded", "features")  # the folders that keras-bench makes in it


def show_cache(log: Log) -> None:
    """Print the cached features, most recently used first, and the size of each folder in the cache."""
    rows = [row for entry in entries() if (row := _entry_row(entry)) is not None]
    if rows:
        table = Table(title="cached features, most recently used first")
        for column in ("backbone", "pixels", "precision", "view", "images", "MB", "took", "last used"):
            table.add_column(column)
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        log.table(table)
    folders = cache_folders()
    for folder in folders:
        log.line(f"{folder}: {folder_size(folder) / 1e6:,.1f} MB")
    log.line(f"cache: {cache_folder()}" + ("" if folders else ", empty"))


def limit_features(megabytes: int, log: Log) -> None:
    """Remove cached features, least recently used first, until the rest takes at most this many MiB."""
    log.line(f"removed {evict(megabytes << 20)} cached feature arrays, {len(entries())} left")


def _entry_row(entry: Entry) -> tuple[object, ...] | None:
    """Return the table row of a cache entry, with "?" for what its version did not record; None if it is gone."""
    try:
        facts, used = entry.read_facts(), entry.facts.stat().st_mtime
    except FileNotFoundError:
        return None
    except (OSError, TypeError, DamagedFileError):
        return ("damaged", *"??????", f"{entry.key}: runs that need it compute it again")
    about = facts.get("about", {})
    properties = [about.get(key, "?") for key in ("backbone", "image_size", "precision", "view")]
    images, size = f"{len(about.get('positions', [])):,}", f"{facts.get('bytes', 0) / 1e6:.1f}"
    return (
        *properties,
        images,
        size,
        f"{facts.get('seconds', 0):.0f} s",
        f"{datetime.fromtimestamp(used):%Y-%m-%d %H:%M}",
    )


def clear_cache(log: Log) -> None:
    """Remove everything that keras-bench put into the cache; it is downloaded or computed again when needed.

    $KERAS_BENCH_CACHE may name a folder that also holds other files: those are kept, and so is everything that another
    process is writing at the moment.
    """
    folders = cache_folders()
    before, in_use = sum(map(folder_size, folders)), 0
    for folder in folders:
        in_use += _clear(folder)
    removed = before - sum(map(folder_size, cache_folders()))
    log.line(f"removed {removed / 1e6:,.1f} MB from {cache_folder()}")
    if in_use:
        log.line(f"kept: {in_use} that other processes are writing now; repeat the command later to remove them")


def _clear(folder: Path) -> int:
    """Remove the contents of a folder, except paths whose lock is held; return the number of held locks.

    A lock protects every path whose name contains the name of the lock file without its suffix. Paths that appear
    while this runs are left alone.
    """
    paths = sorted(folder.iterdir())
    locks = [path for path in paths if path.suffix == ".lock"]
    locked_names = []
    for lock in locks:
        name = lock.stem.removeprefix(".")
        with remove_if_unlocked(lock) as is_free:
            if is_free:
                _remove_paths(path for path in paths if name in path.name and path != lock)
        locked_names += [] if is_free else [name]
    _remove_paths(path for path in paths if path not in locks and not any(name in path.name for name in locked_names))
    with suppress(OSError):  # not empty
        folder.rmdir()
    return len(locked_names)


def _remove_paths(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def cache_folders() -> list[Path]:
    """Return the folders in the cache that keras-bench made."""
    return [path for name in CACHE_PARTS if (path := cache_folder() / name).is_dir()]


def folder_size(folder: Path) -> int:
    """Return the total size of a folder's files in bytes; files that another process removes meanwhile count 0."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            size += path.stat().st_size if path.is_file() else 0
    return size
