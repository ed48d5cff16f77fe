"""What a data source offers, and how its images are split."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ImageIndex:
    """The images of a source before anything is decoded.

    Attributes:
        source: name of the source, e.g. "tiny-imagenet".
        location: where the images lie, for people; never fingerprinted.
        class_names: K unique names; a label is an index into them.
        class_titles: K names for people; equal to `class_names` where the source has no better.
        ids: N unique names, each the image's path inside the data set with its extension.
        labels: int64, (N,), in [0, K).
        official: N of "train", "val", "test" or "" where the source places the image in no split.
        read: returns the encoded bytes of the image at a position.
        warnings: what a person should know about the data, one line each.
        boxes: float32, (N, 4), the labelled object's left, top, right and bottom in pixels of the image, right and
            bottom exclusive; NaN where unknown. None where the source has no boxes.
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


@dataclass(frozen=True)
class SplitTable:
    """Which images each split holds.

    Attributes:
        positions: for "train", "val" and "test" the positions in the index, int64, ascending.
        test_origin: one sentence that says where the test images come from.
        warnings: thin classes and the like, one line each.
    """

    positions: dict[str, np.ndarray]
    test_origin: str
    warnings: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return what tells two splits of the same images apart."""
        content = hashlib.blake2b(digest_size=16)
        for split in SPLITS:
            content.update(split.encode() + np.asarray(self.positions[split], dtype="<i8").tobytes())
        return content.hexdigest()

    def counts(self, labels: np.ndarray, class_names: tuple[str, ...]) -> dict[str, dict[str, int]]:
        """Return for each class how many images each split holds."""
        tallies = {split: Counter(labels[where].tolist()) for split, where in self.positions.items()}
        return {name: {split: tallies[split][k] for split in SPLITS} for k, name in enumerate(class_names)}
