"""The images of a data source, and the table of their splits."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ImageIndex:
    """The images of a source, not yet decoded.

    Attributes:
        source: name of the source, e.g. "tiny-imagenet".
        location: where the images come from, for display; not part of the fingerprint.
        class_names: K unique names; a label is an index into them.
        class_titles: K display names; equal to `class_names` if the source has none.
        ids: N unique names, each the image's path inside the data set with its extension.
        labels: int64, (N,), in [0, K).
        official: N times "train", "val", "test", or "" if the source assigns the image to no split.
        read: returns the encoded bytes of the image at a position.
        warnings: problems in the data that the user should know, one line each.
        boxes: float32, (N, 4), the labelled object's left, top, right and bottom in pixels of the image, right and
            bottom exclusive; NaN if unknown. None if the source has no boxes.
        attribution: authors and licence, which everything that shows the images must state; "" if nothing demands it.
    """

    source: str
    location: str
    class_names: tuple[str, ...]
    class_titles: tuple[str, ...]
    ids: tuple[str, ...]
    labels: np.ndarray
    official: tuple[str, ...]
    read: Callable[[int], bytes]
    warnings: tuple[str, ...] = ()
    boxes: np.ndarray | None = None
    attribution: str = ""


@dataclass(frozen=True)
class SplitTable:
    """The images of each split.

    Attributes:
        positions: for each of "train", "val" and "test" the positions in the index, int64, ascending.
        test_origin: origin of the test images, one phrase for display.
        warnings: e.g. about classes with few images, one line each.
    """

    positions: dict[str, np.ndarray]
    test_origin: str
    warnings: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return a digest that differs between two splits of the same images."""
        content = hashlib.blake2b(digest_size=16)
        for split in SPLITS:
            content.update(split.encode() + np.asarray(self.positions[split], dtype="<i8").tobytes())
        return content.hexdigest()

    def counts(self, labels: np.ndarray, class_names: tuple[str, ...]) -> dict[str, dict[str, int]]:
        """Return the number of images per class and split."""
        tallies = {split: Counter(labels[where].tolist()) for split, where in self.positions.items()}
        return {name: {split: tallies[split][k] for split in SPLITS} for k, name in enumerate(class_names)}
