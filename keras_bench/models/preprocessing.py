"""Whether pixels reach every backbone as its ImageNet weights expect them, by comparison with keras.applications.

Nothing is built: what `models/build.py` puts before a network is compared with its module's `preprocess_input`.
"""

import sys

import keras
import numpy as np

from keras_bench.backbones.table import BACKBONES, Backbone
from keras_bench.models.normalization import fix_efficientnet_normalization, normalize
from keras_bench.models.resnet import RESNET_BUILDERS

PIXEL_TOLERANCE = (
    1e-4  # a grey level is 0.0078 in the narrowest of these ranges, [-1, 1]; float32 rounds to 2e-5 at 150
)


def differing_backbones() -> dict[str, float]:
    """Return the backbones whose pixels are not the reference's, with the largest difference on a known image."""
    image = known_image()
    differences = {
        row.name: float(np.abs(_ours(row, image) - _reference(row, image)).max()) for row in BACKBONES.values()
    }
    return {name: difference for name, difference in differences.items() if not difference <= PIXEL_TOLERANCE}


def keras_settings() -> tuple[str, str]:
    """Return what Keras runs on and where it expects channels; we need ("tensorflow", "channels_last")."""
    return keras.backend.backend(), keras.config.image_data_format()


def known_image() -> np.ndarray:
    """Return an image in which no two values are equal: float32, (1, 8, 8, 3), RGB from 0 to 255."""
    return np.linspace(0, 255, 8 * 8 * 3, dtype=np.float32).reshape(1, 8, 8, 3)


def _ours(row: Backbone, image: np.ndarray) -> np.ndarray:
    pixels = normalize(keras.ops.convert_to_tensor(image), row.family.normalization)
    if row.family.name == "EfficientNet":
        layer = keras.layers.Normalization()
        layer.build(image.shape)
        fix_efficientnet_normalization([layer])
        pixels = layer(keras.layers.Rescaling(1 / 255)(pixels))
    return keras.ops.convert_to_numpy(pixels)


def _reference(row: Backbone, image: np.ndarray) -> np.ndarray:
    """Return what keras.applications feeds the first convolution, or a network that normalises pixels itself.

    EfficientNet's own layers come to the "torch" scheme where weights="imagenet" is asked for (tensorflow#49930);
    ResNet18 and ResNet34, which Keras lacks, follow it too.
    """
    if row.name in RESNET_BUILDERS or row.family.name == "EfficientNet":
        return keras.applications.imagenet_utils.preprocess_input(image.copy(), mode="torch")
    module = sys.modules[getattr(keras.applications, row.name).__module__]
    return module.preprocess_input(image.copy())
