"""TensorFloat-32 without a GPU: convolutions and dense layers that round their operands while TensorFlow allows it.

The flag is read when an operation runs, as GPU kernels read it, and not when it is traced.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

DROPPED_BITS = 13  # of float32's 23; TF32 keeps 10


def allowed() -> bool:
    """Return whether TensorFlow may use TF32."""
    return bool(tf.config.experimental.tensor_float_32_execution_enabled())


def allow(tf32: bool) -> None:
    """Set whether TensorFlow may use TF32."""
    tf.config.experimental.enable_tensor_float_32_execution(tf32)


def rounded(values: np.ndarray) -> np.ndarray:
    """Return float32 values rounded to 10-bit mantissas, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32((1 << (DROPPED_BITS - 1)) - 1) + ((bits >> DROPPED_BITS) & 1)
    return ((bits + half) & ~np.uint32((1 << DROPPED_BITS) - 1)).view(np.float32)


class EmulatedTF32:
    """Rounds operands and records the flag at each operation.

    Attributes:
        seen: the flag at the time of rounding, per operand, in the order the operations ran.
    """

    def __init__(self) -> None:
        self.seen: list[bool] = []
        self._converting = False

    @contextmanager
    def converting(self) -> Iterator[None]:
        """Leave layers traced inside the block without emulation, since a graph for ONNX cannot call Python."""
        self._converting = True
        try:
            yield
        finally:
            self._converting = False

    def operand(self, tensor):
        """Return the tensor, rounded while TF32 is allowed if it is float32."""
        if self._converting or tensor.dtype != tf.float32:
            return tensor
        return self._rounded_if_allowed(tensor)

    def _rounded_if_allowed(self, tensor):
        @tf.custom_gradient
        def round_with_identity_gradient(values):
            result = tf.numpy_function(self._round, [values], tf.float32)
            result.set_shape(values.shape)
            return result, lambda gradient: gradient

        return round_with_identity_gradient(tf.convert_to_tensor(tensor))

    def _round(self, values: np.ndarray) -> np.ndarray:
        self.seen.append(allowed())
        return rounded(values) if allowed() else values


def emulate(monkeypatch) -> EmulatedTF32:
    """Patch Keras's convolution and dense layers; depthwise convolutions have kernels of their own, without TF32."""
    emulated = EmulatedTF32()

    def convolution_op(self, inputs, kernel):
        operands = emulated.operand(inputs), emulated.operand(tf.convert_to_tensor(kernel))
        return super(keras.layers.Conv2D, self).convolution_op(*operands)

    def dense(self, inputs, training=None):
        kernel = tf.convert_to_tensor(self.kernel)
        return self.activation(tf.matmul(emulated.operand(inputs), emulated.operand(kernel)) + self.bias)

    monkeypatch.setattr(keras.layers.Conv2D, "convolution_op", convolution_op, raising=False)
    monkeypatch.setattr(keras.layers.Dense, "call", dense)
    return emulated
