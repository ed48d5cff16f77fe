"""Caches decoded images, up to a size limit, in a file that all runs on the same data share.

The digest of the pixels is kept beside them and checked whenever a process opens them: pixels that a failing disk or
another program changed would train without a sign of it.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_bench.console import Log
from keras_bench.data.index import ImageIndex
from keras_bench.disk import require_space
from keras_bench.download import cache_folder
from keras_bench.environment import usable_cores
from keras_bench.errors import RunError, UserError
from keras_bench.files import replacing, sweep
from keras_bench.images import MAX_MEGAPIXELS, UnreadableImageError, decode, decoder_name, stated_pixels
from keras_bench.locks import remove_if_unlocked, sweep_unlocked, wait_for_lock
from keras_bench.reading import refused

SMALL_FILE = 50_000  # bytes
ESTIMATE_IMAGES = 32  # of which the space for all is estimated


class ImageStore:
    """Decoded images of an index by position; images beyond the limit are decoded on each access.

    Pixels are stored contiguously in a memory-mapped file in the cache: the next model of a suite reuses them, and the
    operating system can evict pages that have not been read for long.

    Args:
        index: the images.
        limit: most bytes of decoded pixels to keep.
        max_megapixels: larger images are unreadable.

    Attributes:
        unreadable: reason by position, for each image that cannot be decoded. Complete after `load`.
        sizes: every (height, width) among readable images. Complete after `load`.
        path: the file of pixels. Set by `load`.
    """

    def __init__(self, index: ImageIndex, limit: int, max_megapixels: float = MAX_MEGAPIXELS) -> None:
        self.index = index
        self.limit = limit
        self.max_megapixels = max_megapixels
        self.unreadable: dict[int, str] = {}
        self.sizes: set[tuple[int, int]] = set()
        self.path = Path()
        self._digest: str | None = None
        self._pixels = np.zeros(0, dtype=np.uint8)
        self._offsets = np.full(len(index.ids), -1)  # in the file; -1: not kept
        self._shapes = np.zeros((len(index.ids), 2), dtype=np.int64)  # height and width; 0, 0: unreadable
        self._reasons = np.zeros(len(index.ids), dtype=np.str_)  # why an image is unreadable; "": it is readable

    @property
    def kept_bytes(self) -> int:
        """Return the number of bytes of decoded pixels that are kept."""
        return len(self._pixels)

    def fingerprint(self, log: Log) -> str:
        """Return a digest of all ids, class names, official splits and file contents, independent of their folder."""
        digest = hashlib.blake2b(digest_size=16)
        names, labels = self.index.class_names, self.index.labels
        with log.progress("reading images", len(self.index.ids), "images") as advance:
            for i in range(len(labels)):
                digest.update(f"{self.index.ids[i]}\0{names[labels[i]]}\0{self.index.official[i]}\0".encode())
                digest.update(hashlib.blake2b(_file_content(self.index, i), digest_size=16).digest())
                advance(1)
        self._digest = digest.hexdigest()
        return self._digest

    def load(self, log: Log) -> None:
        """Decode every image once, or reuse the cache; afterwards unreadable images are known."""
        digest = self._digest or self.fingerprint(log)
        self.path = pixels = decoded_folder() / f"{digest}-{self.limit}-{decoder_name(self.max_megapixels)}.pixels"
        table = pixels.with_suffix(".npz")
        if not self._open(pixels, table):
            with wait_for_lock(pixels.with_suffix(".lock"), "decoding the same images", log):
                sweep(pixels.parent, lambda name: name in (pixels.name, table.name))
                if not self._open(pixels, table):  # another process may have decoded them in the meantime
                    if pixels.exists() and table.exists():
                        log.warn(f"the decoded images in {pixels} are damaged; the images are decoded again")
                    self._decode_all(pixels, table, log)
                    if not self._open(pixels, table):
                        raise RunError(f"{pixels} cannot be read back as it was written; check the disk")
        self.unreadable = {int(i): str(self._reasons[i]) for i in np.flatnonzero(self._shapes[:, 0] == 0)}
        self.sizes = {(int(height), int(width)) for height, width in np.unique(self._shapes, axis=0) if height}

    def _open(self, pixels: Path, table: Path) -> bool:
        """Open the two files; returns False if either is absent, damaged or being removed right now.

        Once open, they remain readable even if another process removes them.
        """
        try:
            with table.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                offsets, shapes, reasons = arrays["offsets"], arrays["shapes"], arrays["reasons"]
                digest = str(arrays["digest"])
            kept = np.memmap(pixels, np.uint8, "r") if pixels.stat().st_size else np.zeros(0, dtype=np.uint8)
        except FileNotFoundError:
            return False
        except OSError as error:  # the file may be whole, so the images must not be decoded again
            raise refused(error.filename or table, error) from error
        except Exception:  # NumPy and zipfile report damage through nearly any exception
            return False
        if hashlib.sha256(kept.data).hexdigest() != digest:
            return False
        with suppress(OSError):  # the file may belong to another account, which may forbid it
            os.utime(table)
        self._offsets, self._shapes, self._reasons, self._pixels = offsets, shapes, reasons, kept
        return True

    def _decode_all(self, pixels: Path, table: Path, log: Log) -> None:
        """Write the two files; each gets its final name once complete, the table last."""
        needed = self._estimated_bytes()
        require_space(pixels, int(0.7 * needed))  # since the sample's mean may be off
        with replacing(table) as unfinished_table:
            with replacing(pixels, needed) as unfinished, unfinished.open("wb") as stream:
                reasons, digest = self._decode_into(stream, log)
            np.savez(
                unfinished_table,
                offsets=self._offsets,
                shapes=self._shapes,
                reasons=np.array(reasons, dtype=np.str_),
                digest=np.array(digest),
            )

    def _estimated_bytes(self) -> int:
        """Return about how many bytes of pixels will be kept, by a sample of the images."""
        count = len(self.index.ids)
        sizes = [self._stated_bytes(i) for i in range(0, count, max(1, count // ESTIMATE_IMAGES))]
        return min(self.limit, int(np.mean(sizes) * count)) if sizes else 0

    def _stated_bytes(self, position: int) -> int:
        """Return the number of bytes of an image's pixels by its header; 0 if it is unreadable."""
        try:
            return 3 * stated_pixels(self.index.read(position))
        except (UnreadableImageError, OSError):
            return 0

    def _decode_into(self, stream: BinaryIO, log: Log) -> tuple[list[str], str]:
        """Write the pixels and record their offsets; return per image why it is unreadable, or "", and their digest."""
        count, used, reasons, digest = len(self.index.ids), 0, [], hashlib.sha256()
        with log.progress("decoding images", count, "images") as advance:
            for i, image in enumerate(_in_threads(self._try_decode, count, decoding_threads(self.index))):
                reasons.append(image if isinstance(image, str) else "")
                if not isinstance(image, str):
                    self._shapes[i] = image.shape[:2]
                    if used + image.nbytes <= self.limit:
                        self._offsets[i] = used
                        used += stream.write(content := image.tobytes())
                        digest.update(content)
                advance(1)
        return reasons, digest.hexdigest()

    def image(self, position: int) -> np.ndarray:
        """Return one image, uint8, (height, width, 3), RGB in [0, 255].

        Raises:
            UnreadableImageError: naming the image.
        """
        offset = int(self._offsets[position])
        if offset >= 0:
            height, width = (int(side) for side in self._shapes[position])
            return self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)
        try:
            return decode(self.index.read(position), self.max_megapixels)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{self.index.ids[position]}: {error}") from error

    def batch(self, positions: np.ndarray) -> np.ndarray:
        """Return images of equal size, uint8, (batch, height, width, 3), RGB in [0, 255]."""
        return np.stack([self.image(int(position)) for position in positions])

    @property
    def readable(self) -> np.ndarray:
        """Return which images can be decoded, bool, (N,)."""
        mask = np.ones(len(self.index.ids), dtype=bool)
        mask[list(self.unreadable)] = False
        return mask

    def _try_decode(self, position: int) -> np.ndarray | str:
        try:
            return decode(self.index.read(position), self.max_megapixels)
        except (UnreadableImageError, OSError) as error:
            return str(error)


def decoded_folder() -> Path:
    """Return the folder of decoded images, `decoded` in the cache."""
    return cache_folder() / "decoded"


def limit_decoded(limit: int) -> None:
    """Remove decoded images, least recently used data first, until the rest takes at most `limit` bytes.

    The most recently used data and files that another process is using are never removed. A cache that may not be
    written to stays as it is.
    """
    with suppress(UserError):  # no lock can be created there
        _remove_beyond(limit)
        _remove_unfinished()


def _remove_beyond(limit: int) -> None:
    total_bytes = 0
    for rank, table in enumerate(_tables_by_last_use()):
        pixels = table.with_suffix(".pixels")
        with suppress(FileNotFoundError):
            total_bytes += pixels.stat().st_size
        if rank and total_bytes > limit:
            with remove_if_unlocked(table.with_suffix(".lock")) as is_free:
                if is_free:
                    table.unlink(missing_ok=True)
                    pixels.unlink(missing_ok=True)


def _remove_unfinished() -> None:
    """Remove what processes that were killed while they decoded images left behind."""
    folder = decoded_folder()
    sweep_unlocked(folder, lambda name: (folder / name).with_suffix(".lock"))
    for pixels in folder.glob("[!.]*.pixels"):  # a killed process had written them, but not yet their table
        table = pixels.with_suffix(".npz")
        if not table.exists():
            with remove_if_unlocked(pixels.with_suffix(".lock")) as is_free:
                if is_free and not table.exists():
                    pixels.unlink(missing_ok=True)


def _tables_by_last_use() -> list[Path]:
    """Return the table of each set of decoded images, most recently used first."""
    last_use = {}
    for table in decoded_folder().glob("[!.]*.npz"):  # names with a dot are still being written
        with suppress(FileNotFoundError):  # another process has just removed it
            last_use[table] = table.stat().st_mtime
    return sorted(last_use, key=lambda table: -last_use[table])


def decoding_threads(index: ImageIndex) -> int:
    """Return the number of threads to decode with: several pay off only for large files, which release the GIL longer.

    On two cores, two threads decoded 1,100 64×64 JPEGs per second, one thread 1,700.
    """
    sample = range(0, len(index.ids), max(1, len(index.ids) // 16))
    return 1 if np.median([len(_file_content(index, i)) for i in sample]) < SMALL_FILE else usable_cores()


def _file_content(index: ImageIndex, position: int) -> bytes:
    """Return a file's content, or b"" if it cannot be read: decoding then reports why."""
    try:
        return index.read(position)
    except OSError:
        return b""


def _in_threads(work, count: int, threads: int) -> Iterable:  # type: ignore[no-untyped-def]
    """Yield work(0), work(1), … in order."""
    chunk = 256  # bounds the number of pending results
    if threads == 1:
        yield from map(work, range(count))
        return
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, chunk):
            yield from pool.map(work, range(start, min(count, start + chunk)))
