"""Where float32 may be computed as TensorFloat-32 (TF32): in training steps, and for no number that is reported.

NVIDIA GPUs from Ampere on can read float32 operands of convolutions and matrix products with 10 of their 23 mantissa
bits, and TensorFlow does so by default (`tf.config.experimental.enable_tensor_float_32_execution`). Training tolerates
that, but probabilities move by as much as 0.0175 (emulated on 1,000 images with MobileNet 0.75), which is more than an
ONNX bundle may differ. Therefore every process switches TF32 off when it starts TensorFlow, and `training_precision`
switches it on only around training steps.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from keras_bench.config import TrainingConfig


def uses_xla(training: TrainingConfig) -> bool:
    """Return whether XLA compiles the training step on this machine."""
    # Measured on a CPU: XLA makes EfficientNetB0's forward pass 12 times slower, ResNet50's 1.1 times.
    return training.xla == "on" or (training.xla == "auto" and bool(tf.config.list_physical_devices("GPU")))


def trains_in_tf32(training: TrainingConfig, xla: bool) -> bool:
    """Return whether training steps may use TF32; without a GPU the setting has no effect.

    On a GPU they may only if XLA compiles them. XLA compiles the setting into each program, and validation is a program
    of its own. Without XLA, TensorFlow 2.21 caches the cuDNN engine and the cuBLAS plan that it chose for an
    operation's shapes, and TF32 is not part of the cache key (conv_parameters.h, matmul_util.h): the engines chosen for
    training with TF32 would also compute the validation and the predictions later in the same process.

    Args:
        training: the run's training settings.
        xla: whether XLA compiles the step.
    """
    return training.tf32 and (xla or not tf.config.list_physical_devices("GPU"))


def describe_tf32(training: TrainingConfig) -> dict[str, bool]:
    """Return whether TF32 may be used in `training` and in `evaluation`, meaning everything else in this process."""
    evaluation = bool(tf.config.experimental.tensor_float_32_execution_enabled())
    return {"training": trains_in_tf32(training, uses_xla(training)), "evaluation": evaluation}


@contextmanager
def training_precision(tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32 inside the block; the previous setting is restored afterwards, even if the block raises."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


class FullPrecisionValidation(keras.callbacks.Callback):
    """Switches TF32 off while `fit` validates, since validation decides checkpoints and early stopping.

    If validation raises, `training_precision` around `fit` restores the setting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before = False

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Remember the setting of training, and switch to full float32."""
        self.before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Restore the setting of training."""
        tf.config.experimental.enable_tensor_float_32_execution(self.before)
