"""Assigns images to train, val and test: stratified, seeded, stable.

Each class is shuffled with its own generator, so adding a class or an image leaves the order of the other classes
unchanged, and a smaller fraction uses a subset of the images of a larger one.
"""

import numpy as np

from keras_bench.config import DatasetConfig
from keras_bench.data.index import SPLITS, ImageIndex, SplitTable
from keras_bench.errors import UserError

FEW_IMAGES = 10  # a class with fewer training images is warned about
_MOST_WARNINGS = 5


def split_images(index: ImageIndex, config: DatasetConfig, usable: np.ndarray | None = None) -> SplitTable:
    """Assign images to train, val and test.

    Official test images form the test split. If a source has an official val but no test, that val becomes the test,
    and val is held out of train. If it has neither, the test split is drawn too. `validation_fraction` and
    `test_fraction` are shares of the images that are not in an official val or test. `fraction`, `limit_per_class`
    and then `long_tail` reduce train and val only, so that test results stay comparable.

    Args:
        index: the images.
        config: fractions, limits and the split's seed.
        usable: bool, (N,), which images may be used, e.g. those that can be decoded. None: all.

    Raises:
        UserError: a class has too few images for all splits.
    """
    usable = np.ones(len(index.ids), dtype=bool) if usable is None else usable
    official = np.where(usable, np.array(index.official, dtype=object), "unreadable")
    has_val, has_test = bool((official == "val").any()), bool((official == "test").any())
    if has_val and not has_test:
        official[official == "val"] = "test"
        test_origin = "the source's labelled validation images; val is held out of train"
    elif has_test:
        test_origin = "the source's test images"
    else:
        test_origin = f"{config.test_fraction:.0%} of all images, held out"
    keeps_val = has_val and has_test
    assigned = official.copy()
    for k in range(len(index.class_names)):
        pool = np.flatnonzero((index.labels == k) & np.isin(official, ["", "train"]))
        order = np.random.default_rng([config.split_seed, k]).permutation(pool)
        test_count = 0 if has_val or has_test else _share(len(pool), config.test_fraction)
        val_count = 0 if keeps_val else _share(len(pool), config.validation_fraction)
        assigned[order[:test_count]] = "test"
        share = config.long_tail ** (-k / max(1, len(index.class_names) - 1))  # Cui et al., arXiv:1901.05555
        rest = _reduce(order[test_count:], config, share)
        assigned[order[test_count:]] = "unused"
        val_count = min(val_count, _share(len(rest), val_count / max(1, len(order) - test_count)))
        assigned[rest[:val_count]] = "val"
        assigned[rest[val_count:]] = "train"
        if keeps_val:
            _reduce_official_val(assigned, np.flatnonzero((index.labels == k) & (official == "val")), k, config, share)
    positions = {split: np.flatnonzero(assigned == split) for split in SPLITS}
    return SplitTable(positions, test_origin, _check_counts(index, positions))


def _reduce_official_val(
    assigned: np.ndarray, official_val: np.ndarray, label: int, config: DatasetConfig, share: float
) -> None:
    """Keep as many of a class's official val images as its train images are reduced to; the others are unused."""
    order = np.random.default_rng([config.split_seed, label, 1]).permutation(official_val)
    assigned[official_val] = "unused"
    assigned[_reduce(order, config, share)] = "val"


def _share(count: int, fraction: float) -> int:
    """Return a share of `count`, rounded, but at least one if neither is zero."""
    return max(1, round(count * fraction)) if fraction > 0 and count > 0 else 0


def _reduce(order: np.ndarray, config: DatasetConfig, share: float) -> np.ndarray:
    """Return the first images of `order`, as many as fraction, limit and the class's long-tail share allow."""
    keep = len(order) if config.fraction == 1 else _share(len(order), config.fraction)
    return order[: _share(min(keep, config.limit_per_class or keep), share)]


def _check_counts(index: ImageIndex, positions: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Return warnings about classes with few training images; refuse a class that a split lacks."""
    warnings = []
    for k, name in enumerate(index.class_names):
        counts = {split: int((index.labels[where] == k).sum()) for split, where in positions.items()}
        empty = [split for split, count in counts.items() if count == 0]
        if empty:
            total = sum(counts.values())
            raise UserError(
                f"{index.location}: class {name!r} has too few images ({total}): none is left for "
                f"{' and '.join(empty)}; add images, or leave the class out with dataset.classes"
            )
        if counts["train"] < FEW_IMAGES:
            warnings.append(f"class {name!r} has only {counts['train']} training images")
    if len(warnings) > _MOST_WARNINGS:
        warnings = [
            *warnings[:_MOST_WARNINGS],
            f"and {len(warnings) - _MOST_WARNINGS} more classes with fewer than {FEW_IMAGES} training images",
        ]
    return tuple(warnings)
