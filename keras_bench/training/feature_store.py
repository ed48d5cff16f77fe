"""Where features lie: one array a pass over some images, found by a fingerprint of all it depends on. No TensorFlow.

Several processes may use the folder at a time. Whoever computes an array holds its lock meanwhile, and whoever removes
one leaves out what is locked. To read a finished array no lock is needed: an open file outlives its name.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_bench.console import Log
from keras_bench.download import cache_folder
from keras_bench.files import write_json
from keras_bench.locks import remove_if_unlocked, wait_for_lock
from keras_bench.parallel import map_in_order

# Raise it when the same fingerprint would stand for other numbers: when images are resized in another way, say, or
# batches are put together differently. What other versions of the program left is then not found.
VERSION = 2
PART_AGE = 7 * 24 * 3600.0  # seconds after which an unfinished array counts as abandoned
SAVE_SECONDS = 10.0  # an interrupted pass loses at most this much

Forward = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Stored:
    """A finished array.

    Attributes:
        array: float32, a row per image, memory-mapped, read only.
        seconds: it took to compute.
    """

    array: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Unfinished:
    """An array that is being computed.

    Attributes:
        path: its file; no other process writes to one of this name.
        array: float32, a row per image, memory-mapped.
        rows: how many rows were filled before.
        seconds: that took.
    """

    path: Path
    array: np.memmap
    rows: int
    seconds: float

    def save(self, rows: int, seconds: float) -> None:
        """Note that the first rows are on disk, so that an interrupted pass goes on behind them."""
        self.array.flush()
        write_json(progress_of(self.path), {"rows": rows, "seconds": seconds})


def progress_of(part: Path) -> Path:
    """Return the file that says how much of an unfinished array is on disk."""
    return part.with_suffix(".json")


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
    lock_file = property(lambda self: self.folder / f"{self.key}.lock")

    def lock(self, log: Log) -> AbstractContextManager[None]:
        """Hold the array while it is computed, after a process that is computing it now."""
        return wait_for_lock(self.lock_file, "computing the same features", log)

    @property
    def is_finished(self) -> bool:
        """Whether the whole array is there."""
        return self.array.is_file() and self.facts.is_file()

    def open(self) -> Stored | None:
        """Return the finished array or None, also where it is removed at this moment; its last use becomes now."""
        try:
            seconds = float(self.read_facts()["seconds"])
            os.utime(self.facts)
            return Stored(np.load(self.array, mmap_mode="r", allow_pickle=False), seconds)
        except FileNotFoundError:
            return None

    def read_facts(self) -> dict[str, Any]:
        """Return what is known of the finished array: `about`, `seconds` it took to compute, `bytes`.

        Raises:
            FileNotFoundError: it is not finished, or was removed.
        """
        return dict(json.loads(self.facts.read_text(encoding="utf-8")))

    def start(self, shape: tuple[int, ...]) -> Unfinished:
        """Return the array to fill: an interrupted process's, or a new one. The lock must be held.

        Args:
            shape: how many images there are, and the shape of one image's features.
        """
        for part in self.folder.glob(f"{self.key}.*.part.npy"):
            interrupted = _continued(part, shape)
            if interrupted is not None:
                return interrupted
            part.unlink(missing_ok=True)
            progress_of(part).unlink(missing_ok=True)
        part = self.folder / f"{self.key}.{uuid.uuid4().hex}.part.npy"
        return Unfinished(part, np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape), 0, 0.0)

    def finish(self, unfinished: Unfinished, about: Mapping[str, Any], seconds: float) -> None:
        """Give the filled array its name."""
        unfinished.array.flush()
        os.replace(unfinished.path, self.array)
        write_json(self.facts, {"about": dict(about), "seconds": seconds, "bytes": self.array.stat().st_size})
        progress_of(unfinished.path).unlink(missing_ok=True)


def _continued(part: Path, shape: tuple[int, ...]) -> Unfinished | None:
    """Return an array that a process left unfinished, or None where it does not fit or nothing of it was saved."""
    try:
        progress = json.loads(progress_of(part).read_text(encoding="utf-8"))
        array = np.lib.format.open_memmap(part, mode="r+")
    except (FileNotFoundError, ValueError):  # what was cut off before it was saved may be no array yet
        return None
    if array.shape != shape:
        return None
    return Unfinished(part, array, int(progress["rows"]), float(progress["seconds"]))


def extract(
    forward: Callable[[], tuple[Forward, int]],
    batches: Callable[[int], Iterable[Any]],
    shape: tuple[int, ...],
    entry: Entry,
    about: Mapping[str, Any],
    advance: Callable[[int], None],
    log: Log,
) -> Stored:
    """Return the network's outputs for a stream of images, computing what is not stored yet.

    Where another process is computing the same, this one waits and takes what that gives; where that one dies, it
    goes on in its place.

    Args:
        forward: gives the function from images, float32 (batch, side, side, 3), to features, float32 (batch, ...), and
            how many threads may call it at a time; it is asked for only if something is to be computed.
        batches: function from a number of finished rows, a multiple of the batch size, to a stream of the images
            behind them, in order.
        shape: of the array: how many images there are, and the shape of one image's features.
        entry: where the array is kept.
        about: what it depends on, kept beside it.
        advance: told how many images were just finished.
        log: told where this process waits for another.
    """
    stored = entry.open()
    if stored is None:
        with entry.lock(log):
            stored = entry.open()  # another process may have finished it meanwhile
            if stored is None:
                return _compute(forward, batches, shape, entry, about, advance)
    advance(shape[0])
    return stored


def _compute(
    forward: Callable[[], tuple[Forward, int]],
    batches: Callable[[int], Iterable[Any]],
    shape: tuple[int, ...],
    entry: Entry,
    about: Mapping[str, Any],
    advance: Callable[[int], None],
) -> Stored:
    unfinished = entry.start(shape)
    done, started = unfinished.rows, time.monotonic()
    advance(done)
    saved = started
    compute, workers = forward()
    for found in map_in_order(compute, batches(done), workers):
        unfinished.array[done : done + len(found)] = found
        done += len(found)
        advance(len(found))
        if time.monotonic() - saved > SAVE_SECONDS:
            unfinished.save(done, unfinished.seconds + time.monotonic() - started)
            saved = time.monotonic()
    entry.finish(unfinished, about, unfinished.seconds + time.monotonic() - started)
    stored = entry.open()
    assert stored is not None  # nobody removes what is locked
    return stored


def entry_for(about: Mapping[str, Any]) -> Entry:
    """Return the place of an array that depends on exactly these values."""
    text = json.dumps(about, sort_keys=True)
    return Entry(features_folder(), hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def features_folder() -> Path:
    """Return the folder of all arrays, `features` in the cache."""
    return cache_folder() / "features"


def entries() -> list[Entry]:
    """Return every finished array, last used first."""
    used = {}
    for path in features_folder().glob("[!.]*.json"):  # those with a dot are being written
        if ".part" not in path.name:
            with suppress(FileNotFoundError):  # another process removed it just now
                used[Entry(path.parent, path.stem)] = path.stat().st_mtime
    return sorted(used, key=lambda entry: -used[entry])


def evict(limit: int) -> int:
    """Remove finished arrays, least recently used first, until the rest takes at most `limit` bytes.

    Unfinished arrays go when nobody has touched them for a week. What another process is computing stays. Returns how
    many finished ones went.
    """
    _remove_abandoned()
    kept = removed = 0
    for entry in entries():
        try:
            size = entry.array.stat().st_size
        except FileNotFoundError:
            size = 0
        if kept + size <= limit or not _remove(entry):
            kept += size
        else:
            removed += 1
    return removed


def _remove(entry: Entry) -> bool:
    """Remove a finished array; returns False where another process holds it."""
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
