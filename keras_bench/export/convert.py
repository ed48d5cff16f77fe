"""Turns a Keras model into one ONNX graph that takes images as they are decoded, of any size."""

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf

from keras_bench.runner import IMAGE, PROBABILITIES

OPSET = 18
MAX_BYTES = 2_000_000_000  # of one protobuf message, which an .onnx file is


def to_onnx(members: Sequence[tuple[keras.Model, float]], metadata: dict[str, Any]) -> onnx.ModelProto:
    """Return one graph from decoded images to probabilities; several members are averaged by weight.

    The graph casts to float32, resizes for each member as training did (bilinear, no antialiasing, squashed to a
    square), and holds the member's own normalisation and softmax.

    Args:
        members: float32 models from (batch, side, side, 3) in [0, 255] to (batch, K), and their weights, which sum
            to 1.
        metadata: kept in the file; values other than text as JSON.

    Returns:
        a checked model of opset 18: `image` uint8 (batch, height, width, 3), RGB, to `probabilities` float32
        (batch, K).

    Raises:
        onnx.checker.ValidationError: the conversion gave an invalid graph.
        ValueError: the model has more than 2 GB of weights.
    """
    import tf2onnx

    def forward(image: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.cast(image, tf.float32)
        parts = [model(tf.image.resize(pixels, model.input_shape[1:3]), training=False) for model, _ in members]
        if len(parts) == 1:
            return {PROBABILITIES: parts[0]}
        return {PROBABILITIES: tf.add_n([weight * part for (_, weight), part in zip(members, parts, strict=True)])}

    # Height and width stay open: static ones may give float scales that are off by one pixel.
    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8, name=IMAGE)]
    with contextlib.ExitStack() as stack:
        for model, _ in members:
            stack.enter_context(_constant_normalization(model))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        graph, _ = tf2onnx.convert.from_function(
            tf.function(forward, input_signature=signature), input_signature=signature, opset=OPSET
        )
    _name_dimensions(graph)
    for key, value in metadata.items():
        graph.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    if graph.ByteSize() > MAX_BYTES:
        raise ValueError(f"{graph.ByteSize() / 1e9:.1f} GB of weights are more than one ONNX file holds (2 GB)")
    onnx.checker.check_model(graph, full_check=True)
    return graph


def save(graph: onnx.ModelProto, path: Path) -> None:
    """Write an .onnx file."""
    onnx.save(graph, path)


@contextlib.contextmanager
def _constant_normalization(model: keras.Model) -> Iterator[None]:
    """Hold the constants of Normalization layers as NumPy arrays while the model is traced.

    Keras keeps them as eager tensors, which a trace captures as inputs; ONNX Runtime refuses the file that results.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    kept = [(layer, layer.mean, layer.variance) for layer in layers]
    for layer, mean, variance in kept:
        layer.mean, layer.variance = np.array(mean), np.array(variance)
    try:
        yield
    finally:
        for layer, mean, variance in kept:
            layer.mean, layer.variance = mean, variance


def _name_dimensions(graph: onnx.ModelProto) -> None:
    """Name the open dimensions, and drop operator sets that no node uses."""
    for value, names in ((graph.graph.input[0], ("batch", "height", "width")), (graph.graph.output[0], ("batch",))):
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            dimension.dim_param = name
    used = {node.domain for node in graph.graph.node}
    kept = [one for one in graph.opset_import if one.domain in used | {""}]
    del graph.opset_import[:]
    graph.opset_import.extend(kept)
