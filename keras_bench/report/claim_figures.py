"""Figures that published claims are about, and the words for how a claim fares. No TensorFlow."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from keras_bench.evaluation.statistics import mean_interval

HALF = 0.5


def mean_fall(curves: Iterable[Sequence[float]]) -> float | None:
    """Return how far a curve falls from one epoch to the next on average, 0 where it only rises.

    Args:
        curves: val top-1 over the epochs of each phase; phases are not joined. None comes back where no curve has two
            epochs.
    """
    steps = np.concatenate([np.diff(curve) for curve in curves])
    return float(np.maximum(0.0, -steps).mean()) if len(steps) else None


def half_areas(maps: np.ndarray) -> np.ndarray:
    """Return for each map the smallest share of its pixels that holds half of its sum: the less, the more focused.

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
    """Return how a claim that `more` is above `less` fares.

    Args:
        more: the figure of the model said to have more; None where it was not measured.
        less: that of the other.
        shown: whether the difference is more than chance over the images; for figures without such a test, true.
    """
    if more is None or less is None:
        return "not measured here"
    if not shown or math.isclose(more, less, rel_tol=1e-9, abs_tol=1e-12):
        return "no difference shown"
    return "as published" if more > less else "the opposite"


def differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether the mean difference over the same images is clear of zero, with a 95 % bootstrap interval."""
    gaps = one - other
    known = gaps[np.isfinite(gaps)]
    return bool(len(known)) and mean_interval(known).clear_of_zero
