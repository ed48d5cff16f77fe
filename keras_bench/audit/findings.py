"""What was found in a data set before training: damage, duplicates, balance, sizes."""

from dataclasses import asdict, dataclass
from typing import Any

from keras_bench.reading import record_of

# What a problem says that a run does about it, after what was found; a run that was begun keeps its splits.
A_RUN_LEAVES = "; a run leaves "


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that are the same, or nearly.

    Attributes:
        kind: "exact" (the same pixels) or "near" (perceptual hashes and gray levels within the limits).
        ids: two or more image ids.
        splits: the split of each.
        classes: the class name of each.
    """

    kind: str
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class AlikeClass:
    """A class that would lose so many near-duplicates that they are rather different images that look alike.

    Attributes:
        name: the class.
        ids: its near-duplicates in the split, without exact copies, sorted.
        of: images that the split has of the class.
        examples: some pairs: one of those ids, and the image held out that it resembles.
    """

    name: str
    ids: tuple[str, ...]
    of: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Leaks:
    """Images of a split that another, held out from it, holds too: those of train in val or test, of val in test.

    Attributes:
        held_out: "val or test", or "test".
        exact: ids of images with the same pixels as one held out, sorted.
        near: ids of near-duplicates beside them, sorted, those of `alike` too.
        alike: classes whose near-duplicates are left out only by the rule "near_always".
    """

    held_out: str
    exact: tuple[str, ...]
    near: tuple[str, ...]
    alike: tuple[AlikeClass, ...]

    @property
    def count(self) -> int:
        """How many images of the split are held out too, or nearly."""
        return len(self.exact) + len(self.near)

    def left_out(self, rule: str) -> dict[str, str]:
        """Return why, for each id that a rule (dataset.remove_leaked) takes out of the split."""
        same, near = f"same pixels as an image of {self.held_out}", f"near-duplicate of an image of {self.held_out}"
        alike = {image_id for group in self.alike for image_id in group.ids}
        spared = set(self.near) if rule == "exact" else alike if rule == "near" else set()
        if rule == "none":
            return {}
        return {**dict.fromkeys(self.exact, same), **{name: near for name in self.near if name not in spared}}

    def kept(self, rule: str) -> dict[str, str]:
        """Return why, for each id that stays in the split although another holds it too, or nearly."""
        gone, alike = self.left_out(rule), {image_id for group in self.alike for image_id in group.ids}
        why = f"kept by dataset.remove_leaked: {rule}"
        many = f"{why}: so many of its class are near-duplicates that they are rather different images alike"
        return {
            name: many if rule == "near" and name in alike else why
            for name in (*self.exact, *self.near)
            if name not in gone
        }


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
        leaks: images of "train" that val or test hold too, and of "val" that test holds too.
        conflicting: groups whose images carry different labels.
        groups: the groups themselves, those across splits first, at most some hundreds.
        near_distance: bits in which the perceptual hashes of near-duplicates may differ.
        near_likeness: correlation of gray levels that near-duplicates have at least, in a second look.
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
    leaks: dict[str, Leaks]
    conflicting: int
    groups: tuple[DuplicateGroup, ...]
    near_distance: int
    near_likeness: float
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


def class_totals(audit: Audit) -> list[int]:
    """Return the number of images of each class over all splits."""
    return [sum(row.values()) for row in audit.images_per_class.values()]
