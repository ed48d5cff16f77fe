"""Networks as plain functions from images to arrays."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_bench.console import Log
from keras_bench.environment import usable_cores

Forward = Callable[[tf.Tensor], np.ndarray]

# With fewer pixels in total, converting the network to ONNX takes longer than ONNX Runtime saves. The rule must not
# depend on a clock: the two engines differ by rounding errors, and a run must be reproducible to the last digit.
PIXELS_WORTH_CONVERTING = 50_000_000
OUTPUT_TOLERANCE = 1e-3  # between ONNX Runtime and Keras, as a share of the largest output


def keras_forward(network: keras.Model) -> Forward:
    """Return a function from a batch of images to the network's output, computed by Keras in inference mode."""
    signature = [tf.TensorSpec(network.input_shape, tf.float32)]
    compiled = tf.function(lambda images: network(images, training=False), input_signature=signature)
    return lambda images: np.asarray(compiled(images), dtype=np.float32)


def onnx_forward(model: bytes) -> Forward:
    """Return a function from a batch of images to the network's output, computed by ONNX Runtime on one thread.

    It is the calling thread, so that as many batches as there are cores can be computed at once. Threads that share a
    batch wait for each other after every operation, and for the cores that are reading the next images: on two cores
    that left 0.71 of the network's own throughput (MobileNet, 128 pixels), whereas one batch per thread attains all of
    it.

    Args:
        model: a serialised ONNX model with one input.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: np.asarray(images)})[0])


def is_worth_converting(pixels: int) -> bool:
    """Return whether ONNX Runtime computes a pass over that many pixels sooner than Keras, conversion included."""
    return pixels >= PIXELS_WORTH_CONVERTING and not tf.config.list_physical_devices("GPU")


def load_engine(engine: str, network: keras.Model, images: tf.Tensor, outputs: str, log: Log) -> tuple[Forward, int]:
    """Return the function from images to the network's output, and how many threads may call it at a time.

    Args:
        engine: "onnxruntime", which is used if it agrees with Keras on the given images, or "keras".
        network: a float32 network; "keras" takes any precision.
        images: a few images on which the two are compared, float32, (N, side, side, 3).
        outputs: what the network computes, for the warning that the two differ.
        log: the screen.
    """
    by_keras = keras_forward(network)
    if engine == "keras":
        return by_keras, 1
    from keras_bench.models.onnx import network_to_onnx  # tf2onnx takes seconds to load

    by_onnx = onnx_forward(network_to_onnx(network).SerializeToString())
    expected, received = by_keras(images), by_onnx(images)
    difference = np.abs(received - expected).max() / max(np.abs(expected).max(), 1e-12)
    if not difference <= OUTPUT_TOLERANCE:
        log.warn(
            f"ONNX Runtime's {outputs} differ from Keras's by up to {difference:.1e} of the largest, so Keras is used"
        )
        return by_keras, 1
    return by_onnx, usable_cores()
