"""The verb `cache`: what lies in the cache of downloads and features, and how to make room. No TensorFlow."""

import shutil
from datetime import datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from keras_bench.console import Log
from keras_bench.download import cache_folder
from keras_bench.features.store import entries, evict

PARTS = ("downloads", "extracted", "tfds", "decoded", "features")  # what we put into the cache


def show_cache(log: Log) -> None:
    """Print the cached features, last used first, and the size of everything else."""
    found = entries()
    if found:
        table = Table(title="cached features, last used first")
        for column in ("backbone", "pixels", "view", "images", "MB", "took", "last used"):
            table.add_column(column)
        for entry in found:
            facts = entry.read_facts()
            about = facts["about"]
            used = f"{datetime.fromtimestamp(entry.facts.stat().st_mtime):%Y-%m-%d %H:%M}"
            images, size = f"{len(about['positions']):,}", f"{facts['bytes'] / 1e6:.1f}"
            row = (
                about["backbone"],
                about["image_size"],
                about["view"],
                images,
                size,
                f"{facts['seconds']:.0f} s",
                used,
            )
            table.add_row(*(Text(str(cell)) for cell in row))
        log.table(table)
    parts = _parts()
    for part in parts:
        log.line(f"{part}: {_size(part) / 1e6:,.1f} MB")
    log.line(f"cache: {cache_folder()}" + ("" if parts else ", empty"))


def limit_features(megabytes: int, log: Log) -> None:
    """Remove cached features, least recently used first, until they take at most so much."""
    log.line(f"removed {evict(megabytes << 20)} arrays of features; {len(entries())} are left")


def clear_cache(log: Log) -> None:
    """Remove all of ours: downloads and archives come again when they are needed, features are computed again.

    $KERAS_BENCH_CACHE may name a folder that holds other things too; they stay.
    """
    parts = _parts()
    size = sum(map(_size, parts))
    for part in parts:
        shutil.rmtree(part)
    log.line(f"removed {size / 1e6:,.1f} MB from {cache_folder()}")


def _parts() -> list[Path]:
    return [path for name in PARTS if (path := cache_folder() / name).is_dir()]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
