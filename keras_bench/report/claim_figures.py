"""Figures that published claims compare, and the words for each outcome. No TensorFlow."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from keras_bench.evaluation.statistics import mean_interval

HALF = 0.5


def mean_fall(curves: Iterable[Sequence[float]]) -> float | None:
    """Return how far val top-1 falls from one epoch to the next on average; 0 where it only rises.

    Args:
        curves: val top-1 by epoch, one curve per phase; a fall between two phases does not count.

    Returns:
        The mean fall, at least 0; None where no curve has two epochs.
    """
    steps = np.concatenate([np.diff(curve) for curve in curves])
    return float(np.maximum(0.0, -steps).mean()) if len(steps) else None


def half_areas(maps: np.ndarray) -> np.ndarray:
    """Return for each map the smallest share of its pixels that holds half of its sum: smaller is more focused.

    Args:
        maps: uint8, (N, side, side).

    Returns:
        float64, (N,), in (0, 1]; NaN for an empty map.
    """
    ordered = -np.sort(-maps.reshape(len(maps), -1).astype(np.float64), axis=1)
    total = ordered.sum(axis=1, keepdims=True)
    needed = (np.cumsum(ordered, axis=1) < HALF * total).sum(axis=1) + 1
    return np.where(total[:, 0] > 0, needed / ordered.shape[1], np.nan)


def words_for(more: float | None, less: float | None, shown: bool = True) -> str:
    """Return the outcome of a claim that `more` is above `less`.

    Args:
        more: the figure of the model claimed to be higher; None where it was not measured.
        less: the figure of the other model.
        shown: whether the difference exceeds chance over the images; true for figures without such a test.
    """
    if more is None or less is None:
        return "not measured here"
    if not shown or math.isclose(more, less, rel_tol=1e-9, abs_tol=1e-12):
        return "no difference shown"
    return "as published" if more > less else "the opposite"


def differ(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether the 95 % bootstrap interval of the mean difference over the same images excludes zero.

    Args:
        first: float, (N,); NaN leaves an image out.
        second: float, (N,), of the same images.
    """
    differences = first - second
    finite = differences[np.isfinite(differences)]
    return bool(len(finite)) and mean_interval(finite).clear_of_zero
