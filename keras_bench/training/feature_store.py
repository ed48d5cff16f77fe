"""The feature cache: one array per pass over some images, keyed by everything it depends on. No TensorFlow.

Several processes may share the folder. A process holds an array's lock while it computes the array, and never removes
an array that another process has locked. Reading a finished array needs no lock: an open file outlives its name.

The digest of the values is kept beside them and checked whenever a process opens an array or resumes one: values that a
failing disk or another program changed would train without a sign of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_bench.console import Log
from keras_bench.disk import allocate, writing
from keras_bench.download import cache_folder
from keras_bench.errors import DamagedFileError, RunError
from keras_bench.files import write_record
from keras_bench.locks import wait_for_lock
from keras_bench.parallel import map_in_order
from keras_bench.reading import read_json, refused

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_bench.models.forward import Forward

# Raise it when the same fingerprint would stand for other numbers, for example when images are resized differently or
# batches are composed differently. Entries of earlier versions are then no longer found.
FEATURES_VERSION = 2
SAVE_SECONDS = 10.0  # an interrupted pass loses at most this much


@dataclass(frozen=True)
class Stored:
    """A finished array.

    Attributes:
        array: float32, a row per image, memory-mapped, read-only.
        seconds: time it took to compute.
    """

    array: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Unfinished:
    """An array that is being computed.

    Attributes:
        path: its file, whose name no other process uses.
        array: float32, a row per image, memory-mapped.
        rows: number of rows that were already filled when it was opened.
        seconds: time it took to fill them.
        digest: running digest of the rows filled so far.
    """

    path: Path
    array: np.memmap
    rows: int
    seconds: float
    digest: hashlib._Hash

    def save(self, rows: int, seconds: float) -> None:
        """Record that the first `rows` rows are on disk, so an interrupted pass resumes after them."""
        self.array.flush()
        progress = {"rows": rows, "seconds": seconds, "digest": self.digest.hexdigest()}
        write_record(progress_of(self.path), progress)


def progress_of(part: Path) -> Path:
    """Return the file that records how much of an unfinished array is on disk."""
    return part.with_suffix(".json")


@dataclass(frozen=True)
class Entry:
    """One array of features in the cache.

    Attributes:
        folder: folder of all arrays.
        key: fingerprint of everything the array depends on.
    """

    folder: Path
    key: str

    array = property(lambda self: self.folder / f"{self.key}.npy")
    facts = property(lambda self: self.folder / f"{self.key}.json")
    lock_file = property(lambda self: self.folder / f"{self.key}.lock")

    def lock(self, log: Log) -> AbstractContextManager[None]:
        """Hold the array's lock while it is computed, waiting for a process that computes it now."""
        return wait_for_lock(self.lock_file, "computing the same features", log)

    @property
    def is_finished(self) -> bool:
        """Whether the array is complete."""
        return self.array.is_file() and self.facts.is_file()

    def open(self, shape: tuple[int, ...]) -> Stored | None:
        """Return the finished array and mark it as just used; None if it is absent, damaged or being removed.

        Args:
            shape: number of images, then the shape of one image's features.
        """
        try:
            facts = self.read_facts()
            seconds, digest = float(facts["seconds"]), str(facts["digest"])
        except (ValueError, KeyError, TypeError, FileNotFoundError, DamagedFileError):
            return None
        except OSError as error:
            raise refused(self.facts, error) from error
        with suppress(OSError):  # the file may belong to another account, which may forbid it
            os.utime(self.facts)
        array = _open_array(self.array, "r", shape)
        if array is None or hashlib.sha256(array.data).hexdigest() != digest:
            return None
        return Stored(array, seconds)

    def read_facts(self) -> dict[str, Any]:
        """Return the facts of the finished array: what it depends on (`about`), `seconds` to compute, `bytes`.

        Raises:
            FileNotFoundError: the array is not finished, or was removed.
            DamagedFileError: the facts are damaged.
        """
        self.facts.stat()  # raises FileNotFoundError
        return read_json(self.facts)

    def start(self, shape: tuple[int, ...]) -> Unfinished:
        """Return the array to fill: one that an interrupted process left, or a new one. The lock must be held.

        Args:
            shape: number of images, then the shape of one image's features.
        """
        for part in self.folder.glob(f"{self.key}.*.part.npy"):
            interrupted = _open_unfinished(part, shape)
            if interrupted is not None:
                return interrupted
            part.unlink(missing_ok=True)
            progress_of(part).unlink(missing_ok=True)
        part = self.folder / f"{self.key}.{uuid.uuid4().hex}.part.npy"
        with writing(self.array, 4 * math.prod(shape)):
            try:
                array = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
                allocate(part)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        return Unfinished(part, array, 0, 0.0, hashlib.sha256())

    def reserved_bytes(self) -> int:
        """Return the disk space that an array which a process left unfinished takes; 0 if there is none."""
        blocks = [part.stat().st_blocks for part in self.folder.glob(f"{self.key}.*.part.npy")]
        return 512 * max(blocks, default=0)

    def finish(self, unfinished: Unfinished, dependencies: Mapping[str, object], seconds: float) -> None:
        """Write the filled array's facts and give it its final name; a process killed in between is resumed."""
        unfinished.save(len(unfinished.array), seconds)
        facts = {"about": dict(dependencies), "seconds": seconds, "bytes": unfinished.path.stat().st_size}
        write_record(self.facts, {**facts, "digest": unfinished.digest.hexdigest()})
        os.replace(unfinished.path, self.array)
        progress_of(unfinished.path).unlink(missing_ok=True)


def _open_unfinished(part: Path, shape: tuple[int, ...]) -> Unfinished | None:
    """Return an array that a process left unfinished; None if no row of it was saved, or it is not as it was saved."""
    try:
        progress = read_json(progress_of(part))
        rows, seconds, saved = int(progress["rows"]), float(progress["seconds"]), str(progress["digest"])
    except (ValueError, KeyError, TypeError, DamagedFileError):  # cut off before its first save, or damaged
        return None
    except OSError as error:
        raise refused(progress_of(part), error) from error
    array = _open_array(part, "r+", shape)
    if array is None:
        return None
    allocate(part)  # earlier versions did not
    digest = hashlib.sha256(array[:rows].data)
    return Unfinished(part, array, rows, seconds, digest) if digest.hexdigest() == saved else None


def _open_array(path: Path, mode: Literal["r", "r+"], shape: tuple[int, ...]) -> np.memmap | None:
    """Return a file as a float32 array of this shape; None if it is absent or something else, as when damaged."""
    try:
        array = np.lib.format.open_memmap(path, mode=mode)
    except FileNotFoundError:
        return None
    except OSError as error:  # the file may be whole, so it must not be computed again
        raise refused(path, error) from error
    except Exception:  # NumPy reports a damaged header through ValueError, SyntaxError, TokenError and others
        return None
    return array if array.shape == shape and array.dtype == np.dtype(np.float32) else None


def load_or_compute_features(
    forward: Callable[[], tuple[Forward, int]],
    batches: Callable[[int], Iterable[tf.Tensor]],
    shape: tuple[int, ...],
    entry: Entry,
    dependencies: Mapping[str, object],
    advance: Callable[[int], None],
    log: Log,
) -> Stored:
    """Return the network's outputs for a stream of images, computing those that are not cached yet.

    If another process is computing the same array, this one waits for its result; if that process dies, this one
    resumes its work.

    Args:
        forward: called only if there is something to compute; returns the function from images, float32 (batch, side,
            side, 3), to features, float32 (batch, ...), and how many threads may call that function at a time.
        batches: function from a number of finished rows, a multiple of the batch size, to a stream of the remaining
            images in order.
        shape: number of images, then the shape of one image's features.
        entry: cache entry of the array.
        dependencies: everything the array depends on, stored beside it.
        advance: called with the number of images just finished.
        log: the screen, which shows when this process waits for another.
    """
    stored = entry.open(shape)
    if stored is None:
        with entry.lock(log):
            stored = entry.open(shape)  # another process may have finished it meanwhile
            if stored is None:
                if entry.is_finished:
                    log.warn(f"the cached features in {entry.array} are damaged; they are computed again")
                    entry.array.unlink()  # makes room for the new one
                return _compute(forward, batches, shape, entry, dependencies, advance)
    advance(shape[0])
    return stored


def _compute(
    forward: Callable[[], tuple[Forward, int]],
    batches: Callable[[int], Iterable[tf.Tensor]],
    shape: tuple[int, ...],
    entry: Entry,
    dependencies: Mapping[str, object],
    advance: Callable[[int], None],
) -> Stored:
    unfinished = entry.start(shape)
    rows, started = unfinished.rows, time.monotonic()
    advance(rows)
    last_saved = started
    compute, workers = forward()
    for features in map_in_order(compute, batches(rows), workers):
        unfinished.array[rows : rows + len(features)] = features
        unfinished.digest.update(np.ascontiguousarray(features, dtype=np.float32).data)
        rows += len(features)
        advance(len(features))
        if time.monotonic() - last_saved > SAVE_SECONDS:
            unfinished.save(rows, unfinished.seconds + time.monotonic() - started)
            last_saved = time.monotonic()
    entry.finish(unfinished, dependencies, unfinished.seconds + time.monotonic() - started)
    stored = entry.open(shape)
    if stored is None:  # nobody removes what is locked, so the disk does not keep what is written to it
        raise RunError(
            f"{entry.array} cannot be read back as it was written; check the disk, or use features: streamed"
        )
    return stored


def entry_for(dependencies: Mapping[str, object]) -> Entry:
    """Return the cache entry of the array that depends on exactly these values."""
    text = json.dumps(dependencies, sort_keys=True)
    return Entry(features_folder(), hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def features_folder() -> Path:
    """Return the folder of all arrays, `features` in the cache."""
    return cache_folder() / "features"


def entries() -> list[Entry]:
    """Return the entries of all finished arrays, most recently used first."""
    last_used = {}
    for path in features_folder().glob("[!.]*.json"):  # names with a leading dot are being written
        entry = Entry(path.parent, path.stem)
        if ".part" not in path.name and entry.is_finished:
            with suppress(FileNotFoundError):  # another process removed it just now
                last_used[entry] = path.stat().st_mtime
    return sorted(last_used, key=lambda entry: -last_used[entry])
