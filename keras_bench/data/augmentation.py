"""Random changes to training images, the same whatever thread or epoch runs them.

Flip, rotation, zoom and shift are one affine transform of the image, so each pixel is interpolated once: the Keras
layers one after another interpolate three times, which blurs more and took 3.4 times as long. A factor of brightness is
drawn with them. Other colours and cropping are Keras layers.

Keras layers draw from a counter that several tf.data threads would share, so results would depend on timing and
on what ran before. Here each change draws from its own number, the epoch and the batch's place in it: the stream is
reproducible, can run in parallel, and an interrupted training continues with the images it would have seen.
"""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_bench.config import AugmentationConfig
from keras_bench.data.affine import transform

VERSION = 3  # raise it when the same settings give other images, so that features of the old ones are not found
Draw = Callable[[float, float], tf.Tensor]


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
        draw = _drawing(seed, key, tf.shape(images)[0])
        if _moves(config):
            images = _move(images, config, draw)
        if config.brightness_factor != (1.0, 1.0):
            images = tf.clip_by_value(images * draw(*config.brightness_factor)[:, None, None, None], 0.0, 255.0)
        for layer in layers:
            images = layer(images, training=True)
        if crop is not None:
            images = _crop_each(images, crop, key, image_size)
        return tf.clip_by_value(tf.ensure_shape(images, (None, image_size, image_size, 3)), 0.0, 255.0)

    return augment


def _layers(config: AugmentationConfig) -> list[keras.layers.Layer]:
    layers = []
    if config.contrast:
        layers.append(keras.layers.RandomContrast(config.contrast, value_range=(0, 255)))
    if any(config.brightness):
        layers.append(keras.layers.RandomBrightness(config.brightness, value_range=(0, 255)))
    return layers


def _moves(config: AugmentationConfig) -> bool:
    flips = config.horizontal_flip or config.vertical_flip
    return bool(flips or config.rotation_degrees or any(config.zoom) or config.translation)


def _drawing(seed: int, key: tf.Tensor, count: tf.Tensor) -> Draw:
    """Return a function that draws a number from a range for each image; the n-th call differs from the others."""
    calls = 0

    def draw(low: float, high: float) -> tf.Tensor:
        nonlocal calls
        calls += 1
        pair = tf.stack([tf.constant((seed * 64 + calls) % (1 << 31), tf.int32), tf.cast(key, tf.int32)])
        return tf.random.stateless_uniform([count], pair, low, high)

    return draw


def _move(images: tf.Tensor, config: AugmentationConfig, draw: Draw) -> tf.Tensor:
    """Mirror, rotate, zoom and shift each image about its centre; what comes from outside is the image mirrored.

    With u a pixel of the result seen from the centre, its value is taken at F·R·z·(u - d): shift d, zoom z (above 1
    shows more), rotation R, mirror F.
    """
    side = images.shape[1]
    flips = (config.horizontal_flip, config.vertical_flip)
    across, down = (tf.where(draw(-1.0, 1.0) < 0.0, -1.0 if flip else 1.0, 1.0) for flip in flips)
    limit = math.radians(config.rotation_degrees)
    angle, zoom = draw(-limit, limit), 1.0 + draw(*config.zoom)
    shift = config.translation * side
    shift_x, shift_y = draw(-shift, shift), draw(-shift, shift)
    cosine, sine = zoom * tf.cos(angle), zoom * tf.sin(angle)
    xx, xy, yx, yy = across * cosine, -across * sine, down * sine, down * cosine
    centre = (side - 1) / 2
    left, top = centre + shift_x, centre + shift_y
    rows = [xx, xy, centre - xx * left - xy * top, yx, yy, centre - yx * left - yy * top]
    return transform(images, tf.reshape(tf.stack(rows, axis=1), (-1, 2, 3)))


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
