"""Which metric of val decides among epochs, phases, models and sweep points: top-1, or balanced accuracy."""

from collections.abc import Iterable
from enum import StrEnum


class DecisionMetric(StrEnum):
    """A metric that decides; its value is the metric's name in METRICS.

    Val is drawn like train, so where classes differ in size its top-1 is that of the large classes; balanced accuracy,
    the mean recall over classes, counts them alike (Brodersen et al., ICPR 2010).
    """

    TOP1 = "top1"
    BALANCED_ACCURACY = "balanced_accuracy"

    @property
    def label(self) -> str:
        """Its name for people."""
        return {DecisionMetric.TOP1: "top-1", DecisionMetric.BALANCED_ACCURACY: "balanced accuracy"}[self]

    @property
    def clause(self) -> str:
        """What follows "chosen on val": " by balanced accuracy", or nothing where the usual metric decided."""
        return "" if self is DecisionMetric.TOP1 else f" by {self.label}"

    @property
    def test_name(self) -> str:
        """The paired test of two models whose difference in this metric is asked for."""
        if self is DecisionMetric.TOP1:
            return "exact McNemar test"
        return "sign-flip permutation test of balanced accuracy (at least 10,000 draws)"


def decision_of(monitor: str) -> DecisionMetric:
    """Return what decides where a phase's best epoch is chosen by this monitor, e.g. "val_balanced_cross_entropy"."""
    return DecisionMetric.BALANCED_ACCURACY if "balanced" in monitor else DecisionMetric.TOP1


def shared_decision(metrics: Iterable[DecisionMetric]) -> DecisionMetric:
    """Return what decides among runs: balanced accuracy for all where it decides within any of them."""
    balanced = DecisionMetric.BALANCED_ACCURACY
    return balanced if balanced in set(metrics) else DecisionMetric.TOP1
