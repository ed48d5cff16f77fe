"""What was checked of an exported model, and what came out."""

from dataclasses import asdict, dataclass
from typing import Any

from keras_bench.evaluation.intervals import Interval
from keras_bench.reading import record_of


@dataclass(frozen=True)
class Agreement:
    """An exported model beside Keras on the same test images.

    Attributes:
        images: how many.
        differing: images on which the predictions differ.
        ties: of them, those where Keras's own two best predictions are within the limit for ties: not held against it.
        max_difference: largest absolute difference of a probability.
        mean_difference: mean over images and classes.
        keras_top1: Keras's accuracy with its interval, a share.
        onnx_top1: the exported model's.
        examples: ids of differing images that are no ties, at most ten.
        same_answer: `agreeing` with its interval; None in bundles of earlier versions.
    """

    images: int
    differing: int
    ties: int
    max_difference: float
    mean_difference: float
    keras_top1: Interval
    onnx_top1: Interval
    examples: tuple[str, ...]
    same_answer: Interval | None = None

    @property
    def agreeing(self) -> float:
        """Share of images with the same prediction, ties counted as agreeing."""
        return 1 - (self.differing - self.ties) / self.images


@dataclass(frozen=True)
class Int8:
    """The 8-bit version, kept or not.

    Attributes:
        kept: whether the bundle holds it.
        reason: one sentence, for people.
        attempts: for each plan tried: `plan`, `layers` in 8 bits, `val_top1`, `drop_points` against float32.
        max_drop_points: how much val top-1 may fall.
        val_images: how many images decided.
        calibration_images: training images that the scales were measured on.
        test_top1: its accuracy on the test images that were verified; None where it is not kept.
        megabytes: size of the file; None where it is not kept.
    """

    kept: bool
    reason: str
    attempts: tuple[dict[str, Any], ...] = ()
    max_drop_points: float = 1.0
    val_images: int = 0
    calibration_images: int = 0
    test_top1: Interval | None = None
    megabytes: float | None = None


@dataclass(frozen=True)
class Verification:
    """verification.json.

    Attributes:
        about: experiment, model, phase, seed, commit, versions, fingerprint of the run's inputs.
        data: what the test images came from: the data settings, their fingerprint, and where they were split.
        agreement: against Keras.
        limits: of the gate: `max_difference` and `tie`.
        latency: a row each for Keras and ONNX Runtime: `call`, `batch_size`, `p50_ms`, `p90_ms`, `p99_ms`, `threads`,
            `hardware`; empty where it was not measured.
        int8: the 8-bit version.
        megabytes: size of model.onnx.
        opset: of the graph.
    """

    about: dict[str, Any]
    data: dict[str, Any]
    agreement: Agreement
    limits: dict[str, float]
    latency: tuple[dict[str, Any], ...]
    int8: Int8
    megabytes: float
    opset: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values for verification.json."""
        return asdict(self)

    @staticmethod
    def from_json(tree: dict[str, Any]) -> "Verification":
        """Rebuild the value from verification.json's content."""
        return record_of(Verification, tree)
