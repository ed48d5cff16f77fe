"""What one phase of one run came to.

Earlier versions wrote fewer fields: one that is added has a default, for the runs that lack it.
"""

from dataclasses import asdict, dataclass
from typing import Any

from keras_bench.records.reading import record_of


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
        phase: "scratch", "tl" or "ft".
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

    phase: str
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
