"""Inspects a data set before training: damage, duplicates, balance, sizes. No TensorFlow."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import imagehash
import numpy as np

from keras_bench.audit.duplicates import NEAR_DISTANCE, find_duplicates
from keras_bench.audit.findings import RUN_REMEDY, UNREADABLE, Audit, DuplicateGroup, Leaks
from keras_bench.audit.leaks import ALIKE_SHARE, find_leaks
from keras_bench.audit.likeness import HASHED_SIDE, MIN_LIKENESS, compared_levels, copies, gray_reduction
from keras_bench.console import Log
from keras_bench.data.index import ImageIndex, SplitTable
from keras_bench.data.splits import FEW_IMAGES
from keras_bench.data.store import ImageStore, decoding_threads
from keras_bench.images import ANIMATED_FORMATS, UnreadableImageError, is_animated, read_header

FLAT = 3.0  # standard deviation of gray levels below which an image has no structure to compare
MAX_IMBALANCE = 3.0  # ratio of largest to smallest class from which imbalance is a problem
IMAGES_PER_BLOCK = 64  # images that a thread inspects at a time
MAX_GROUPS = 200  # groups listed; all are counted
MAX_NAMED_CLASSES = 3  # named in a problem
MAX_NAMED_IMAGES = 10

_FROM_IMAGENET = ("imagenette", "imagewoof", "imagenet", "stanford_dogs")


@dataclass(frozen=True)
class ImageFacts:
    """What is kept of one readable image.

    Attributes:
        digest: of its size and pixels.
        phash: perceptual hash, 64 bits; None for an image too small or without structure.
        size: width and height, pixels.
        format: of the file, e.g. "JPEG".
        mode: Pillow's, e.g. "RGB", "L".
        is_animated: whether the file holds further frames.
    """

    digest: bytes
    phash: int | None
    size: tuple[int, int]
    format: str
    mode: str
    is_animated: bool = False


def audit_images(index: ImageIndex, splits: SplitTable, store: ImageStore, fingerprint: str, log: Log) -> Audit:
    """Return the findings about the images of this fingerprint; each is decoded once, and nothing is written."""
    facts, unreadable = _inspect_all(index, store, log)
    split_of = {int(i): split for split, where in splits.positions.items() for i in where}
    readable = sorted(facts)
    groups = _duplicate_groups(index, store, facts, split_of)
    counts = splits.counts(index.labels, index.class_names)
    totals = [sum(row.values()) for row in counts.values()]
    sizes = Counter(facts[i].size for i in readable)
    audit = Audit(
        source=index.source,
        location=index.location,
        fingerprint=fingerprint,
        images=len(index.ids),
        unreadable={index.ids[i]: why for i, why in sorted(unreadable.items())},
        class_titles=dict(zip(index.class_names, index.class_titles, strict=True)),
        images_per_class=counts,
        imbalance=max(totals) / max(1, min(totals)),
        widths=_tally(sizes, 0),
        heights=_tally(sizes, 1),
        modes=dict(Counter(facts[i].mode for i in readable).most_common()),
        formats=dict(Counter(facts[i].format for i in readable).most_common()),
        exact_groups=sum(group.kind == "exact" for group in groups),
        near_groups=sum(group.kind == "near" for group in groups),
        across_splits=sum(_held_out_in_train(group) for group in groups),
        leaks=find_leaks(index, {i: facts[i].digest for i in readable}, groups, split_of),
        conflicting=sum(len(set(group.classes)) > 1 for group in groups),
        groups=tuple(groups[:MAX_GROUPS]),
        near_distance=NEAR_DISTANCE,
        near_likeness=MIN_LIKENESS,
        pretraining_overlap=_pretraining_overlap(index),
        split=splits.digest(),
        imbalance_problem="",
        problems=(),
        animated=tuple(index.ids[i] for i in readable if facts[i].is_animated),
    )
    audit = replace(audit, imbalance_problem=_imbalance_problem(audit))
    return replace(audit, problems=tuple(_problems(audit)))


def _inspect_all(index: ImageIndex, store: ImageStore, log: Log) -> tuple[dict[int, ImageFacts], dict[int, str]]:
    """Return the facts of each readable image and the reason for each unreadable one, by position."""
    facts: dict[int, ImageFacts] = {}
    unreadable: dict[int, str] = {}
    blocks = [
        range(start, min(start + IMAGES_PER_BLOCK, len(index.ids)))
        for start in range(0, len(index.ids), IMAGES_PER_BLOCK)
    ]
    title = "looking for duplicates"
    with log.progress(title, len(index.ids), "images") as advance, ThreadPoolExecutor(decoding_threads(index)) as pool:
        for block, results in zip(blocks, pool.map(lambda block: _inspect(index, store, block), blocks), strict=True):
            for i, result in zip(block, results, strict=True):
                if isinstance(result, str):
                    unreadable[i] = result
                else:
                    facts[i] = result
            advance(len(block))
    return facts, unreadable


def _duplicate_groups(
    index: ImageIndex, store: ImageStore, facts: dict[int, ImageFacts], split_of: dict[int, str]
) -> list[DuplicateGroup]:
    """Return all groups of duplicates, those that train shares with another split first."""
    readable = sorted(facts)
    links = find_duplicates(
        [facts[i].digest for i in readable],
        [facts[i].phash for i in readable],
        # Candidates are few: reducing them again is cheaper than keeping the reductions of all images.
        lambda pairs: copies(pairs, lambda candidate: compared_levels(store.image(readable[candidate]))),
    )
    groups = [
        DuplicateGroup(
            kind=kind,
            ids=tuple(index.ids[readable[i]] for i in members),
            splits=tuple(split_of.get(readable[i], "unused") for i in members),
            classes=tuple(index.class_names[index.labels[readable[i]]] for i in members),
        )
        for kind, members in links
    ]
    return sorted(
        groups, key=lambda group: ("train" not in group.splits or len(set(group.splits)) < 2, group.kind, group.ids)
    )


def _inspect(index: ImageIndex, store: ImageStore, positions: Iterable[int]) -> list[ImageFacts | str]:
    """Return the facts of each image, or why it cannot be read."""
    results: list[ImageFacts | str] = []
    for position in positions:
        try:
            pixels, data = store.image(position), index.read(position)
            facts = _facts(pixels, *read_header(data))
            animated = facts.format in ANIMATED_FORMATS and is_animated(data)
            results.append(replace(facts, is_animated=animated))
        except (UnreadableImageError, OSError) as error:
            results.append(str(error).removeprefix(f"{index.ids[position]}: "))
    return results


def _facts(pixels: np.ndarray, file_format: str, mode: str) -> ImageFacts:
    height, width, _ = pixels.shape
    digest = hashlib.blake2b(pixels.data, digest_size=16, salt=str(width).encode()).digest()
    if min(width, height) < HASHED_SIDE:
        return ImageFacts(digest, None, (width, height), file_format, mode)
    small = gray_reduction(pixels)  # reduced here rather than in phash, in order to see whether the image is flat
    if np.asarray(small).std() < FLAT:
        return ImageFacts(digest, None, (width, height), file_format, mode)
    bits = np.packbits(imagehash.phash(small).hash)
    return ImageFacts(digest, int.from_bytes(bits.tobytes(), "big"), (width, height), file_format, mode)


def _tally(sizes: Counter[tuple[int, int]], axis: int) -> dict[int, int]:
    sides: Counter[int] = Counter()
    for size, count in sizes.items():
        sides[size[axis]] += count
    return dict(sorted(sides.items()))


def _held_out_in_train(group: DuplicateGroup) -> int:
    """Return the number of the group's images in val and test, or 0 if none of its images is in train."""
    return sum(split in ("val", "test") for split in group.splits) if "train" in group.splits else 0


def _pretraining_overlap(index: ImageIndex) -> str:
    has_wordnet_names = all(re.fullmatch(r"n\d{8}", name) for name in index.class_names)
    if index.source == "tiny-imagenet" or has_wordnet_names:
        return (
            "These classes are WordNet classes as in ImageNet-1k, on whose training images the ImageNet weights were "
            "made: backbones with those weights may have seen these very images, test included."
        )
    if index.source == "tfds" and any(name in index.location for name in _FROM_IMAGENET):
        return "This data set is drawn from ImageNet, on which the ImageNet weights were trained, test included."
    return ""


def _problems(audit: Audit) -> list[str]:
    """Return one line per finding that the user should act on."""
    lines = []
    if audit.unreadable:
        named = "; ".join(f"{name}: {why}" for name, why in islice(audit.unreadable.items(), MAX_NAMED_IMAGES))
        more = "; …; --json and --html list all of them" if len(audit.unreadable) > MAX_NAMED_IMAGES else ""
        lines.append(f"{UNREADABLE}: {len(audit.unreadable):,}, which are left out of every split: {named}{more}")
    if audit.across_splits:
        pairs = "; ".join(" = ".join(group.ids[:2]) for group in audit.groups[:2] if _held_out_in_train(group))
        lines.append(
            f"val or test images with an exact or near-duplicate in train: {audit.across_splits}, which flatters every "
            f"model ({pairs}){RUN_REMEDY}the ones of train out, as dataset.remove_leaked says"
        )
    if audit.leaks["val"].count:
        leaks = audit.leaks["val"]
        lines.append(
            f"val images that test holds too, exactly or nearly: {leaks.count}, e.g. {(leaks.exact + leaks.near)[0]}; "
            f"choices made on them would have seen test{RUN_REMEDY}them out of val, as dataset.remove_leaked says"
        )
    lines += [_alike_problem(audit, split, leaks) for split, leaks in audit.leaks.items() if leaks.alike]
    if audit.exact_groups + audit.near_groups:
        lines.append(
            f"groups of duplicates: {audit.exact_groups} exact, {audit.near_groups} near; their images weigh more than "
            "others"
        )
    if audit.conflicting:
        lines.append(f"groups of duplicates with different labels: {audit.conflicting}; some label of each is wrong")
    if audit.imbalance_problem:
        lines.append(audit.imbalance_problem)
    small = [name for name, row in audit.images_per_class.items() if row["train"] < FEW_IMAGES]
    if small:
        lines.append(
            f"classes with fewer than {FEW_IMAGES} training images: {len(small)}, e.g. {audit.title(small[0])!r}"
        )
    return lines


def _alike_problem(audit: Audit, split: str, leaks: Leaks) -> str:
    """Name the classes that would lose many images of a split as near-duplicates, with pairs to inspect."""
    most = sorted(leaks.alike, key=lambda alike: -len(alike.ids))
    classes = ", ".join(
        f"{audit.title(alike.name)!r} {len(alike.ids)} of {alike.of}" for alike in most[:MAX_NAMED_CLASSES]
    )
    pairs = "; ".join(" ~ ".join(alike.examples[0]) for alike in most[:MAX_NAMED_CLASSES])
    more = f" and {len(most) - MAX_NAMED_CLASSES} more" if len(most) > MAX_NAMED_CLASSES else ""
    return (
        f"{split}: classes with more than {ALIKE_SHARE:.0%} near-duplicates of {leaks.held_out}: {len(most)} ({classes}"
        f"{more}; look at {pairs}); so many are probably different images that look alike: dataset.remove_leaked=near "
        "keeps them, near_always leaves them out"
    )


def _imbalance_problem(audit: Audit) -> str:
    if audit.imbalance < MAX_IMBALANCE:
        return ""
    totals = {name: sum(row.values()) for name, row in audit.images_per_class.items()}
    most, least = max(totals, key=lambda name: totals[name]), min(totals, key=lambda name: totals[name])
    return (
        f"class {audit.title(most)!r} has {totals[most]:,} images, {audit.title(least)!r} {totals[least]:,} "
        f"({audit.imbalance:.1f} to 1); read balanced accuracy rather than top-1, and try training.imbalance: "
        "`keras-bench sweep imbalance` compares the ways"
    )
