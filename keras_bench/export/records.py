"""Records of the checks of an exported model and their results."""

from dataclasses import asdict, dataclass

from keras_bench.evaluation.records import Interval
from keras_bench.reading import record_of


@dataclass(frozen=True)
class Agreement:
    """An exported model compared with Keras on the same test images.

    Attributes:
        images: number of images.
        differing: number of images for which the two predict different classes.
        ties: differing images where Keras's two highest probabilities are within the limit for ties, which is accepted.
        max_difference: largest absolute difference of a probability.
        mean_difference: mean absolute difference over images and classes.
        keras_top1: Keras's accuracy with its interval, in [0, 1].
        onnx_top1: the exported model's accuracy, likewise.
        examples: ids of at most ten differing images that are not ties.
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
        """Share of images with the same predicted class; ties count as agreeing."""
        return 1 - (self.differing - self.ties) / self.images


@dataclass(frozen=True)
class Attempt:
    """A plan for the 8-bit version that was tried.

    Attributes:
        plan: its name.
        layers: number of layers in 8 bits.
        val_top1: accuracy on val, in [0, 1].
        drop_points: fall of val top-1 against float32, percentage points.
    """

    plan: str
    layers: int
    val_top1: float
    drop_points: float


@dataclass(frozen=True)
class Int8:
    """The 8-bit version, kept or not.

    Attributes:
        kept: whether the bundle holds it.
        reason: one sentence for people.
        attempts: the plans tried, in their order.
        max_drop_points: limit on the fall of val top-1, percentage points.
        val_images: number of val images that decided.
        calibration_images: number of training images over which the scales were measured.
        test_top1: its accuracy on the verified test images; None if it is not kept.
        megabytes: size of the file; None if it is not kept.
    """

    kept: bool
    reason: str
    attempts: tuple[Attempt, ...] = ()
    max_drop_points: float = 1.0
    val_images: int = 0
    calibration_images: int = 0
    test_top1: Interval | None = None
    megabytes: float | None = None


@dataclass(frozen=True)
class Verification:
    """The content of verification.json.

    Attributes:
        about: the model's origin: experiment, model, phase, seed, commit, versions, fingerprint of the model file.
        data: origin of the test images: the dataset settings, the fingerprint of the images, and the test split.
        agreement: the comparison with Keras.
        limits: limits of that comparison: `max_difference` and `tie`.
        latency: a row each for Keras and ONNX Runtime: `call`, `batch_size`, `p50_ms`, `p90_ms`, `p99_ms`, `threads`,
            `hardware`; empty if it was not measured.
        int8: the 8-bit version.
        megabytes: size of model.onnx.
        opset: ONNX operator set of the graph.
    """

    about: dict[str, object]
    data: dict[str, object]
    agreement: Agreement
    limits: dict[str, float]
    latency: tuple[dict[str, object], ...]
    int8: Int8
    megabytes: float
    opset: int

    def to_json(self) -> dict[str, object]:
        """Return plain values for verification.json."""
        return asdict(self)

    @staticmethod
    def from_json(tree: dict[str, object]) -> "Verification":
        """Rebuild the value from verification.json's content."""
        return record_of(Verification, tree)
