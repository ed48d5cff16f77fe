"""The metrics, one table, computed from saved predictions: each image counts once, sums divided once. No TensorFlow.

METRICS is read wherever metrics are computed, given intervals, written or shown, so that one more metric is one entry
and its function. scikit-learn takes a second to load, so only the functions that need it load it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, get_args, get_type_hints

import numpy as np

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.bootstrap import auc_distribution, f1_distribution, recall_distribution
from keras_bench.evaluation.predictions import Predictions
from keras_bench.reading import record_of

# float32 cannot tell smaller probabilities of a softmax from 0, whose logarithm would make the mean infinite.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Unit:
    """How a metric is written.

    Attributes:
        name: "%", "nats", or "" for a plain number.
        scale: what the value is multiplied by.
        digits: decimals.
    """

    name: str
    scale: float
    digits: int


PERCENT, NATS, PLAIN = Unit("%", 100, 1), Unit("nats", 1, 3), Unit("", 1, 3)


@dataclass(frozen=True)
class ShareOfImages:
    """A share of images, which has Wilson's interval.

    Attributes:
        hits: returns whether each image counts, bool, (N,), or None where the metric is not defined.
    """

    hits: Callable[[Predictions], np.ndarray | None]

    def value(self, predictions: Predictions) -> float | None:
        """Return the share, in [0, 1]."""
        hits = self.hits(predictions)
        return None if hits is None else float(hits.sum() / len(hits))


@dataclass(frozen=True)
class MeanOverImages:
    """A mean over images of anything but hits, which has a bootstrap interval.

    Attributes:
        of_each: returns the value of each image, float64, (N,).
    """

    of_each: Callable[[Predictions], np.ndarray]

    def value(self, predictions: Predictions) -> float:
        """Return the mean."""
        values = self.of_each(predictions)
        return float(values.sum() / len(values))

    def distribution(self, predictions: Predictions, counts: np.ndarray) -> np.ndarray:
        """Return the mean in each resample, float64, (resamples,); `counts` is float32, (resamples, N)."""
        return np.asarray(counts @ self.of_each(predictions) / len(predictions.labels))


@dataclass(frozen=True)
class OverClasses:
    """A metric that is no mean over images, with a bootstrap interval of its own.

    Attributes:
        value: returns the metric, or None where it is not defined.
        distribution: returns the metric in each resample, float64, (resamples,), of predictions and counts, float32,
            (resamples, N).
    """

    value: Callable[[Predictions], float | None]
    distribution: Callable[[Predictions, np.ndarray], np.ndarray]


Estimator = ShareOfImages | MeanOverImages | OverClasses


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How one metric is computed and shown.

    Attributes:
        title: its name for people.
        short_title: the same at the head of a column, where `title` is too long.
        estimator: how it and its interval come about.
        column: its place among the columns of the page and of the terminal, ascending.
        unit: how page and card write it.
        terminal: how the terminal's table writes it; None: it has no column there.
        higher_is_better: its direction.
        undefined: a sentence for the page, where no run has it, on why it may be undefined.
    """

    title: str
    short_title: str = ""
    estimator: Estimator
    column: int
    unit: Unit = PERCENT
    terminal: Unit | None = None
    higher_is_better: bool = True
    undefined: str = ""

    @property
    def heading(self) -> str:
        """Its name at the head of a column."""
        return self.short_title or self.title


def top5_hits(predictions: Predictions) -> np.ndarray | None:
    """Return whether each image's class is among the five most probable; None for five classes or fewer."""
    labels, probabilities = predictions.labels, predictions.probabilities
    return in_top_k(labels, probabilities, 5) if probabilities.shape[1] > 5 else None


def in_top_k(labels: np.ndarray, probabilities: np.ndarray, k: int) -> np.ndarray:
    """Return whether each image's class is among the k most probable, bool, (N,); ties go to the lower class number.

    Args:
        labels: int64, (N,).
        probabilities: float, (N, K).
        k: how many predictions count.
    """
    of_true = np.take_along_axis(probabilities, labels[:, None], axis=1)
    ahead = (probabilities > of_true).sum(axis=1)
    lower = np.arange(probabilities.shape[1])[None, :] < labels[:, None]
    ahead += ((probabilities == of_true) & lower).sum(axis=1)
    return ahead < k


def negative_log_probabilities(predictions: Predictions) -> np.ndarray:
    """Return the negative log probability of each image's class, in nats, float64, (N,), without any penalty."""
    of_true = predictions.probabilities[np.arange(len(predictions.labels)), predictions.labels]
    return np.asarray(-np.log(np.maximum(of_true.astype(np.float64), SMALLEST_PROBABILITY)))


def squared_errors(predictions: Predictions) -> np.ndarray:
    """Return Σ_k (p_k − y_k)² of each image, y being 1 for its class and 0 for others, in [0, 2], float64, (N,).

    The mean is the score of Brier (Verification of forecasts expressed in terms of probability, 1950) for K classes.
    """
    errors = predictions.probabilities.astype(np.float64)
    errors[np.arange(len(errors)), predictions.labels] -= 1
    return np.asarray((errors**2).sum(axis=1))


def balanced_accuracy(predictions: Predictions) -> float:
    """Return the mean recall over the classes with images."""
    from sklearn.metrics import recall_score

    labels = predictions.labels
    return float(recall_score(labels, predictions.predicted, labels=np.unique(labels), average="macro"))


def macro_f1(predictions: Predictions) -> float:
    """Return the mean F1 over all K classes, absent ones included as scikit-learn's `zero_division=0` has it."""
    from sklearn.metrics import f1_score

    classes = np.arange(predictions.probabilities.shape[1])
    return float(f1_score(predictions.labels, predictions.predicted, labels=classes, average="macro", zero_division=0))


def macro_auc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the mean one-vs-rest area under the ROC curve, or None where a class has no image or all of them."""
    from sklearn.metrics import roc_auc_score

    counts = np.bincount(labels, minlength=probabilities.shape[1])
    if (counts == 0).any() or (counts == len(labels)).any():
        return None
    scores = probabilities.astype(np.float64)
    return float(np.mean([roc_auc_score(labels == k, scores[:, k]) for k in range(scores.shape[1])]))


@dataclass(frozen=True, kw_only=True)
class SplitMetrics:
    """The metrics of one split, in the order of result.json and results.csv; each is an entry of METRICS.

    One that is not defined for a split, e.g. top-5 of five classes, or that an earlier version did not compute, is
    None: a metric that is added needs that default.

    Attributes:
        images: number of images, each counted once.
    """

    images: int
    cross_entropy: Annotated[
        float,
        Metric(
            title="cross-entropy",
            estimator=MeanOverImages(negative_log_probabilities),
            column=6,
            unit=NATS,
            higher_is_better=False,
        ),
    ]
    top1: Annotated[
        float,
        Metric(title=DecisionMetric.TOP1.label, estimator=ShareOfImages(lambda p: p.correct), column=1),
    ]
    top5: Annotated[
        float | None,
        Metric(
            title="top-5",
            estimator=ShareOfImages(top5_hits),
            column=2,
            terminal=PERCENT,
            undefined="Top-5 of five classes or fewer is not defined.",
        ),
    ] = None
    balanced_accuracy: Annotated[
        float,
        Metric(
            title=DecisionMetric.BALANCED_ACCURACY.label,
            estimator=OverClasses(
                balanced_accuracy,
                lambda p, counts: recall_distribution(p.correct, p.labels, np.unique(p.labels), counts),
            ),
            column=5,
        ),
    ]
    macro_f1: Annotated[
        float,
        Metric(
            title="macro-F1",
            estimator=OverClasses(
                macro_f1, lambda p, counts: f1_distribution(p.labels, p.predicted, p.probabilities.shape[1], counts)
            ),
            column=3,
            terminal=PLAIN,
        ),
    ]
    macro_auc: Annotated[
        float | None,
        Metric(
            title="macro-AUC (one against rest)",
            short_title="AUC",
            estimator=OverClasses(
                lambda p: macro_auc(p.labels, p.probabilities),
                lambda p, counts: auc_distribution(p.labels, p.probabilities, counts),
            ),
            column=4,
            terminal=PLAIN,
            undefined="AUC is not defined: a class has no test image.",
        ),
    ] = None
    brier_score: Annotated[
        float | None,
        Metric(
            title="Brier score",
            short_title="Brier",
            estimator=MeanOverImages(squared_errors),
            column=7,
            unit=PLAIN,
            terminal=PLAIN,
            higher_is_better=False,
        ),
    ] = None


def metrics_of(record: type) -> dict[str, Metric]:
    """Return the metrics among the fields of a record by name.

    Raises:
        TypeError: a field other than `images` has none.
    """
    hints = get_type_hints(record, include_extras=True)
    table = {name: (get_args(hint) or (None,))[-1] for name, hint in hints.items() if name != "images"}
    for name, metric in table.items():
        if not isinstance(metric, Metric):
            raise TypeError(f"{record.__name__}.{name}: expected Annotated[float, Metric(...)], received {hints[name]}")
    return table


METRICS = metrics_of(SplitMetrics)
BY_COLUMN = dict(sorted(METRICS.items(), key=lambda entry: entry[1].column))


def compute_metrics(predictions: Predictions) -> SplitMetrics:
    """Return the metrics of one split."""
    values = {name: metric.estimator.value(predictions) for name, metric in METRICS.items()}
    return record_of(SplitMetrics, {"images": len(predictions.labels), **values})


def complete_metrics(metrics: SplitMetrics, predictions: Predictions) -> SplitMetrics:
    """Return the metrics with those that an earlier version did not compute, from the predictions of their split."""
    known = asdict(metrics)
    missing = {name: METRICS[name].estimator.value(predictions) for name in METRICS if known[name] is None}
    return record_of(SplitMetrics, known | missing)
