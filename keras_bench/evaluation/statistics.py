"""Error bars and paired tests from saved predictions. NumPy and SciPy only.

A share of images (top-1, top-5, the recall of a class) has Wilson's score interval (Wilson 1927), which is also valid
at 0 and 100 %. Every other interval is a percentile bootstrap (Efron and Tibshirani 1993, chapter 13) over images. A
resample is stored as how often it contains each image, so a metric in all resamples is the product of the matrix of
counts and each image's contribution. All models share the counts, which makes differences between them paired. If all
resamples give the same value, as for a macro-F1 of 1, the bootstrap says nothing, and the interval is not defined.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from keras_bench.evaluation.bootstrap import CHUNK, recall_distribution
from keras_bench.evaluation.metrics import METRICS, Estimator, ShareOfImages
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import Interval, PairedTest

RESAMPLES = 2000
LEVEL = 0.95
COLLAPSED = 1e-9  # relative width up to which an interval is only rounding error


def draw_counts(images: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return how often each image occurs in each resample, float32, (resamples, images); rows sum to `images`."""
    generator = np.random.default_rng(seed)
    counts = np.empty((resamples, images), dtype=np.float32)
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = generator.integers(0, images, (rows, images)) + images * np.arange(rows)[:, None]
        counts[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)
    return counts


def share_interval(count: int, images: int) -> Interval:
    """Return the share `count` / `images` with its Wilson interval.

    Args:
        count: number of hits, in [0, images].
        images: number of images, at least one.
    """
    share = count / images
    ends = stats.binomtest(count, images).proportion_ci(LEVEL, method="wilson")
    return Interval(share, min(share, float(ends.low)), max(share, float(ends.high)))


def proportion_interval(correct: np.ndarray) -> Interval:
    """Return the share of true values, bool, (N,), with its Wilson interval."""
    return share_interval(int(np.count_nonzero(correct)), len(correct))


def percentile_interval(value: float, distribution: np.ndarray) -> Interval:
    """Return the estimate with the percentile interval of its bootstrap distribution, (resamples,).

    The interval is not defined if all resamples give the same value.
    """
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(distribution, (tail, 1 - tail))
    if high - low <= COLLAPSED * max(1.0, abs(high)):
        return Interval(float(value))
    return Interval(float(value), float(low), float(high))


def mean_interval(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Return the mean of per-image values, float, (N,), with its bootstrap interval; hits have Wilson's instead."""
    counts = draw_counts(len(values), resamples, seed)
    return percentile_interval(float(values.mean()), counts @ values.astype(np.float64) / len(values))


def metric_intervals(predictions: Predictions, counts: np.ndarray) -> dict[str, Interval | None]:
    """Return each of METRICS with its interval; None where the metric is not defined.

    In each resample, macro averages are over the classes that have an image or (for F1) a prediction in it.

    Args:
        predictions: N images of one split.
        counts: float32, (resamples, N), from `draw_counts`.
    """
    return {name: _metric_interval(metric.estimator, predictions, counts) for name, metric in METRICS.items()}


def _metric_interval(estimator: Estimator, predictions: Predictions, counts: np.ndarray) -> Interval | None:
    if isinstance(estimator, ShareOfImages):
        hits = estimator.hits(predictions)
        return None if hits is None else proportion_interval(hits)
    value = estimator.value(predictions)
    return None if value is None else percentile_interval(value, estimator.distribution(predictions, counts))


def top1_interval(correct: np.ndarray, counts: np.ndarray) -> Interval:
    """Return the top-1 of one run with its Wilson interval, or of several runs with a bootstrap interval.

    Args:
        correct: whether each prediction is correct, bool, (N,); for several runs, the share of runs in which it is,
            float, (N,).
        counts: float32, (resamples, N), from `draw_counts`.
    """
    if correct.dtype == np.bool_:
        return proportion_interval(correct)
    return percentile_interval(float(correct.mean()), counts @ correct.astype(np.float64) / len(correct))


def recall_interval(correct: np.ndarray, labels: np.ndarray, classes: Sequence[int], counts: np.ndarray) -> Interval:
    """Return the mean recall of some classes with its bootstrap interval; for one class of one run, with Wilson's.

    A class without images in a resample is left out of that resample's mean.

    Args:
        correct: as in `top1_interval`.
        labels: int64, (N,).
        classes: class numbers, each with at least one image.
        counts: float32, (resamples, N), from `draw_counts`.
    """
    if len(classes) == 1 and correct.dtype == np.bool_:
        return proportion_interval(correct[labels == classes[0]])
    value = float(np.mean([correct[labels == k].mean() for k in classes]))
    return percentile_interval(value, recall_distribution(correct, labels, classes, counts))


def holm_corrected(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """Return the tests of one table with Holm's correction over all of them."""
    corrected = holm([test.p_value for test in tests])
    return [replace(test, p_holm=p) for test, p in zip(tests, corrected, strict=True)]


def paired_top1_test(
    label: str, correct: np.ndarray, other_label: str, other_correct: np.ndarray, counts: np.ndarray
) -> PairedTest:
    """Test two models on the same images, without a correction for multiple tests.

    Args:
        label: label of the first model.
        correct: whether each of its predictions is correct, bool, (N,).
        other_label: label of the second model.
        other_correct: whether each of its predictions is correct, bool, (N,).
        counts: float32, (resamples, N), from `draw_counts`.
    """
    difference = correct.astype(np.float32) - other_correct.astype(np.float32)
    only_first, only_second = int((correct & ~other_correct).sum()), int((other_correct & ~correct).sum())
    p_value = mcnemar(only_first, only_second)
    interval = percentile_interval(float(difference.mean()), counts @ difference / len(difference))
    return PairedTest(label, other_label, only_first, only_second, interval, p_value, p_value)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of the exact McNemar test (1947): one fair coin per image classified differently."""
    differing = only_first + only_second
    return float(stats.binomtest(only_first, differing).pvalue) if differing else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for multiple tests with Holm's step-down method (1979)."""
    order = np.argsort(p_values, kind="stable")
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected
