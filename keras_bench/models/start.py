"""Starts TensorFlow, quietly and once per process."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from keras_bench.console import Log
from keras_bench.environment import set_tensorflow_defaults


def start_tensorflow(log: Log) -> list[str]:
    """Import TensorFlow quietly, without TF32; returns the names of the accelerators it sees."""
    set_tensorflow_defaults()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _without_native_stderr():
        import keras
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    # All reported numbers are computed in full float32; only training steps may use TF32 (training/precision.py).
    tf.config.experimental.enable_tensor_float_32_execution(False)
    keras.backend.clear_session()
    devices = []
    for device in gpus:
        tf.config.experimental.set_memory_growth(device, True)
        devices.append(tf.config.experimental.get_device_details(device).get("device_name", device.name))
    log.line(f"device: {', '.join(devices) or 'CPU'}")
    return devices


@contextmanager
def _without_native_stderr() -> Iterator[None]:
    """Hide what TensorFlow's C++ code prints while it looks for a GPU, regardless of the log level."""
    sys.stderr.flush()
    original = os.dup(2)
    with open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
