"""Error bars and paired tests from saved predictions; NumPy and SciPy only.

A share of images (top-1, top-5, the recall of a class) has Wilson's score interval (Wilson 1927), which holds at 0 and
100 % too. Every other interval is a percentile bootstrap (Efron and Tibshirani 1993, chapter 13) over images: an
image's multiplicity in a resample is a count, so that a metric over all resamples is a product of the matrix of counts
with what each image contributes. All models share the counts, which makes differences between them paired. Where all
resamples give the same, as for a macro-F1 of 1, the bootstrap says nothing, and the interval is not defined.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse, stats

from keras_bench.evaluation.intervals import Interval, PairedTest
from keras_bench.evaluation.metrics import SMALLEST, compute_metrics, in_top_k
from keras_bench.evaluation.predictions import Predictions

RESAMPLES = 2000
LEVEL = 0.95
COLLAPSED = 1e-9  # a bootstrap interval no wider than rounding makes it
_ROWS = 256  # resamples, or positives of the AUC, handled at once: bounds memory


def draw_counts(images: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return how often each image occurs in each resample, float32, (resamples, images); rows sum to `images`."""
    generator = np.random.default_rng(seed)
    counts = np.empty((resamples, images), dtype=np.float32)
    for start in range(0, resamples, _ROWS):
        rows = min(_ROWS, resamples - start)
        drawn = generator.integers(0, images, (rows, images)) + images * np.arange(rows)[:, None]
        counts[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)
    return counts


def share_interval(count: int, images: int) -> Interval:
    """Return `count` of `images` as a share, with its Wilson interval.

    Args:
        count: images that count, in [0, images].
        images: all images, at least one.
    """
    share = count / images
    ends = stats.binomtest(count, images).proportion_ci(LEVEL, method="wilson")
    return Interval(share, min(share, float(ends.low)), max(share, float(ends.high)))


def proportion_interval(right: np.ndarray) -> Interval:
    """Return the share of true values, bool, (N,), with its Wilson interval."""
    return share_interval(int(np.count_nonzero(right)), len(right))


def interval(value: float, distribution: np.ndarray) -> Interval:
    """Return the estimate with the percentile interval of its bootstrap distribution, (resamples,).

    The interval is not defined where the resamples do not differ.
    """
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(distribution, (tail, 1 - tail))
    if high - low <= COLLAPSED * max(1.0, abs(high)):
        return Interval(float(value))
    return Interval(float(value), float(low), float(high))


def mean_interval(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Return the mean of per-image values other than right and wrong, float, (N,), with its bootstrap interval."""
    counts = draw_counts(len(values), resamples, seed)
    return interval(float(values.mean()), counts @ values.astype(np.float64) / len(values))


def metric_intervals(predictions: Predictions, counts: np.ndarray) -> dict[str, Interval | None]:
    """Return each metric of SplitMetrics with its interval; None where the metric is not defined.

    Top-1 and top-5 have Wilson intervals, the others bootstrap intervals. In a resample, macro averages run over the
    classes it holds an image or (for F1) an answer of.

    Args:
        predictions: N images of one split.
        counts: float32, (resamples, N), from `draw_counts`.
    """
    labels, probabilities = predictions.labels, predictions.probabilities.astype(np.float64)
    images, classes = probabilities.shape
    values = compute_metrics(predictions)
    of_true = np.maximum(probabilities[np.arange(images), labels], SMALLEST)
    recall, f1 = _class_averages(labels, probabilities.argmax(axis=1), classes, counts)
    top5 = None if values.top5 is None else proportion_interval(in_top_k(labels, probabilities, 5))
    return {
        "cross_entropy": interval(values.cross_entropy, counts @ -np.log(of_true) / images),
        "top1": proportion_interval(predictions.right),
        "top5": top5,
        "balanced_accuracy": interval(values.balanced_accuracy, recall),
        "macro_f1": interval(values.macro_f1, f1),
        "macro_auc": None
        if values.macro_auc is None
        else interval(values.macro_auc, auc_distribution(labels, probabilities, counts)),
    }


def top1_interval(right: np.ndarray, counts: np.ndarray) -> Interval:
    """Return top-1 of one run with its Wilson interval, or of several with a bootstrap interval.

    Args:
        right: whether each answer is right, bool, (N,), or the share of several runs that are right, float, (N,).
        counts: float32, (resamples, N), from `draw_counts`.
    """
    if right.dtype == np.bool_:
        return proportion_interval(right)
    return interval(float(right.mean()), counts @ right.astype(np.float32) / len(right))


def recall_interval(right: np.ndarray, labels: np.ndarray, classes: Sequence[int], counts: np.ndarray) -> Interval:
    """Return the mean recall of some classes with its bootstrap interval, or of one class and run with Wilson's.

    A class that a resample holds no image of is left out of that resample's mean.

    Args:
        right: as in `top1_interval`.
        labels: int64, (N,).
        classes: class numbers, each with at least one image.
        counts: float32, (resamples, N), from `draw_counts`.
    """
    if len(classes) == 1 and right.dtype == np.bool_:
        return proportion_interval(right[labels == classes[0]])
    groups = int(labels.max()) + 1
    hits = _sum_by(labels, right, groups, counts)[list(classes)]
    support = _sum_by(labels, np.ones(len(labels)), groups, counts)[list(classes)]
    with np.errstate(invalid="ignore"):
        recall = np.where(support > 0, hits / support, np.nan)
    value = float(np.mean([right[labels == k].mean() for k in classes]))
    return interval(value, _mean_of_defined(recall))


def _class_averages(
    labels: np.ndarray, answers: np.ndarray, classes: int, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean recall and mean F1 of each resample, (resamples,) each."""
    right = labels == answers
    support = _sum_by(labels, np.ones(len(labels)), classes, counts)
    answered = _sum_by(answers, np.ones(len(labels)), classes, counts)
    hits = _sum_by(labels, right, classes, counts)
    with np.errstate(invalid="ignore"):
        recall = np.where(support > 0, hits / support, np.nan)
        f1 = np.where(support + answered > 0, 2 * hits / (support + answered), np.nan)
    return _mean_of_defined(recall), _mean_of_defined(f1)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return each resample's mean over the classes defined in it, float64; NaN where none is."""
    count = np.isfinite(values).sum(axis=0)
    return np.asarray(np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan))


def _sum_by(group: np.ndarray, weights: np.ndarray, groups: int, counts: np.ndarray) -> np.ndarray:
    """Return for each group and resample the sum of count × weight, float64, (groups, resamples)."""
    images = np.arange(len(group))
    membership = sparse.csr_matrix((weights.astype(np.float64), (group, images)), shape=(groups, len(group)))
    return membership @ counts.T


def auc_distribution(labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean one-vs-rest area under the ROC curve of each resample, float64, (resamples,).

    The area is the Mann–Whitney statistic: the share of (positive, negative) pairs in which the positive has the
    higher probability, ties counting half (Hanley and McNeil 1982). With multiplicities w the number of such pairs
    is Σ_i w_i (S w)_i, where S compares positives with negatives: one matrix product for all resamples.

    Args:
        labels: int64, (N,), each class with at least one image.
        probabilities: float, (N, K).
        counts: float32, (resamples, N).
    """
    images, classes = probabilities.shape
    order = np.argsort(labels, kind="stable")
    columns = np.ascontiguousarray(probabilities.T)
    transposed = np.ascontiguousarray(counts.T)
    wins = np.zeros((classes, counts.shape[0]))
    for start in range(0, images, _ROWS):
        rows = order[start : start + _ROWS]
        of_class = columns[labels[rows]]
        own = of_class[np.arange(len(rows)), rows][:, None]
        beaten = (own > of_class).astype(np.float32) + np.float32(0.5) * (own == of_class)
        beaten[labels[rows][:, None] == labels[None, :]] = 0
        # Exact in float32: sums of halves below 2**23.
        weighted = (beaten @ transposed).astype(np.float64) * transposed[rows]
        np.add.at(wins, labels[rows], weighted)
    positives = _sum_by(labels, np.ones(images), classes, counts)
    pairs = positives * (images - positives)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _mean_of_defined(np.where(pairs > 0, wins / pairs, np.nan))


def compare(pairs: Sequence[tuple[str, Predictions, str, Predictions]], counts: np.ndarray) -> list[PairedTest]:
    """Test every pair on the same images, with Holm's correction over all of them.

    Args:
        pairs: label and predictions of the one, label and predictions of the other; equal ids in equal order.
        counts: float32, (resamples, N), from `draw_counts`.
    """
    return correct([paired_test(name, one.right, second, other.right, counts) for name, one, second, other in pairs])


def correct(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """Return the tests of one table with Holm's correction over all of them."""
    corrected = holm([test.p_value for test in tests])
    return [replace(test, p_holm=p) for test, p in zip(tests, corrected, strict=True)]


def paired_test(
    name: str, right: np.ndarray, other_name: str, other_right: np.ndarray, counts: np.ndarray
) -> PairedTest:
    """Test two models on the same images, without a correction.

    Args:
        name: label of the one.
        right: whether each of its answers is right, bool, (N,).
        other_name: label of the other.
        other_right: the same of the other.
        counts: float32, (resamples, N), from `draw_counts`.
    """
    difference = right.astype(np.float32) - other_right.astype(np.float32)
    only_first, only_second = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    p_value = mcnemar(only_first, only_second)
    spread = interval(float(difference.mean()), counts @ difference / len(difference))
    return PairedTest(name, other_name, only_first, only_second, spread, p_value, p_value)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of the exact McNemar test (1947): a fair coin for each image on which two differ."""
    differing = only_first + only_second
    return float(stats.binomtest(only_first, differing).pvalue) if differing else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method (1979)."""
    order = np.argsort(p_values, kind="stable")
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = running
    return corrected
