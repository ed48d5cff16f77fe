"""Class averages in every resample of a bootstrap. NumPy and SciPy only.

Each row of `counts`, float32, (resamples, N), is one resample: how often it contains each of N images. A sum over
images, for all resamples at once, is therefore a matrix product with `counts`.
"""

from collections.abc import Sequence

import numpy as np

CHUNK = 256  # resamples, or positive images of the AUC, processed at a time; bounds memory


def recall_distribution(
    correct: np.ndarray, labels: np.ndarray, classes: Sequence[int], counts: np.ndarray
) -> np.ndarray:
    """Return the mean recall of some classes in each resample, float64, (resamples,).

    A class without images in a resample is left out of that resample's mean.

    Args:
        correct: whether each prediction is correct, bool, (N,); for several runs, the share of runs in which it is,
            float, (N,).
        labels: int64, (N,).
        classes: class numbers, each with at least one image.
        counts: float32, (resamples, N).
    """
    num_classes = int(labels.max()) + 1
    hits = _sum_by_class(labels, correct, num_classes, counts)[list(classes)]
    support = _sum_by_class(labels, np.ones(len(labels)), num_classes, counts)[list(classes)]
    with np.errstate(invalid="ignore"):
        return _mean_of_defined(np.where(support > 0, hits / support, np.nan))


def f1_distribution(labels: np.ndarray, predicted: np.ndarray, num_classes: int, counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 in each resample over the classes with an image or a prediction in it, float64, (resamples,).

    Args:
        labels: int64, (N,), in [0, num_classes).
        predicted: int64, (N,), in [0, num_classes).
        num_classes: number of classes.
        counts: float32, (resamples, N).
    """
    occurrences = _sum_by_class(labels, np.ones(len(labels)), num_classes, counts)  # as label plus as prediction
    occurrences += _sum_by_class(predicted, np.ones(len(labels)), num_classes, counts)
    hits = _sum_by_class(labels, labels == predicted, num_classes, counts)
    with np.errstate(invalid="ignore"):
        return _mean_of_defined(np.where(occurrences > 0, 2 * hits / occurrences, np.nan))


def auc_distribution(labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean one-vs-rest area under the ROC curve in each resample, float64, (resamples,).

    The area is the Mann–Whitney statistic: the share of (positive, negative) pairs in which the positive has the
    higher probability, where ties count half (Hanley and McNeil 1982). With multiplicities w, the number of such
    pairs is Σ_i w_i (S w)_i, where S compares positives with negatives: one matrix product for all resamples.

    Args:
        labels: int64, (N,), each class with at least one image.
        probabilities: float, (N, K).
        counts: float32, (resamples, N).
    """
    images, num_classes = probabilities.shape
    order = np.argsort(labels, kind="stable")
    class_columns = np.ascontiguousarray(probabilities.T)
    transposed = np.ascontiguousarray(counts.T)
    wins = np.zeros((num_classes, counts.shape[0]))
    for start in range(0, images, CHUNK):
        positives = order[start : start + CHUNK]
        scores = class_columns[labels[positives]]
        own_scores = scores[np.arange(len(positives)), positives][:, None]
        beaten = (own_scores > scores).astype(np.float32) + np.float32(0.5) * (own_scores == scores)
        beaten[labels[positives][:, None] == labels[None, :]] = 0
        # Exact in float32: sums of halves below 2**23.
        weighted = (beaten @ transposed).astype(np.float64) * transposed[positives]
        np.add.at(wins, labels[positives], weighted)
    support = _sum_by_class(labels, np.ones(images), num_classes, counts)
    pairs = support * (images - support)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _mean_of_defined(np.where(pairs > 0, wins / pairs, np.nan))


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return each resample's mean over the classes whose value is defined, float64; NaN if none is."""
    defined = np.isfinite(values).sum(axis=0)
    return np.asarray(np.where(defined > 0, np.nansum(values, axis=0) / np.maximum(defined, 1), np.nan))


def _sum_by_class(classes: np.ndarray, weights: np.ndarray, num_classes: int, counts: np.ndarray) -> np.ndarray:
    """Return the sum of count × weight per class and resample, float64, (num_classes, resamples)."""
    from scipy import sparse  # imported here because reading run folders must not load SciPy

    images = np.arange(len(classes))
    membership = sparse.csr_matrix((weights.astype(np.float64), (classes, images)), shape=(num_classes, len(classes)))
    return membership @ counts.T
