"""The validation metric that decides among epochs, phases, models and sweep points: top-1 or balanced accuracy."""

from collections.abc import Iterable
from enum import StrEnum


class DecisionMetric(StrEnum):
    """A metric on which decisions are based; the value is the metric's name in METRICS.

    Val has the class sizes of train, so with imbalanced classes its top-1 mostly reflects the large ones. Balanced
    accuracy, the mean recall over classes, gives all classes equal weight (Brodersen et al., ICPR 2010).
    """

    TOP1 = "top1"
    BALANCED_ACCURACY = "balanced_accuracy"

    @property
    def label(self) -> str:
        """The metric's name in texts."""
        return {DecisionMetric.TOP1: "top-1", DecisionMetric.BALANCED_ACCURACY: "balanced accuracy"}[self]

    @property
    def clause(self) -> str:
        """Continues "chosen on val": " by balanced accuracy", or nothing for the usual metric, top-1."""
        return "" if self is DecisionMetric.TOP1 else f" by {self.label}"

    @property
    def test_name(self) -> str:
        """Name of the paired test that compares two models by this metric."""
        if self is DecisionMetric.TOP1:
            return "exact McNemar test"
        return "sign-flip permutation test of balanced accuracy (at least 10,000 draws)"


def decision_of(monitor: str) -> DecisionMetric:
    """Return the metric that decides if this monitor, e.g. "val_balanced_cross_entropy", chooses the best epoch."""
    return DecisionMetric.BALANCED_ACCURACY if "balanced" in monitor else DecisionMetric.TOP1


def shared_decision(metrics: Iterable[DecisionMetric]) -> DecisionMetric:
    """Return the metric that decides among runs: balanced accuracy if any of them uses it, else top-1."""
    balanced = DecisionMetric.BALANCED_ACCURACY
    return balanced if balanced in set(metrics) else DecisionMetric.TOP1
