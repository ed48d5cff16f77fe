"""Converts a Keras model into one ONNX graph that takes decoded images of any size."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import onnx
import tensorflow as tf

from keras_bench.bundle.onnx_file import IMAGE, PROBABILITIES
from keras_bench.printable import printable

if TYPE_CHECKING:
    from tf2onnx.graph import Graph, Node

FEATURES_OUTPUT = "features"
OPSET = 18
MAX_BYTES = 2_000_000_000  # an .onnx file is one protobuf message, limited to 2 GB


def to_onnx(members: Sequence[tuple[keras.Model, float]], metadata: dict[str, object]) -> onnx.ModelProto:
    """Return one graph from decoded images to probabilities; several members are averaged by weight.

    The graph casts to float32, resizes for each member as in training (bilinear, no antialiasing, to a square
    whatever the aspect ratio), and contains each member's normalisation and softmax.

    Args:
        members: float32 models from (batch, side, side, 3) in [0, 255] to (batch, K), each with its weight; weights
            sum to 1.
        metadata: stored in the file; values that are not strings as JSON.

    Returns:
        a checked model of opset 18: `image` uint8 (batch, height, width, 3), RGB, to `probabilities` float32
        (batch, K).

    Raises:
        onnx.checker.ValidationError: the conversion produced an invalid graph.
        ValueError: the model has more than 2 GB of weights.
    """

    def forward(image: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.cast(image, tf.float32)
        predicted = [model(tf.image.resize(pixels, model.input_shape[1:3]), training=False) for model, _ in members]
        if len(predicted) == 1:
            return {PROBABILITIES: predicted[0]}
        weighted = [weight * values for (_, weight), values in zip(members, predicted, strict=True)]
        return {PROBABILITIES: tf.add_n(weighted)}

    # Height and width stay dynamic: static ones may produce float scales that are off by one pixel.
    models = [model for model, _ in members]
    graph = _convert_function(forward, tf.TensorSpec((None, None, None, 3), tf.uint8, name=IMAGE), models)
    _name_dimensions(graph)
    for key, value in metadata.items():
        text = printable(value) if isinstance(value, str) else json.dumps(value)
        graph.metadata_props.add(key=key, value=text)
    if graph.ByteSize() > MAX_BYTES:
        raise ValueError(f"{graph.ByteSize() / 1e9:.1f} GB of weights are more than one ONNX file holds (2 GB)")
    onnx.checker.check_model(graph, full_check=True)
    return graph


def network_to_onnx(model: keras.Model) -> onnx.ModelProto:
    """Convert part of a model unchanged: from `image`, float32 with the model's input shape, to `features`."""

    def forward(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {FEATURES_OUTPUT: model(image, training=False)}

    return _convert_function(forward, tf.TensorSpec(model.input_shape, tf.float32, name=IMAGE), [model])


def save(graph: onnx.ModelProto, path: Path) -> None:
    """Write an .onnx file."""
    onnx.save(graph, path)


def _convert_function(
    forward: Callable[[tf.Tensor], dict[str, tf.Tensor]], image: tf.TensorSpec, models: Sequence[keras.Model]
) -> onnx.ModelProto:
    """Convert a function of images; `models` are those that it calls."""
    import tf2onnx

    kernels = _dense_kernels(models)

    def with_kernels(image: tf.Tensor, *values: tf.Tensor) -> dict[str, tf.Tensor]:
        with keras.StatelessScope(state_mapping=list(zip(kernels.values(), values, strict=True))):
            return forward(image)

    signature = [image, *(tf.TensorSpec(kernel.shape, tf.float32, name=name) for name, kernel in kernels.items())]
    with contextlib.ExitStack() as stack:
        for model in models:
            stack.enter_context(_constant_normalization(model))
            stack.enter_context(_plain_depthwise(model))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        graph, _ = tf2onnx.convert.from_function(
            tf.function(with_kernels, input_signature=signature),
            input_signature=signature,
            opset=OPSET,
            custom_op_handlers={"Erfc": (_erfc, [])},
        )
    _insert(graph, kernels)
    return graph


def _dense_kernels(models: Sequence[keras.Model]) -> dict[str, keras.Variable]:
    """Return the kernels of all Dense layers by their future names in the graph.

    tf2onnx holds some forty copies of every constant during conversion: ConvNeXtLarge, 0.8 GB, would take more than
    24 GB of memory. The kernels are therefore inputs of the conversion, and are inserted into the graph afterwards.
    """
    layers = [layer for model in models for layer in model._flatten_layers() if type(layer) is keras.layers.Dense]
    return {f"dense_kernel_{index}": layer.kernel for index, layer in enumerate(layers)}


def _insert(graph: onnx.ModelProto, kernels: dict[str, keras.Variable]) -> None:
    """Replace the inputs that represent kernels by the kernels."""
    for value in [value for value in graph.graph.input if value.name in kernels]:
        graph.graph.input.remove(value)
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(kernels[value.name]), value.name))


def _erfc(graph: Graph, node: Node, name: str, _arguments: list[object]) -> Node:
    """Replace erfc, which TensorFlow's GELU uses and tf2onnx does not support, by 1 - erf."""
    (operand,), (shape,), (dtype,) = node.input, node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    erf = graph.make_node("Erf", [operand], name=f"{name}_erf", shapes=[shape], dtypes=[dtype])
    one = graph.make_const(f"{name}_one", np.array(1.0, dtype=np.float32))
    return graph.make_node(
        "Sub", [one.output[0], erf.output[0]], name=name, outputs=node.output, shapes=[shape], dtypes=[dtype]
    )


@contextlib.contextmanager
def _constant_normalization(model: keras.Model) -> Iterator[None]:
    """Turn the constants of Normalization layers into NumPy arrays while the model is traced.

    Keras keeps them as eager tensors, which tracing captures as inputs; ONNX Runtime rejects the resulting file.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    originals = [(layer, layer.mean, layer.variance) for layer in layers]
    for layer, mean, variance in originals:
        layer.mean, layer.variance = np.array(mean), np.array(variance)
    try:
        yield
    finally:
        for layer, mean, variance in originals:
            layer.mean, layer.variance = mean, variance


@contextlib.contextmanager
def _plain_depthwise(model: keras.Model) -> Iterator[None]:
    """Compute ConvNeXt's convolutions with one group per channel as depthwise ones while the model is traced.

    On a CPU Keras compiles a grouped convolution with XLA, and tf2onnx cannot convert compiled operations.
    """
    grouped = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and layer.groups > 1]
    for layer in grouped:
        if layer.kernel.shape[2] == 1:
            layer.__dict__["convolution_op"] = functools.partial(_depthwise, layer)
    try:
        yield
    finally:
        for layer in grouped:
            layer.__dict__.pop("convolution_op", None)


def _depthwise(layer: keras.layers.Conv2D, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Compute the layer's convolution; its kernel, (height, width, 1, channels × multiplier), is ordered by channel."""
    height, width, _, filters = kernel.shape
    by_channel = tf.reshape(kernel, (height, width, layer.groups, filters // layer.groups))
    strides = (1, *layer.strides, 1)
    return tf.nn.depthwise_conv2d(inputs, by_channel, strides, layer.padding.upper(), dilations=layer.dilation_rate)


def _name_dimensions(graph: onnx.ModelProto) -> None:
    """Name the dynamic dimensions, and drop operator sets that no node uses."""
    for value, names in ((graph.graph.input[0], ("batch", "height", "width")), (graph.graph.output[0], ("batch",))):
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            dimension.dim_param = name
    used_domains = {node.domain for node in graph.graph.node} | {""}
    used_opsets = [opset for opset in graph.opset_import if opset.domain in used_domains]
    del graph.opset_import[:]
    graph.opset_import.extend(used_opsets)
