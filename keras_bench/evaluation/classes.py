"""Per-class precision, recall and F1, and which classes are confused with which."""

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from sklearn.metrics import precision_recall_fscore_support

from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import ClassScores, ConfusedPair


def class_scores(predictions: Predictions) -> list[ClassScores]:
    """Return precision, recall, F1 and support of every class, in class order."""
    numbers = np.arange(len(predictions.class_names))
    columns = precision_recall_fscore_support(
        predictions.labels, predictions.predicted, labels=numbers, average=None, zero_division=0
    )
    rows = zip(predictions.class_names, *columns, strict=True)
    return [ClassScores(str(name), float(p), float(r), float(f), int(n)) for name, p, r, f, n in rows]


def confusion_counts(predictions: Predictions) -> np.ndarray:
    """Return the number of images of each class (row) with each prediction (column), int64, (K, K)."""
    classes = len(predictions.class_names)
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (predictions.labels, predictions.predicted), 1)
    return counts


def most_confused(counts: np.ndarray, limit: int) -> list[ConfusedPair]:
    """Return the pairs (true class, wrong prediction) with the most images, in descending order.

    Args:
        counts: int64, (K, K), from `confusion_counts`.
        limit: maximum number of pairs.
    """
    wrong = counts - np.diag(np.diag(counts))
    cells = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    support = counts.sum(axis=1)
    pairs = [(int(cell) // len(counts), int(cell) % len(counts)) for cell in cells]
    return [
        ConfusedPair(true, predicted, int(wrong[true, predicted]), float(wrong[true, predicted] / support[true]))
        for true, predicted in pairs
        if wrong[true, predicted]
    ]


def confusion_order(counts: np.ndarray) -> np.ndarray:
    """Return an order of the classes that places classes confused with each other side by side, int64, (K,).

    Average-linkage clustering; the distance is 1 − the mean of the confusion shares in both directions.
    """
    if len(counts) < 3:
        return np.arange(len(counts))
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    tree = hierarchy.linkage(squareform(distance, checks=False), method="average", optimal_ordering=len(counts) <= 400)
    return np.asarray(hierarchy.leaves_list(tree), dtype=np.int64)


def most_confident_mistakes(predictions: Predictions, limit: int) -> np.ndarray:
    """Return the positions of the most confident wrong predictions, in descending order, int64, (at most limit,)."""
    wrong = np.flatnonzero(~predictions.correct)
    return wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:limit]
