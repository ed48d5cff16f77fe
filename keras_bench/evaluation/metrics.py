"""Metrics from saved predictions; each image counts once, sums are divided once. No TensorFlow."""

from dataclasses import dataclass

import numpy as np

from keras_bench.evaluation.predictions import Predictions

# float32 cannot tell smaller probabilities of a softmax from 0, whose logarithm would make the mean infinite.
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class SplitMetrics:
    """Metrics of one split; None where a metric is not defined, e.g. top-5 of five classes.

    Attributes:
        images: number of images, each counted once.
        cross_entropy: mean negative log probability of the true class, in nats, without any penalty.
        top1: share of images whose most probable class is right, in [0, 1].
        top5: share whose class is among the five most probable; None for five classes or fewer.
        balanced_accuracy: mean recall over classes.
        macro_f1: mean F1 over classes.
        macro_auc: mean one-vs-rest area under the ROC curve; None where a class has no image.
    """

    images: int
    cross_entropy: float
    top1: float
    top5: float | None = None
    balanced_accuracy: float
    macro_f1: float
    macro_auc: float | None = None


def compute_metrics(predictions: Predictions) -> SplitMetrics:
    """Return the metrics of one split.

    Macro averages run over all K classes, absent ones included as scikit-learn's `zero_division=0` has it.
    """
    from sklearn.metrics import f1_score, recall_score  # takes a second to load; run folders are read without it

    labels, probabilities = predictions.labels, predictions.probabilities.astype(np.float64)
    classes = np.arange(probabilities.shape[1])
    answers = probabilities.argmax(axis=1)
    of_true = probabilities[np.arange(len(labels)), labels]
    return SplitMetrics(
        images=len(labels),
        cross_entropy=float(-np.log(np.maximum(of_true, SMALLEST)).sum() / len(labels)),
        top1=float((answers == labels).sum() / len(labels)),
        top5=float(in_top_k(labels, probabilities, 5).sum() / len(labels)) if len(classes) > 5 else None,
        balanced_accuracy=float(recall_score(labels, answers, labels=np.unique(labels), average="macro")),
        macro_f1=float(f1_score(labels, answers, labels=classes, average="macro", zero_division=0)),
        macro_auc=macro_auc(labels, probabilities),
    )


def in_top_k(labels: np.ndarray, probabilities: np.ndarray, k: int) -> np.ndarray:
    """Return whether each image's class is among the k most probable, bool, (N,); ties go to the lower class number.

    Args:
        labels: int64, (N,).
        probabilities: float, (N, K).
        k: how many answers count.
    """
    of_true = np.take_along_axis(probabilities, labels[:, None], axis=1)
    ahead = (probabilities > of_true).sum(axis=1)
    lower = np.arange(probabilities.shape[1])[None, :] < labels[:, None]
    ahead += ((probabilities == of_true) & lower).sum(axis=1)
    return ahead < k


def macro_auc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the mean one-vs-rest area under the ROC curve, or None where a class has no image or all of them."""
    from sklearn.metrics import roc_auc_score

    counts = np.bincount(labels, minlength=probabilities.shape[1])
    if (counts == 0).any() or (counts == len(labels)).any():
        return None
    areas = [roc_auc_score(labels == k, probabilities[:, k]) for k in range(probabilities.shape[1])]
    return float(np.mean(areas))
