"""Turns a Keras model into one ONNX graph that takes images as they are decoded, of any size."""

import contextlib
import functools
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf

from keras_bench.bundle import IMAGE, PROBABILITIES

FEATURES_OUTPUT = "features"
OPSET = 18
MAX_BYTES = 2_000_000_000  # of one protobuf message, which an .onnx file is


def to_onnx(members: Sequence[tuple[keras.Model, float]], metadata: dict[str, object]) -> onnx.ModelProto:
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

    def forward(image: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.cast(image, tf.float32)
        parts = [model(tf.image.resize(pixels, model.input_shape[1:3]), training=False) for model, _ in members]
        if len(parts) == 1:
            return {PROBABILITIES: parts[0]}
        return {PROBABILITIES: tf.add_n([weight * part for (_, weight), part in zip(members, parts, strict=True)])}

    # Height and width stay open: static ones may give float scales that are off by one pixel.
    graph = _convert_function(
        forward, tf.TensorSpec((None, None, None, 3), tf.uint8, name=IMAGE), [one for one, _ in members]
    )
    _name_dimensions(graph)
    for key, value in metadata.items():
        graph.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    if graph.ByteSize() > MAX_BYTES:
        raise ValueError(f"{graph.ByteSize() / 1e9:.1f} GB of weights are more than one ONNX file holds (2 GB)")
    onnx.checker.check_model(graph, full_check=True)
    return graph


def network_to_onnx(model: keras.Model) -> onnx.ModelProto:
    """Return a part of a model as it is: `image`, float32 of the model's input shape, to `features`, its output."""

    def forward(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {FEATURES_OUTPUT: model(image, training=False)}

    return _convert_function(forward, tf.TensorSpec(model.input_shape, tf.float32, name=IMAGE), [model])


def save(graph: onnx.ModelProto, path: Path) -> None:
    """Write an .onnx file."""
    onnx.save(graph, path)


def _convert_function(
    forward: Callable[[tf.Tensor], dict[str, tf.Tensor]], image: tf.TensorSpec, models: Sequence[keras.Model]
) -> onnx.ModelProto:
    """Convert a function of images that calls some models."""
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
    """Return the kernels of all Dense layers by the names they get in the graph.

    tf2onnx holds some forty copies of every constant while it converts: with its Dense kernels ConvNeXtLarge, 0.8 GB,
    takes more than 24 GB of memory. So these enter the conversion as inputs, and the graph gets them afterwards.
    """
    layers = [layer for model in models for layer in model._flatten_layers() if type(layer) is keras.layers.Dense]
    return {f"dense_kernel_{index}": layer.kernel for index, layer in enumerate(layers)}


def _insert(graph: onnx.ModelProto, kernels: dict[str, keras.Variable]) -> None:
    """Turn inputs that stand for weights into weights."""
    for value in [value for value in graph.graph.input if value.name in kernels]:
        graph.graph.input.remove(value)
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(kernels[value.name]), value.name))


def _erfc(graph: Any, node: Any, name: str, _arguments: Any) -> Any:
    """Write erfc, which TensorFlow's GELU holds and tf2onnx does not know, as 1 - erf."""
    (given,), (shape,), (kind,) = node.input, node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    erf = graph.make_node("Erf", [given], name=f"{name}_erf", shapes=[shape], dtypes=[kind])
    one = graph.make_const(f"{name}_one", np.array(1.0, dtype=np.float32))
    return graph.make_node(
        "Sub", [one.output[0], erf.output[0]], name=name, outputs=node.output, shapes=[shape], dtypes=[kind]
    )


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


@contextlib.contextmanager
def _plain_depthwise(model: keras.Model) -> Iterator[None]:
    """Let ConvNeXt's convolutions of one group a channel be TensorFlow's depthwise ones while the model is traced.

    On a CPU Keras compiles a grouped convolution with XLA, and tf2onnx cannot look into what XLA compiles.
    """
    found = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and layer.groups > 1]
    for layer in found:
        if layer.kernel.shape[2] == 1:
            layer.__dict__["convolution_op"] = functools.partial(_depthwise, layer)
    try:
        yield
    finally:
        for layer in found:
            layer.__dict__.pop("convolution_op", None)


def _depthwise(layer: keras.layers.Conv2D, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolve as the layer does; its kernel, (height, width, 1, channels × multiplier), is ordered by channel."""
    height, width, _, filters = kernel.shape
    by_channel = tf.reshape(kernel, (height, width, layer.groups, filters // layer.groups))
    strides = (1, *layer.strides, 1)
    return tf.nn.depthwise_conv2d(inputs, by_channel, strides, layer.padding.upper(), dilations=layer.dilation_rate)


def _name_dimensions(graph: onnx.ModelProto) -> None:
    """Name the open dimensions, and drop operator sets that no node uses."""
    for value, names in ((graph.graph.input[0], ("batch", "height", "width")), (graph.graph.output[0], ("batch",))):
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            dimension.dim_param = name
    used = {node.domain for node in graph.graph.node}
    kept = [one for one in graph.opset_import if one.domain in used | {""}]
    del graph.opset_import[:]
    graph.opset_import.extend(kept)
