"""Quantises an exported graph to 8 bits, with scales measured on training images."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from keras_bench.bundle.onnx_file import IMAGE

OPERATORS = ("Conv", "Gemm", "MatMul")  # these take most of the time; everything between them stays float32
# Included so that a layer's range is measured after its activation: before a ReLU6 it is many times as wide.
ACTIVATIONS = ("Relu", "Clip")


@dataclass(frozen=True)
class QuantizationPlan:
    """How a graph is quantised.

    Attributes:
        name: shown to people.
        unsigned: use unsigned 8-bit weights, which no processor overflows but which need slower kernels; otherwise int8
            weights of which only 7 bits are used.
        kept: share of the layers, counted from the input, that stays float32: rounding errors of the first layers grow.
    """

    name: str
    unsigned: bool
    kept: float


# Tried from the fastest to the safest, until one keeps the accuracy. Excluding single layers in between does not work:
# if both neighbours are quantised, onnxruntime 1.31 quantises the weights of the excluded layer all the same, with one
# scale for all channels (MobileNet 0.75 without its depthwise layers: 24 % top-1 instead of 71 %).
PLANS = (
    QuantizationPlan("all layers", False, 0.0),
    QuantizationPlan("all layers, unsigned weights", True, 0.0),
    QuantizationPlan("the second half of the layers, unsigned weights", True, 0.5),
)


def quantize(source: Path, target: Path, batches: Iterable[np.ndarray], plan: QuantizationPlan) -> int:
    """Write an 8-bit version of a graph: QDQ format, uint8 activations, weights with a scale for each channel.

    Args:
        source: file of the float32 model.
        target: file of the 8-bit model.
        batches: training images, uint8 (N, height, width, 3), over which the range of each activation is measured.
        plan: the kind of weights, and which layers stay float32.

    Returns:
        the number of layers in 8 bits.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        nodes = list(onnx.load(prepared).graph.node)
        excluded = _excluded(nodes, plan)
        quantize_static(
            str(prepared),
            str(target),
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # 7 of 8 bits: processors without VNNI add pairs of products in 16 bits, which full int8 weights overflow.
            # On an AVX2 machine a small network's probabilities were off by 0.19 instead of 0.006, silently.
            reduce_range=not plan.unsigned,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8 if plan.unsigned else QuantType.QInt8,
            op_types_to_quantize=[*OPERATORS, *ACTIVATIONS],
            nodes_to_exclude=[node.name for node in excluded],
        )
    return sum(node.op_type in OPERATORS for node in nodes) - sum(node.op_type in OPERATORS for node in excluded)


def _excluded(nodes: list[onnx.NodeProto], plan: QuantizationPlan) -> list[onnx.NodeProto]:
    """Return the layers that stay float32, and every activation that does not follow a quantised layer."""
    layers = [node for node in nodes if node.op_type in OPERATORS]
    kept = layers[: int(plan.kept * len(layers))]
    quantized_outputs = {name for node in layers[len(kept) :] for name in node.output}
    return kept + [node for node in nodes if node.op_type in ACTIVATIONS and node.input[0] not in quantized_outputs]


class _Reader(CalibrationDataReader):
    """Feeds batches to the calibration."""

    def __init__(self, batches: Iterable[np.ndarray]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {IMAGE: batch}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the advice that the quantiser prints for people who call it directly."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
