"""Class averages in every resample of a bootstrap; NumPy and SciPy only.

A resample is a row of `counts`, float32, (resamples, N): how often it holds each of N images. So a sum over the images
of all resamples is a product with the matrix of counts.
"""

from collections.abc import Sequence

import numpy as np

ROWS = 256  # resamples, or positives of the AUC, handled at once: bounds memory


def recall_distribution(
    correct: np.ndarray, labels: np.ndarray, classes: Sequence[int], counts: np.ndarray
) -> np.ndarray:
    """Return the mean recall of some classes in each resample, float64, (resamples,).

    A class that a resample holds no image of is left out of that resample's mean.

    Args:
        correct: whether each prediction is correct, bool, (N,), or the share of several runs for which it is,
            float, (N,).
        labels: int64, (N,).
        classes: class numbers, each with at least one image.
        counts: float32, (resamples, N).
    """
    groups = int(labels.max()) + 1
    hits = _sum_by(labels, correct, groups, counts)[list(classes)]
    support = _sum_by(labels, np.ones(len(labels)), groups, counts)[list(classes)]
    with np.errstate(invalid="ignore"):
        return _mean_of_defined(np.where(support > 0, hits / support, np.nan))


def f1_distribution(labels: np.ndarray, predicted: np.ndarray, classes: int, counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 of each resample over the classes it holds an image or a prediction of, float64, (resamples,).

    Args:
        labels: int64, (N,), in [0, classes).
        predicted: int64, (N,), in [0, classes).
        classes: how many.
        counts: float32, (resamples, N).
    """
    either = _sum_by(labels, np.ones(len(labels)), classes, counts)
    either += _sum_by(predicted, np.ones(len(labels)), classes, counts)
    hits = _sum_by(labels, labels == predicted, classes, counts)
    with np.errstate(invalid="ignore"):
        return _mean_of_defined(np.where(either > 0, 2 * hits / either, np.nan))


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
    for start in range(0, images, ROWS):
        rows = order[start : start + ROWS]
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


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return each resample's mean over the classes defined in it, float64; NaN where none is."""
    count = np.isfinite(values).sum(axis=0)
    return np.asarray(np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan))


def _sum_by(group: np.ndarray, weights: np.ndarray, groups: int, counts: np.ndarray) -> np.ndarray:
    """Return for each group and resample the sum of count × weight, float64, (groups, resamples)."""
    from scipy import sparse  # here, since run folders are read without

    images = np.arange(len(group))
    membership = sparse.csr_matrix((weights.astype(np.float64), (group, images)), shape=(groups, len(group)))
    return membership @ counts.T
