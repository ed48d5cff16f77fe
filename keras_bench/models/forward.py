"""Networks as plain functions from images to arrays."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

Forward = Callable[[tf.Tensor], np.ndarray]


def keras_forward(network: keras.Model) -> Forward:
    """Return a function from a batch of images to the network's output, computed by Keras in inference mode."""
    signature = [tf.TensorSpec(network.input_shape, tf.float32)]
    compiled = tf.function(lambda images: network(images, training=False), input_signature=signature)
    return lambda images: np.asarray(compiled(images), dtype=np.float32)


def onnx_forward(model: bytes) -> Forward:
    """Return a function from a batch of images to features, computed by ONNX Runtime on the calling thread alone.

    `load_or_compute_features` calls it from as many threads as there are cores, one batch per thread. Threads that
    share a batch wait for each other after every operation, and for the cores that are reading the next images: on two
    cores that left 0.71 of the network's own throughput (MobileNet, 128 pixels), whereas one batch per thread attains
    all of it.

    Args:
        model: a serialised ONNX model with one input.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: np.asarray(images)})[0])
