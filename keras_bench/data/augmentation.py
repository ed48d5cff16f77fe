"""Augmentation of training images: a list of preprocessing layers, built from the configuration.

Flips, rotation, zoom and translation are our RandomAffine, and the brightness factor is our RandomBrightnessFactor;
contrast, brightness and crop are Keras's own layers.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_bench.config import AugmentationConfig
from keras_bench.data.layers import PerImage, RandomAffine, RandomBrightnessFactor
from keras_bench.data.seeding import PositionSeed

AUGMENTATION_VERSION = 4  # part of the key of cached features: raise it when the same settings produce other images


def build_augmentation(
    config: AugmentationConfig, image_size: int, seed: int
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a function that augments one training batch.

    The function takes images, float32, (batch, image_size, image_size, 3), RGB in [0, 255], and a key, an int32
    scalar unique to each batch of the training; it returns the same shape and range. Each image gets its own random
    values, which depend on the seed, the key and its position in the batch, not on threads or execution order.

    Args:
        config: which augmentations, and their ranges.
        image_size: side of the images, pixels.
        seed: the run's seed.
    """
    layers = augmentation_layers(config, image_size, seed)
    generators = [layer.generator for layer in layers if hasattr(layer, "generator")]

    def augment(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        for generator in generators:
            generator.at(key)
        for layer in layers:
            images = layer(images, training=True)
        return tf.clip_by_value(tf.ensure_shape(images, (None, image_size, image_size, 3)), 0.0, 255.0)

    return augment


def augmentation_layers(config: AugmentationConfig, image_size: int, seed: int) -> list[keras.layers.Layer]:
    """Return the layers in the order in which they are applied, each seeded by position (see PositionSeed).

    In mixed precision RandomContrast and RandomBrightness compute in half precision, all others in float32.
    """
    layers: list[keras.layers.Layer] = []
    affine = {name: getattr(config, name) for name in RandomAffine.DRAWS}
    if any(map(np.any, affine.values())):
        layers.append(_seeded(RandomAffine(**affine, dtype="float32"), seed, *RandomAffine.DRAWS))
    if config.brightness_factor != (1.0, 1.0):
        factor = RandomBrightnessFactor(config.brightness_factor, dtype="float32")
        layers.append(_seeded(factor, seed, "brightness_factor"))
    if config.contrast:
        # A single number c would mean factors from 1 to 1 + c: Keras 3.15 takes (lower, upper) as distances from 1.
        contrast = keras.layers.RandomContrast((config.contrast, config.contrast), value_range=(0, 255))
        layers.append(_seeded(contrast, seed, "contrast"))
    if any(config.brightness):
        brightness = keras.layers.RandomBrightness(config.brightness, value_range=(0, 255))
        layers.append(_seeded(brightness, seed, "brightness"))
    side = max(1, round(config.crop * image_size))
    if side < image_size:
        crop = _seeded(keras.layers.RandomCrop(side, side, dtype="float32"), seed, "crop", "crop")
        layers += [PerImage(crop, dtype="float32"), keras.layers.Resizing(image_size, image_size, dtype="float32")]
    return layers


def _seeded(layer: keras.layers.Layer, seed: int, *changes: str) -> keras.layers.Layer:
    layer.generator = PositionSeed(seed, *changes)
    return layer
