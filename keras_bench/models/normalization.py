"""Normalises raw RGB in [0, 255] as each family's ImageNet weights expect."""

import keras
import numpy as np

from keras_bench.backbones.table import Normalization

# Mean and standard deviation of ImageNet's training images: RGB in [0, 1] (torch), and the BGR mean in [0, 255]
# (caffe), as in keras.applications.imagenet_utils.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


def normalize(image: keras.KerasTensor, scheme: Normalization) -> keras.KerasTensor:
    """Return the normalised tensor; layers have fixed names, so the graph is the same in every process.

    Args:
        image: float32, (batch, height, width, 3), RGB in [0, 255].
        scheme: see `keras_bench.backbones.table.Family`.
    """
    if scheme == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="normalize")(image)
    if scheme == "torch":
        scale = [1 / (255 * deviation) for deviation in IMAGENET_DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)]
        return keras.layers.Rescaling(scale, offset=offset, name="normalize")(image)
    if scheme == "caffe":
        flipped = keras.ops.take(image, [2, 1, 0], axis=-1)
        return keras.layers.Rescaling([1.0] * 3, offset=[-mean for mean in CAFFE_MEAN_BGR], name="normalize")(flipped)
    return image


def fix_efficientnet_normalization(backbone_layers: list[keras.layers.Layer]) -> None:
    """Set the constants of EfficientNet's own normalisation layer that its ImageNet weights need.

    That layer divides by the square root of its "variance", in which the published file stores the standard deviation;
    keras.applications compensates with an extra Rescaling layer, but only for weights="imagenet". Storing the squared
    deviation gives the same values, (x / 255 - mean) / deviation, wherever the weights come from.
    """
    for layer in backbone_layers:
        if isinstance(layer, keras.layers.Normalization):
            squared = [deviation**2 for deviation in IMAGENET_DEVIATION]
            layer.set_weights([np.array(IMAGENET_MEAN), np.array(squared), np.array(0)])
            layer.finalize_state()
