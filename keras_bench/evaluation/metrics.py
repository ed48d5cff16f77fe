"""The table of metrics, computed from saved predictions. No TensorFlow.

Each image counts once, and sums are divided once. All code that computes, writes or shows metrics reads METRICS, so a
new metric is one entry and its function. scikit-learn takes a second to load, so only functions that need it import it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, get_args, get_type_hints

import numpy as np

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.bootstrap import auc_distribution, f1_distribution, recall_distribution
from keras_bench.evaluation.predictions import Predictions
from keras_bench.reading import record_of

# Smaller softmax probabilities are 0 in float32, and the logarithm of 0 would make the mean infinite.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Unit:
    """How a metric's value is formatted.

    Attributes:
        name: "%", "nats", or "" for a plain number.
        scale: factor applied to the value.
        digits: number of decimals.
    """

    name: str
    scale: float
    digits: int


PERCENT, NATS, PLAIN = Unit("%", 100, 1), Unit("nats", 1, 3), Unit("", 1, 3)


@dataclass(frozen=True)
class ShareOfImages:
    """A share of images, with Wilson's interval.

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
    """A mean of per-image values, with a bootstrap interval.

    Attributes:
        per_image: returns the value of each image, float64, (N,).
    """

    per_image: Callable[[Predictions], np.ndarray]

    def value(self, predictions: Predictions) -> float:
        """Return the mean."""
        values = self.per_image(predictions)
        return float(values.sum() / len(values))

    def distribution(self, predictions: Predictions, counts: np.ndarray) -> np.ndarray:
        """Return the mean in each resample, float64, (resamples,); `counts` is float32, (resamples, N)."""
        return np.asarray(counts @ self.per_image(predictions) / len(predictions.labels))


@dataclass(frozen=True)
class OverClasses:
    """A metric that is not a mean over images, with its own bootstrap distribution.

    Attributes:
        value: returns the metric, or None where it is not defined.
        distribution: returns it in each resample, float64, (resamples,), given counts, float32, (resamples, N).
    """

    value: Callable[[Predictions], float | None]
    distribution: Callable[[Predictions, np.ndarray], np.ndarray]


Estimator = ShareOfImages | MeanOverImages | OverClasses


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How one metric is computed and shown.

    Attributes:
        title: its name for people.
        short_title: its column heading, where `title` is too long.
        estimator: computes the metric and its interval.
        column: its position among the columns of the page and the terminal, ascending.
        unit: its format on the page and the model card.
        terminal: its format in the terminal; None: it has no column there.
        higher_is_better: whether higher values are better.
        undefined: a sentence for the page that says why the metric is undefined, if it is undefined for all runs.
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
        """Its column heading."""
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
        k: number of predictions considered.
    """
    of_true_class = np.take_along_axis(probabilities, labels[:, None], axis=1)
    ahead = (probabilities > of_true_class).sum(axis=1)
    has_lower_number = np.arange(probabilities.shape[1])[None, :] < labels[:, None]
    ahead += ((probabilities == of_true_class) & has_lower_number).sum(axis=1)
    return ahead < k


def negative_log_probabilities(predictions: Predictions) -> np.ndarray:
    """Return the negative log probability of each image's class, in nats, float64, (N,), without any penalty."""
    of_true_class = predictions.probabilities[np.arange(len(predictions.labels)), predictions.labels]
    return np.asarray(-np.log(np.maximum(of_true_class.astype(np.float64), SMALLEST_PROBABILITY)))


def squared_errors(predictions: Predictions) -> np.ndarray:
    """Return Σ_k (p_k − y_k)² per image, where y is 1 for its class and 0 for others, in [0, 2], float64, (N,).

    The mean is the K-class score of Brier (Verification of forecasts expressed in terms of probability, 1950).
    """
    errors = predictions.probabilities.astype(np.float64)
    errors[np.arange(len(errors)), predictions.labels] -= 1
    return np.asarray((errors**2).sum(axis=1))


def balanced_accuracy(predictions: Predictions) -> float:
    """Return the mean recall over the classes that have images."""
    from sklearn.metrics import recall_score

    labels = predictions.labels
    return float(recall_score(labels, predictions.predicted, labels=np.unique(labels), average="macro"))


def macro_f1(predictions: Predictions) -> float:
    """Return the mean F1 over all K classes; a class without images or predictions counts as 0."""
    from sklearn.metrics import f1_score

    classes = np.arange(predictions.probabilities.shape[1])
    return float(f1_score(predictions.labels, predictions.predicted, labels=classes, average="macro", zero_division=0))


def macro_auc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the mean one-vs-rest area under the ROC curve, or None if any class has no images or all of them."""
    from sklearn.metrics import roc_auc_score

    counts = np.bincount(labels, minlength=probabilities.shape[1])
    if (counts == 0).any() or (counts == len(labels)).any():
        return None
    scores = probabilities.astype(np.float64)
    return float(np.mean([roc_auc_score(labels == k, scores[:, k]) for k in range(scores.shape[1])]))


@dataclass(frozen=True, kw_only=True)
class SplitMetrics:
    """The metrics of one split, in the order of result.json and results.csv; each is an entry of METRICS.

    A metric is None if it is not defined for the split, e.g. top-5 for five classes, or if an earlier version did not
    compute it. A new metric therefore needs None as its default.

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
            undefined="Top-5 is not defined for five classes or fewer.",
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
            undefined="AUC is not defined: a class has no test images.",
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
    """Return the metrics that the fields of a record declare, by field name.

    Raises:
        TypeError: a field other than `images` declares none.
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
    """Return the metrics of a split with those that an earlier version did not compute added from its predictions."""
    values = asdict(metrics)
    missing = {name: METRICS[name].estimator.value(predictions) for name in METRICS if values[name] is None}
    return record_of(SplitMetrics, values | missing)
