"""Random changes to training images by Keras preprocessing layers, the same whatever thread or epoch runs them.

Keras layers draw from a counter that several tf.data threads would share, so results would depend on timing and
on what ran before. Here each layer draws from its own number, the epoch and the batch's place in it: the stream is
reproducible, can run in parallel, and an interrupted training continues with the images it would have seen.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_bench.config import AugmentationConfig


class PositionSeed(keras.random.SeedGenerator):
    """A seed generator whose draws depend on (seed, key) only; `key` is set before each use."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed)
        self.start = seed
        self.key: tf.Tensor = tf.constant(0)
        self.draws = 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Return the next int32 pair for this key."""
        self.draws += 1
        return tf.stack([tf.constant(self.start * 64 + self.draws, tf.int32), tf.cast(self.key, tf.int32)])


def build_augmentation(
    config: AugmentationConfig, image_size: int, seed: int
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a function that augments one training batch.

    The function takes images, float32, (batch, image_size, image_size, 3), RGB in [0, 255], and a key, an int32
    scalar that is different for each batch of the whole training; it returns the same shape and range. Every image
    gets its own random values.

    Args:
        config: which changes, and their ranges.
        image_size: side of the images, pixels.
        seed: the run's seed.
    """
    layers = _layers(config)
    crop_side = max(1, round(config.crop * image_size))
    crop = keras.layers.RandomCrop(crop_side, crop_side) if crop_side < image_size else None
    generators = []
    for number, layer in enumerate([*layers, crop] if crop else layers):
        layer.generator = PositionSeed((seed * 16 + number) % (1 << 24))
        generators.append(layer.generator)

    def augment(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        for generator in generators:
            generator.key, generator.draws = key, 0
        for layer in layers:
            images = layer(images, training=True)
        if crop is not None:
            images = _crop_each(images, crop, key, image_size)
        return tf.clip_by_value(tf.ensure_shape(images, (None, image_size, image_size, 3)), 0.0, 255.0)

    return augment


def _layers(config: AugmentationConfig) -> list[keras.layers.Layer]:
    flips = {(True, True): "horizontal_and_vertical", (True, False): "horizontal", (False, True): "vertical"}
    flip = flips.get((config.horizontal_flip, config.vertical_flip))
    layers = [keras.layers.RandomFlip(flip)] if flip else []
    if config.rotation_degrees:
        layers.append(keras.layers.RandomRotation(config.rotation_degrees / 360))
    if any(config.zoom):
        layers.append(keras.layers.RandomZoom(config.zoom))
    if config.translation:
        layers.append(keras.layers.RandomTranslation(config.translation, config.translation))
    if config.contrast:
        layers.append(keras.layers.RandomContrast(config.contrast, value_range=(0, 255)))
    if any(config.brightness):
        layers.append(keras.layers.RandomBrightness(config.brightness, value_range=(0, 255)))
    return layers


def _crop_each(images: tf.Tensor, crop: keras.layers.RandomCrop, key: tf.Tensor, image_size: int) -> tf.Tensor:
    """Cut a window out of every image and enlarge it back; RandomCrop alone moves one window over a whole batch."""
    count = tf.shape(images)[0]

    def cut(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, number = pair
        # A batch holds fewer than 4,099 images; wrapping around is harmless.
        crop.generator.key, crop.generator.draws = key * 4099 + number, 0
        return tf.ensure_shape(crop(image, training=True), (crop.height, crop.width, 3))

    signature = tf.TensorSpec((crop.height, crop.width, 3), tf.float32)
    windows = tf.map_fn(cut, (images, tf.range(count)), fn_output_signature=signature)
    return tf.image.resize(windows, (image_size, image_size))
