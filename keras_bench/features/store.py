"""Where features lie: one array a pass over some images, found by a fingerprint of all it depends on. No TensorFlow."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_bench.download import cache_folder
from keras_bench.rundir import write_json

PART_AGE = 7 * 24 * 3600.0  # seconds after which an unfinished array counts as abandoned


@dataclass(frozen=True)
class Entry:
    """One array of features, in the folder of all.

    Attributes:
        folder: of all arrays.
        key: fingerprint of everything the array depends on.
    """

    folder: Path
    key: str

    array = property(lambda self: self.folder / f"{self.key}.npy")
    facts = property(lambda self: self.folder / f"{self.key}.json")
    part = property(lambda self: self.folder / f"{self.key}.part.npy")
    progress = property(lambda self: self.folder / f"{self.key}.part.json")

    @property
    def is_finished(self) -> bool:
        """Whether the whole array is there."""
        return self.array.is_file() and self.facts.is_file()

    def open(self) -> np.ndarray | None:
        """Return the finished array, memory-mapped, or None; its time of last use becomes now."""
        if not self.is_finished:
            return None
        os.utime(self.facts)
        return np.load(self.array, mmap_mode="r", allow_pickle=False)

    def read_facts(self) -> dict[str, Any]:
        """Return what is known of the finished array: `about`, `seconds` it took to compute, `bytes`."""
        return dict(json.loads(self.facts.read_text(encoding="utf-8")))

    def start(self, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
        """Return the array to fill, float32, a row an image, memory-mapped, and how many rows are filled already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.part.is_file() and self.progress.is_file():
            array = np.lib.format.open_memmap(self.part, mode="r+")
            if array.shape == shape:
                return array, int(json.loads(self.progress.read_text())["rows"])
        return np.lib.format.open_memmap(self.part, mode="w+", dtype=np.float32, shape=shape), 0

    def save(self, array: Any, rows: int, seconds: float) -> None:
        """Note that the first rows are on disk, so that an interrupted pass goes on behind them."""
        array.flush()
        write_json(self.progress, {"rows": rows, "seconds": seconds})

    def spent(self) -> float:
        """Return the seconds that went into the unfinished array so far."""
        return float(json.loads(self.progress.read_text())["seconds"]) if self.progress.is_file() else 0.0

    def finish(self, array: Any, about: Mapping[str, Any], seconds: float) -> None:
        """Give the filled array its name."""
        array.flush()
        os.replace(self.part, self.array)
        write_json(self.facts, {"about": dict(about), "seconds": seconds, "bytes": self.array.stat().st_size})
        self.progress.unlink(missing_ok=True)


def entry_for(about: Mapping[str, Any]) -> Entry:
    """Return the place of an array that depends on exactly these values."""
    text = json.dumps(about, sort_keys=True)
    return Entry(features_folder(), hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def features_folder() -> Path:
    """Return the folder of all arrays, `features` in the cache."""
    return cache_folder() / "features"


def entries() -> list[Entry]:
    """Return every finished array, last used first."""
    found = [Entry(path.parent, path.stem) for path in features_folder().glob("*.json") if ".part" not in path.name]
    return sorted(found, key=lambda entry: -entry.facts.stat().st_mtime)


def evict(limit: int) -> int:
    """Remove finished arrays, least recently used first, until the rest takes at most `limit` bytes.

    Unfinished arrays go when nobody has touched them for a week. Returns how many finished ones went.
    """
    for part in features_folder().glob("*.part.*"):
        if time.time() - part.stat().st_mtime > PART_AGE:
            part.unlink(missing_ok=True)
    kept = removed = 0
    for entry in entries():
        size = entry.array.stat().st_size if entry.array.is_file() else 0
        if kept + size <= limit:
            kept += size
            continue
        entry.facts.unlink(missing_ok=True)
        entry.array.unlink(missing_ok=True)
        removed += 1
    return removed
