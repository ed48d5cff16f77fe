"""Findings about a data set before training: damage, duplicates, balance, sizes."""

from dataclasses import asdict, dataclass

from keras_bench.reading import record_of

# Begins the part of a problem that says how a run handles it; not shown for a run that already has its splits.
UNREADABLE = "unreadable images"  # how the problem that names them begins; a run warns of them itself
RUN_REMEDY = "; a run leaves "


@dataclass(frozen=True)
class DuplicateGroup:
    """Exact or near-duplicates.

    Attributes:
        kind: "exact" (the same pixels) or "near" (perceptual hashes and gray levels within the limits).
        ids: two or more image ids.
        splits: the split of each image.
        classes: the class name of each image.
    """

    kind: str
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class AlikeClass:
    """A class with so many near-duplicates that they are probably different images that look alike.

    Attributes:
        name: the class.
        ids: its near-duplicates in the split, without exact copies, sorted.
        of: number of images of the class in the split.
        examples: some pairs of one of those ids and the held-out image that it resembles.
    """

    name: str
    ids: tuple[str, ...]
    of: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Leaks:
    """Images of a split with duplicates in a held-out split: of train in val or test, of val in test.

    Attributes:
        held_out: "val or test", or "test".
        exact: ids of images with the same pixels as a held-out image, sorted.
        near: ids of all other images that are near-duplicates of one, sorted, including those of `alike`.
        alike: classes whose near-duplicates only the rule "near_always" leaves out.
    """

    held_out: str
    exact: tuple[str, ...]
    near: tuple[str, ...]
    alike: tuple[AlikeClass, ...]

    @property
    def count(self) -> int:
        """The number of images of the split with a held-out duplicate."""
        return len(self.exact) + len(self.near)

    def left_out(self, rule: str) -> dict[str, str]:
        """Return the reason for each id that a rule (dataset.remove_leaked) removes from the split."""
        same, near = f"same pixels as an image of {self.held_out}", f"near-duplicate of an image of {self.held_out}"
        alike = {image_id for group in self.alike for image_id in group.ids}
        spared = set(self.near) if rule == "exact" else alike if rule == "near" else set()
        if rule == "none":
            return {}
        return {**dict.fromkeys(self.exact, same), **{name: near for name in self.near if name not in spared}}

    def kept(self, rule: str) -> dict[str, str]:
        """Return the reason for each id that stays in the split although it has a held-out duplicate."""
        removed, alike = self.left_out(rule), {image_id for group in self.alike for image_id in group.ids}
        by_rule = f"kept by dataset.remove_leaked: {rule}"
        looks_alike = (
            f"{by_rule}: so many images of its class are near-duplicates that they are probably different images that "
            "look alike"
        )
        return {
            name: looks_alike if rule == "near" and name in alike else by_rule
            for name in (*self.exact, *self.near)
            if name not in removed
        }


@dataclass(frozen=True)
class Audit:
    """The findings about one data set.

    Attributes:
        source: name of the source.
        location: where the images come from, for display.
        fingerprint: digest of ids, labels and contents.
        images: number of images listed, readable or not.
        unreadable: reason by id, for each image that cannot be decoded.
        class_titles: display name by class name.
        images_per_class: number of readable images by class name and split.
        imbalance: size of the largest class divided by that of the smallest.
        widths: number of images by width in pixels.
        heights: number of images by height in pixels.
        modes: number of images by Pillow mode of the file ("RGB", "L", "CMYK" …).
        formats: number of images by file format.
        exact_groups: number of groups of images with the same pixels.
        near_groups: number of groups of near-duplicates.
        across_splits: number of images of val and test with an exact or near-duplicate in train.
        leaks: images of "train" with duplicates in val or test, and of "val" with duplicates in test.
        conflicting: number of groups whose images have different labels.
        groups: the groups themselves, those across splits first, at most a few hundred.
        near_distance: bits in which the perceptual hashes of near-duplicates may differ.
        near_likeness: least correlation of gray levels of near-duplicates, see `audit/likeness.py`.
        pretraining_overlap: one sentence if the data overlaps the backbones' pretraining data, else "".
        split: digest of the splits.
        imbalance_problem: one line if class sizes differ a lot, else "".
        problems: one line per finding that the user should act on; empty for clean data.
        animated: ids of GIF, PNG and WebP images with several frames, of which the first is used; empty in audits of
            earlier versions.
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
    animated: tuple[str, ...] = ()

    def title(self, name: str) -> str:
        """Return the class's title, followed by its name if they differ."""
        title = self.class_titles[name]
        return name if title == name else f"{title} ({name})"

    def to_json(self) -> dict[str, object]:
        """Return plain values for audit.json."""
        return asdict(self)

    @staticmethod
    def from_json(tree: dict[str, object]) -> "Audit":
        """Build the audit from audit.json's content."""
        return record_of(Audit, tree)


def class_totals(audit: Audit) -> list[int]:
    """Return the number of images per class over all splits."""
    return [sum(row.values()) for row in audit.images_per_class.values()]
