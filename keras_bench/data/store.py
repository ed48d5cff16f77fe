"""Holds the images of a source decoded, within a memory limit, and knows their fingerprint."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_bench.console import Log
from keras_bench.images import UnreadableImageError, decode
from keras_bench.records.dataset import ImageIndex

SMALL_FILE = 50_000  # bytes


class ImageStore:
    """Decoded images of an index by position; what does not fit the memory limit is decoded on each access.

    Args:
        index: the images.
        memory_limit: bytes of decoded pixels kept, at most.

    Attributes:
        unreadable: for each position whose image cannot be decoded, why. Complete after `load`.
        sizes: the (height, width) that occur among readable images. Complete after `load`.
    """

    def __init__(self, index: ImageIndex, memory_limit: int) -> None:
        self.index = index
        self.memory_limit = memory_limit
        self.memory_used = 0
        self.unreadable: dict[int, str] = {}
        self.sizes: set[tuple[int, int]] = set()
        self._decoded: dict[int, np.ndarray] = {}

    def fingerprint(self, log: Log) -> str:
        """Return a digest of every id, class name and file content, whatever folder they lie in."""
        total = hashlib.blake2b(digest_size=16)
        names, labels = self.index.class_names, self.index.labels
        with log.progress("reading images", len(self.index.ids), "images") as advance:
            contents = map(lambda i: hashlib.blake2b(self.index.read(i), digest_size=16).digest(), range(len(labels)))
            for i, content in enumerate(contents):
                total.update(f"{self.index.ids[i]}\0{names[labels[i]]}\0{self.index.official[i]}\0".encode())
                total.update(content)
                advance(1)
        return total.hexdigest()

    def load(self, log: Log) -> None:
        """Decode every image once: fills the memory and finds what cannot be read before training starts."""
        with log.progress("decoding images", len(self.index.ids), "images") as advance:
            images = _in_threads(self._try_decode, len(self.index.ids), decoding_threads(self.index))
            for i, image in enumerate(images):
                if isinstance(image, str):
                    self.unreadable[i] = image
                else:
                    self.sizes.add((image.shape[0], image.shape[1]))
                    if self.memory_used + image.nbytes <= self.memory_limit:
                        self._decoded[i] = image
                        self.memory_used += image.nbytes
                advance(1)

    def image(self, position: int) -> np.ndarray:
        """Return one image, uint8, (height, width, 3), RGB in [0, 255].

        Raises:
            UnreadableImageError: naming the image.
        """
        cached = self._decoded.get(position)
        if cached is not None:
            return cached
        try:
            return decode(self.index.read(position))
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{self.index.ids[position]}: {error}") from error

    def batch(self, positions: np.ndarray) -> np.ndarray:
        """Return equally large images, uint8, (batch, height, width, 3), RGB in [0, 255]."""
        return np.stack([self.image(int(position)) for position in positions])

    @property
    def readable(self) -> np.ndarray:
        """Which positions can be decoded, bool, (N,)."""
        mask = np.ones(len(self.index.ids), dtype=bool)
        mask[list(self.unreadable)] = False
        return mask

    def _try_decode(self, position: int) -> np.ndarray | str:
        try:
            return decode(self.index.read(position))
        except (UnreadableImageError, OSError) as error:
            return str(error)


def decoding_threads(index: ImageIndex) -> int:
    """Return how many threads to decode with: only large files leave the interpreter to others for long.

    On 64×64 JPEGs two threads got through 1,100 images/s on two cores, one through 1,700.
    """
    some = range(0, len(index.ids), max(1, len(index.ids) // 16))
    return 1 if np.median([len(index.read(i)) for i in some]) < SMALL_FILE else os.cpu_count() or 1


def _in_threads(work, count: int, threads: int) -> Iterable:  # type: ignore[no-untyped-def]
    """Yield work(0), work(1), … in order."""
    chunk = 256  # bounds how many results wait in memory
    if threads == 1:
        yield from map(work, range(count))
        return
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, chunk):
            yield from pool.map(work, range(start, min(count, start + chunk)))
