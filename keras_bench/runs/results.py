"""What one phase of one run came to.

Earlier versions wrote fewer fields: one that is added has a default, for the runs that lack it.
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
    """What fitting one phase came to.

    Attributes:
        best_epoch: 1-based epoch whose weights were kept, chosen on val.
        epochs: epochs trained, early stopping included.
        seconds: wall time of all of them, validation included.
        train_seconds: the same without validation.
        resolved: how "auto" settings were decided, e.g. {"xla": False}.
    """

    best_epoch: int
    epochs: int
    seconds: float
    train_seconds: float
    resolved: dict[str, Any]


@dataclass(frozen=True)
class PhaseResult:
    """Everything result.json holds.

    Attributes:
        phase: which.
        best_epoch: 1-based epoch whose weights were kept, chosen on val.
        epochs: epochs trained.
        seconds: wall time of training, validation included.
        seconds_per_epoch: `seconds` / `epochs`.
        images_per_second: training images processed a second of training, validation and its time left out.
        parameters: of the whole model.
        trainable_parameters: of those, how many this phase trained.
        peak_memory_mb: highest resident memory of the process so far, MiB.
        metrics: for "val" and "test".
        inputs: every setting and fingerprint the result depends on, flat.
        resolved: how "auto" settings were decided.
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
    inputs: dict[str, Any]
    resolved: dict[str, Any]
    environment: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for result.json."""
        return asdict(self)

    @staticmethod
    def from_json(tree: dict[str, Any]) -> "PhaseResult":
        """Rebuild the value from result.json's content."""
        return record_of(PhaseResult, tree)


def run_label(model: str, seed: int) -> str:
    """Return a run's name for people: the model, and the seed where it is not 0."""
    return model + (f" seed {seed}" if seed else "")


def best_phase(results: Mapping[Phase, PhaseResult], decision: DecisionMetric) -> Phase:
    """Return the phase that is best on val; of equals the first, which cost less.

    Args:
        results: by phase, in order of training.
        decision: which metric.
    """
    return max(results, key=lambda phase: getattr(results[phase].metrics["val"], decision))
