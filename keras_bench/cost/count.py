"""Counts what one forward pass of a model costs, without a clock."""

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

BYTES = 4  # of a float32


def count_cost(model: keras.Model, image_size: int, file: Path) -> Cost:
    """Count parameters, multiply-adds, floating-point operations and bytes of a model.

    Args:
        model: from images, float32 (batch, image_size, image_size, 3), to probabilities.
        image_size: side of that square input, pixels; the counts hold for it only.
        file: the saved model, for its size on disk.

    Raises:
        RunError: the model takes images of another size, or holds a layer that `multiply_adds` cannot count.
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

    Only convolutions and dense layers count, biases do not, as papers state them: a convolution with a kernel of
    h × w × c values for each of n filters and an output of H × W positions takes H·W·h·w·c·n (Howard et al. 2017,
    "MobileNets", section 3.1). In a grouped convolution, c is the channels of one group.

    Args:
        model: functional, each layer called once; models inside it are entered.

    Raises:
        RunError: a layer with a matrix of weights that is of no known kind, or a layer that is called several times.
    """
    calls = list(_calls(model))
    times = Counter(layer for layer, _ in calls)
    return sum(_layer_multiply_adds(layer, output, times[layer]) for layer, output in calls)


def _calls(model: keras.Model) -> Iterator[tuple[keras.layers.Layer, keras.KerasTensor]]:
    """Yield each call of a layer in this model's own graph, with its output; Keras has no public name for the calls.

    A layer may have been called for other graphs too: loading a Sequential calls its first layer twice.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    for node in (node for level in graph._nodes_by_depth.values() for node in level):
        if isinstance(node.operation, keras.Model):
            yield from _calls(node.operation)
        elif isinstance(node.operation, keras.layers.Layer):
            yield node.operation, node.outputs[0]


def _layer_multiply_adds(layer: keras.layers.Layer, output: keras.KerasTensor, times: int) -> int:
    # A vector of weights scales or shifts channels (normalisation, layer scale); only matrices multiply and add up.
    if all(len(weight.shape) < 2 for weight in layer.weights):
        return 0
    kernels = _kernels(layer)
    if times != 1:
        raise RunError(f"multiply-adds: layer {layer.name} is called {times} times, expected once")
    positions = math.prod(output.shape[1:-1])
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)


def _kernels(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the kernels that are applied once at each position of the layer's output."""
    if isinstance(layer, keras.layers.SeparableConv2D):
        return [layer.depthwise_kernel, layer.pointwise_kernel]
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
        return [layer.kernel]
    raise RunError(
        f"multiply-adds: expected convolutions and dense layers, received layer {layer.name} of type "
        f"{type(layer).__name__}; keras_bench.cost.count must learn to count it"
    )


def graph_flops(model: keras.Model) -> int:
    """Return the floating-point operations of one forward pass of one image, as TensorFlow's profiler counts them.

    It knows nothing of layers: it adds up what each operation of the traced inference graph declares, a
    multiplication and an addition as one each. Element-wise arithmetic, reductions, pooling, biases and softmax are
    included; activations (Relu, Sigmoid, Erfc …) and moving data declare nothing. Weights need not be frozen to
    constants: the graph knows their shapes, and the counts are the same.

    Args:
        model: from float32 images of one fixed size.
    """
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"  # otherwise the whole tree of operations is printed
    with _inlined_functions():
        graph = tf.compat.v1.wrap_function(lambda images: model(images, training=False), [signature]).graph
    with _without_warnings():
        counted = tf.compat.v1.profiler.profile(graph, options=options)
    return int(counted.total_float_ops)


@contextmanager
def _inlined_functions() -> Iterator[None]:
    """Trace inner functions into the outer graph: Keras hides grouped convolutions in one, where none would count."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide that TensorFlow's profiler calls functions TensorFlow itself deprecates."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
