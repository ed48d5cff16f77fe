"""Checks that every backbone gets pixels as its ImageNet weights expect, by comparison with keras.applications.

No network is built: the normalisation of `models/build.py` is compared with the module's `preprocess_input`.
"""

import sys

import keras
import numpy as np

from keras_bench.backbones.table import BACKBONES, Backbone
from keras_bench.models.normalization import fix_efficientnet_normalization, normalize
from keras_bench.models.resnet import RESNET_BUILDERS

# A gray level is 0.0078 in the narrowest of the ranges, [-1, 1]; float32 rounds to 2e-5 at 150.
PIXEL_TOLERANCE = 1e-4


def differing_backbones() -> dict[str, float]:
    """Return the backbones whose normalised pixels differ from the reference, each with its largest difference."""
    image = known_image()
    differences = {
        row.name: float(np.abs(_normalized(row, image) - _reference(row, image)).max()) for row in BACKBONES.values()
    }
    return {name: difference for name, difference in differences.items() if not difference <= PIXEL_TOLERANCE}


def keras_settings() -> tuple[str, str]:
    """Return Keras's backend and data format; the package requires ("tensorflow", "channels_last")."""
    return keras.backend.backend(), keras.config.image_data_format()


def known_image() -> np.ndarray:
    """Return an image whose values all differ: float32, (1, 8, 8, 3), RGB from 0 to 255."""
    return np.linspace(0, 255, 8 * 8 * 3, dtype=np.float32).reshape(1, 8, 8, 3)


def _normalized(row: Backbone, image: np.ndarray) -> np.ndarray:
    pixels = normalize(keras.ops.convert_to_tensor(image), row.family.normalization)
    if row.family.name == "EfficientNet":
        layer = keras.layers.Normalization()
        layer.build(image.shape)
        fix_efficientnet_normalization([layer])
        pixels = layer(keras.layers.Rescaling(1 / 255)(pixels))
    return keras.ops.convert_to_numpy(pixels)


def _reference(row: Backbone, image: np.ndarray) -> np.ndarray:
    """Return the pixels as keras.applications feeds them to the network.

    EfficientNet's own layers amount to the "torch" scheme with weights="imagenet" (tensorflow#49930); ResNet18 and
    ResNet34, which Keras lacks, follow it too.
    """
    if row.name in RESNET_BUILDERS or row.family.name == "EfficientNet":
        return keras.applications.imagenet_utils.preprocess_input(image.copy(), mode="torch")
    module = sys.modules[getattr(keras.applications, row.name).__module__]
    return module.preprocess_input(image.copy())
