"""The result of one phase of a run.

Every field added since the first version has a default, for runs of earlier versions that lack it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.metrics import SplitMetrics
from keras_bench.phases import Phase
from keras_bench.reading import record_of


@dataclass(frozen=True)
class FitOutcome:
    """The outcome of fitting one phase.

    Attributes:
        best_epoch: 1-based epoch whose weights were kept, chosen on val.
        epochs: number of epochs trained, possibly fewer than configured because of early stopping.
        seconds: wall time of all epochs, validation included, plus the time that computing cached features took, even
            if an earlier run computed them.
        train_seconds: `seconds` without the validation of each epoch.
        resolved: values chosen for "auto" settings, e.g. {"xla": False}.
    """

    best_epoch: int
    epochs: int
    seconds: float
    train_seconds: float
    resolved: dict[str, object]


@dataclass(frozen=True)
class PhaseResult:
    """The content of result.json.

    Attributes:
        phase: which.
        best_epoch: 1-based epoch whose weights were kept, chosen on val.
        epochs: epochs trained.
        seconds: wall time of all epochs, validation included, plus the time that computing cached features took, even
            if an earlier run computed them.
        seconds_per_epoch: `seconds` / `epochs`.
        images_per_second: training images × epochs per second of `seconds` without the validation of each epoch; the
            time of cached features counts, those of val included.
        parameters: number of parameters of the complete model.
        trainable_parameters: number of parameters that this phase trained.
        peak_memory_mb: peak resident memory of the process so far, MiB.
        metrics: metrics of "val" and "test".
        inputs: every setting and fingerprint that the result depends on, by dotted key.
        resolved: values chosen for "auto" settings.
        environment: versions, device, commit.
    """

    phase: Phase
    best_epoch: int
    epochs: int
    seconds: float
    seconds_per_epoch: float
    images_per_second: float
    parameters: int
    trainable_parameters: int
    peak_memory_mb: float
    metrics: dict[str, SplitMetrics]
    inputs: dict[str, object]
    resolved: dict[str, object]
    environment: dict[str, Any]

    def to_json(self) -> dict[str, object]:
        """Return plain values for result.json."""
        return asdict(self)

    @staticmethod
    def from_json(tree: dict[str, object]) -> "PhaseResult":
        """Build the result from result.json's content."""
        return record_of(PhaseResult, tree)


def run_label(model: str, seed: int) -> str:
    """Return a run's display name: the model, and the seed if it is not 0."""
    return model + (f" seed {seed}" if seed else "")


def best_phase(results: Mapping[Phase, PhaseResult], decision: DecisionMetric) -> Phase:
    """Return the phase that is best on val; ties go to the first, which took less training.

    Args:
        results: results by phase, in order of training.
        decision: the metric that decides.
    """
    return max(results, key=lambda phase: getattr(results[phase].metrics["val"], decision))
