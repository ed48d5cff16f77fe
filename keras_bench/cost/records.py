"""The cost of a model: figures counted once, and latencies measured in fresh processes."""

from dataclasses import asdict, dataclass
from typing import Any

from keras_bench.reading import record_of

CALLS = ("predict", "compiled", "onnxruntime")
DEVICES = ("cpu", "gpu")


@dataclass(frozen=True)
class Cost:
    """The cost of a model that can be counted without timing.

    Attributes:
        image_size: side of the square input that the counts hold for, pixels.
        parameters: number of parameters of the whole model.
        multiply_adds: multiply-adds of one forward pass of one image, in convolutions and dense layers.
        flops: floating-point operations of the same pass in all operations of the graph; about twice
            `multiply_adds`, plus activations, normalisation and pooling.
        weight_bytes: size of the weights as float32.
        file_bytes: size of model.keras on disk.
    """

    image_size: int
    parameters: int
    multiply_adds: int
    flops: int
    weight_bytes: int
    file_bytes: int

    def to_json(self) -> dict[str, object]:
        """Return plain values for cost.json."""
        return asdict(self)

    @staticmethod
    def from_json(tree: dict[str, object]) -> "Cost":
        """Rebuild the value from cost.json's content."""
        return record_of(Cost, tree)


@dataclass(frozen=True)
class Latency:
    """The latency of one way of calling a model with one batch size.

    Attributes:
        call: "predict" (`model.predict`), "compiled" (a traced function), or "onnxruntime".
        device: "cpu" or "gpu".
        hardware: name of the processor or accelerator.
        threads: threads an operation may use.
        batch_size: images per call.
        warm_up: calls made first, without timing.
        calls: timed calls.
        p50_ms: median milliseconds per call, not per image.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        mean_ms: mean.
        memory_mb: peak resident memory of the process up to the end of this measurement, MiB. It has loaded the model
            and called it with this batch size and smaller ones, which need less.
        base_memory_mb: peak resident memory before the model was loaded, MiB.
        session: name shared by the measurements taken in turn; only those of one session can be compared.
        p50_low_ms: lower end of the median's 95 % interval; None if an earlier version measured it.
        p50_high_ms: upper end.
    """

    call: str
    device: str
    hardware: str
    threads: int
    batch_size: int
    warm_up: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    memory_mb: float
    base_memory_mb: float
    session: str
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None


def latencies_to_json(settings: dict[str, object], latencies: list[Latency]) -> dict[str, object]:
    """Return plain values for latency.json."""
    return {"settings": settings, "measurements": [asdict(latency) for latency in latencies]}


def latencies_from_json(tree: dict[str, Any]) -> list[Latency]:
    """Rebuild the measurements from latency.json's content."""
    return [record_of(Latency, measurement) for measurement in tree["measurements"]]
