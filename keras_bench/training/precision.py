"""Where float32 may be computed as TensorFloat-32 (TF32): in training steps, and nowhere that gives a reported number.

NVIDIA GPUs from Ampere on can read float32 operands of convolutions and matrix products with 10 of their 23 mantissa
bits, and TensorFlow lets them unless it is told otherwise (`tf.config.experimental.enable_tensor_float_32_execution`).
Training bears that; probabilities move by as much as 0.0175 (emulated on 1,000 images with MobileNet 0.75), more than
an ONNX bundle may differ. So every process switches TF32 off when it starts TensorFlow, and `training_precision`
switches it on around training steps alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from keras_bench.config import TrainingConfig


def uses_xla(training: TrainingConfig) -> bool:
    """Return whether XLA compiles the training step on this machine."""
    # Measured on a CPU without a GPU: XLA makes EfficientNetB0's forward pass 12 times slower, ResNet50's 1.1 times.
    return training.xla == "on" or (training.xla == "auto" and bool(tf.config.list_physical_devices("GPU")))


def trains_in_tf32(training: TrainingConfig, xla: bool) -> bool:
    """Return whether training steps may use TF32; on a machine without a GPU the answer changes nothing.

    On a GPU only where XLA compiles them. XLA takes the setting into the program it compiles, and validation is a
    program of its own. Without XLA, TensorFlow 2.21 remembers the cuDNN engine and the cuBLAS plan that it chose for
    an operation's shapes, and TF32 is not among what it finds them by (conv_parameters.h, matmul_util.h): what
    training chose with TF32 would compute the validation and the predictions that follow in the same process.

    Args:
        training: the run's settings.
        xla: whether XLA compiles the step.
    """
    return training.tf32 and (xla or not tf.config.list_physical_devices("GPU"))


def describe_tf32(training: TrainingConfig) -> dict[str, bool]:
    """Return whether TF32 may be used in `training`, and in `evaluation`, which is all else this process computes."""
    evaluation = bool(tf.config.experimental.tensor_float_32_execution_enabled())
    return {"training": trains_in_tf32(training, uses_xla(training)), "evaluation": evaluation}


@contextmanager
def training_precision(tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32 inside the block; afterwards it is as it was before, also when the block raises."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


class FullPrecisionValidation(keras.callbacks.Callback):
    """Switches TF32 off while `fit` validates, since that decides checkpoints and early stopping.

    Where validation raises, `training_precision` around `fit` puts the setting back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before = False

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Remember what training uses, and switch to full float32."""
        self.before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Go back to what training uses."""
        tf.config.experimental.enable_tensor_float_32_execution(self.before)
