"""Counts the cost of a model and its forward pass, without timing anything."""

import logging
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from keras_bench.cost.records import Cost
from keras_bench.errors import RunError

BYTES = 4  # per float32


def count_cost(model: keras.Model, image_size: int, file: Path) -> Cost:
    """Count parameters, multiply-adds, floating-point operations and bytes of a model.

    Args:
        model: takes images, float32 (batch, image_size, image_size, 3), and returns probabilities.
        image_size: side of the square input in pixels; the counts hold for this size only.
        file: the saved model, for its size on disk.

    Raises:
        RunError: the model takes images of another size, or has a layer that `multiply_adds` cannot count.
    """
    if tuple(model.input_shape[1:]) != (image_size, image_size, 3):
        raise RunError(f"{model.name}: expected input of {image_size} pixels, received {model.input_shape}")
    parameters = int(model.count_params())
    return Cost(
        image_size=image_size,
        parameters=parameters,
        multiply_adds=multiply_adds(model),
        flops=graph_flops(model),
        weight_bytes=BYTES * parameters,
        file_bytes=file.stat().st_size,
    )


def multiply_adds(model: keras.Model) -> int:
    """Return the multiply-adds of one forward pass of one image, counted from kernel and output shapes.

    As in papers, only convolutions and dense layers count, without biases: a convolution with n kernels of h × w × c
    values and an output of H × W positions takes H·W·h·w·c·n (Howard et al. 2017, "MobileNets", section 3.1). In a
    grouped convolution, c is the number of channels in one group.

    Args:
        model: functional, each layer called once; nested models are counted too.

    Raises:
        RunError: a layer with a weight matrix is of an unknown kind, or is called several times.
    """
    calls = list(_layer_calls(model))
    call_counts = Counter(layer for layer, _ in calls)
    return sum(_layer_multiply_adds(layer, output, call_counts[layer]) for layer, output in calls)


def _layer_calls(model: keras.Model) -> Iterator[tuple[keras.layers.Layer, keras.KerasTensor]]:
    """Yield each layer call in this model's own graph, with its output; Keras has no public API for this.

    A layer may also have been called in other graphs: loading a Sequential calls its first layer twice.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    for node in (node for level in graph._nodes_by_depth.values() for node in level):
        if isinstance(node.operation, keras.Model):
            yield from _layer_calls(node.operation)
        elif isinstance(node.operation, keras.layers.Layer):
            yield node.operation, node.outputs[0]


def _layer_multiply_adds(layer: keras.layers.Layer, output: keras.KerasTensor, call_count: int) -> int:
    # A weight vector only scales or shifts channels (normalisation, layer scale); only a matrix multiplies and adds.
    if all(len(weight.shape) < 2 for weight in layer.weights):
        return 0
    kernels = _kernels(layer)
    if call_count != 1:
        raise RunError(f"multiply-adds: layer {layer.name} is called {call_count} times, expected once")
    positions = math.prod(output.shape[1:-1])
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)


def _kernels(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the kernels that the layer applies once at each output position."""
    if isinstance(layer, keras.layers.SeparableConv2D):
        return [layer.depthwise_kernel, layer.pointwise_kernel]
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
        return [layer.kernel]
    raise RunError(
        f"multiply-adds: expected convolutions and dense layers, received layer {layer.name} of type "
        f"{type(layer).__name__}; add its kind to keras_bench.cost.count"
    )


def graph_flops(model: keras.Model) -> int:
    """Return the floating-point operations of one forward pass of one image, as TensorFlow's profiler counts them.

    The profiler knows no layers: it sums the count that each operation of the traced inference graph declares, where
    a multiplication and an addition are one each. Element-wise arithmetic, reductions, pooling, biases and softmax are
    included; activations (Relu, Sigmoid, Erfc …) and data movement declare nothing. Weights need not be frozen to
    constants: the graph knows their shapes, and the counts are the same.

    Args:
        model: takes float32 images of a fixed size.
    """
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"  # otherwise it prints the whole tree of operations
    with _inlined_functions():
        graph = tf.compat.v1.wrap_function(lambda images: model(images, training=False), [signature]).graph
    with _without_warnings():
        profile = tf.compat.v1.profiler.profile(graph, options=options)
    return int(profile.total_float_ops)


@contextmanager
def _inlined_functions() -> Iterator[None]:
    """Trace inner functions into the outer graph; Keras puts grouped convolutions into one, where they do not count."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide the warnings that TensorFlow's profiler causes by calling functions TensorFlow itself deprecates."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
