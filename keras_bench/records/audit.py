"""What was found in a data set before training: damage, duplicates, balance, sizes."""

from dataclasses import asdict, dataclass
from typing import Any

from keras_bench.records.reading import record_of


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that are the same, or nearly.

    Attributes:
        kind: "exact" (the same pixels) or "near" (perceptual hashes within the limit).
        ids: two or more image ids.
        splits: the split of each.
        classes: the class name of each.
    """

    kind: str
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """The findings over one data set.

    Attributes:
        source: name of the source.
        location: where the images lie, for people.
        fingerprint: digest of ids, labels and contents.
        images: how many images were listed, readable or not.
        unreadable: why, for each id that cannot be decoded.
        class_titles: for each class name what people call the class.
        images_per_class: for each class name the readable images of each split.
        imbalance: images of the largest class over those of the smallest.
        widths: for each width in pixels how many images have it.
        heights: the same for heights.
        modes: for each Pillow mode of the files ("RGB", "L", "CMYK" …) how many.
        formats: for each file format how many.
        exact_groups: number of groups of images with the same pixels.
        near_groups: number of groups of near-duplicates beside them.
        across_splits: images of val and test that have an exact or near-duplicate in train.
        leaked_exact: ids of training images that val or test hold too, pixel for pixel.
        leaked_near: ids of those and of training images that are near-duplicates of one in val or test.
        conflicting: groups whose images carry different labels.
        groups: the groups themselves, those across splits first, at most some hundreds.
        near_distance: bits in which the perceptual hashes of near-duplicates may differ.
        pretraining_overlap: one sentence where the data overlaps the data the backbones were pretrained on, else "".
        split: digest of which images train, choose and report.
        imbalance_problem: a line if class sizes differ by a lot, else "".
        problems: one line for each finding a person should act on; empty for clean data.
    """

    source: str
    location: str
    fingerprint: str
    images: int
    unreadable: dict[str, str]
    class_titles: dict[str, str]
    images_per_class: dict[str, dict[str, int]]
    imbalance: float
    widths: dict[int, int]
    heights: dict[int, int]
    modes: dict[str, int]
    formats: dict[str, int]
    exact_groups: int
    near_groups: int
    across_splits: int
    leaked_exact: tuple[str, ...]
    leaked_near: tuple[str, ...]
    conflicting: int
    groups: tuple[DuplicateGroup, ...]
    near_distance: int
    pretraining_overlap: str
    split: str
    imbalance_problem: str
    problems: tuple[str, ...]

    def title(self, name: str) -> str:
        """Return the class's title with its name behind it where they differ."""
        title = self.class_titles[name]
        return name if title == name else f"{title} ({name})"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for audit.json."""
        return asdict(self)

    @staticmethod
    def from_json(tree: dict[str, Any]) -> "Audit":
        """Rebuild the value from audit.json's content."""
        return record_of(Audit, tree)
