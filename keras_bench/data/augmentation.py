"""Random changes to training images, the same whatever thread or epoch runs them.

Flip, rotation, zoom and shift are one affine transform of the image, so each pixel is interpolated once: the Keras
layers one after another interpolate three times, which blurs more and took 3.4 times as long. A factor of brightness is
drawn with them. Other colours and cropping are Keras layers.

Keras layers draw from a counter that several tf.data threads would share, so results would depend on timing and
on what ran before. Here each draw is seeded by the run's seed, the change, the epoch and the batch's place in it: the
stream is reproducible, can run in parallel, an interrupted training continues with the images it would have seen, and
no draw says anything about another.
"""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_bench.config import AugmentationConfig
from keras_bench.data.affine import transform

VERSION = 4  # raise it when the same settings give other images, so that features of the old ones are not found

# Each change's number in the seeds of its draws, by its key in the configuration. Never renumber: images would differ.
CHANGES = {
    "horizontal_flip": 0,
    "vertical_flip": 1,
    "rotation_degrees": 2,
    "zoom": 3,
    "translation": 4,
    "brightness_factor": 5,
    "contrast": 6,
    "brightness": 7,
    "crop": 8,
}
MOST_CHANGES = 16  # room for new ones
MOST_DRAWS = 4  # per change and image

Draw = Callable[[str, int, float, float], tf.Tensor]


def first_seed_word(seed: int, change: str, draw: int) -> int:
    """Return the first of the two int32 words that seed one draw; the second says which batch or image it is for.

    Every (seed, change, draw) has a word of its own; words come round again only for seeds that are 2^25 apart. All
    are below 0, while the shuffle of an epoch takes the run's seed itself, which is 0 or more.

    Args:
        seed: the run's, at least 0.
        change: a key of CHANGES.
        draw: which of the change's draws, from 0.

    Raises:
        ValueError: the change has no room for so many draws.
    """
    if not 0 <= draw < MOST_DRAWS:
        raise ValueError(f"draw of {change}: expected a number from 0 to {MOST_DRAWS - 1}, received {draw}")
    slot = (seed * MOST_CHANGES + CHANGES[change]) * MOST_DRAWS + draw
    return -1 - slot % (1 << 31)


class PositionSeed(keras.random.SeedGenerator):
    """Gives a Keras layer the seeds of one change: they depend on (seed, change, key); `key` is set before each use."""

    def __init__(self, seed: int, change: str) -> None:
        super().__init__(seed=seed)
        self.start = seed
        self.change = change
        self.key: tf.Tensor = tf.constant(0)
        self.draws = 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Return the next int32 pair for this key."""
        pair = _seed_pair(self.start, self.change, self.draws, self.key)
        self.draws += 1
        return pair


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
    layers = _colour_layers(config)
    crop_side = max(1, round(config.crop * image_size))
    crop = keras.layers.RandomCrop(crop_side, crop_side) if crop_side < image_size else None
    generators = []
    for change, layer in {**layers, **({"crop": crop} if crop else {})}.items():
        layer.generator = PositionSeed(seed, change)
        generators.append(layer.generator)

    def augment(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        for generator in generators:
            generator.key, generator.draws = key, 0
        draw = _drawing(seed, key, tf.shape(images)[0])
        if _moves(config):
            images = _move(images, config, draw)
        if config.brightness_factor != (1.0, 1.0):
            factors = draw("brightness_factor", 0, *config.brightness_factor)
            images = tf.clip_by_value(images * factors[:, None, None, None], 0.0, 255.0)
        for layer in layers.values():
            images = layer(images, training=True)
        if crop is not None:
            images = _crop_each(images, crop, key, image_size)
        return tf.clip_by_value(tf.ensure_shape(images, (None, image_size, image_size, 3)), 0.0, 255.0)

    return augment


def _colour_layers(config: AugmentationConfig) -> dict[str, keras.layers.Layer]:
    """Return the Keras layers that change colours, by change, in the order they act."""
    layers: dict[str, keras.layers.Layer] = {}
    if config.contrast:
        # One number c would mean factors from 1 - 0 to 1 + c: Keras 3.15 takes (lower, upper) as distances from 1.
        both_ways = (config.contrast, config.contrast)
        layers["contrast"] = keras.layers.RandomContrast(both_ways, value_range=(0, 255))
    if any(config.brightness):
        layers["brightness"] = keras.layers.RandomBrightness(config.brightness, value_range=(0, 255))
    return layers


def _moves(config: AugmentationConfig) -> bool:
    flips = config.horizontal_flip or config.vertical_flip
    return bool(flips or config.rotation_degrees or any(config.zoom) or config.translation)


def _drawing(seed: int, key: tf.Tensor, count: tf.Tensor) -> Draw:
    """Return a function of (change, draw, low, high) that draws a number from a range for each of `count` images."""

    def draw(change: str, number: int, low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform([count], _seed_pair(seed, change, number, key), low, high)

    return draw


def _seed_pair(seed: int, change: str, draw: int, key: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(first_seed_word(seed, change, draw), tf.int32), tf.cast(key, tf.int32)])


def _move(images: tf.Tensor, config: AugmentationConfig, draw: Draw) -> tf.Tensor:
    """Mirror, rotate, zoom and shift each image about its centre; what comes from outside is the image mirrored.

    With u a pixel of the result seen from the centre, its value is taken at F·R·z·(u - d): shift d, zoom z (above 1
    shows more), rotation R, mirror F.
    """
    side = images.shape[1]
    flips = {"horizontal_flip": config.horizontal_flip, "vertical_flip": config.vertical_flip}
    across, down = (tf.where(draw(name, 0, -1.0, 1.0) < 0.0, -1.0 if on else 1.0, 1.0) for name, on in flips.items())
    limit = math.radians(config.rotation_degrees)
    angle, zoom = draw("rotation_degrees", 0, -limit, limit), 1.0 + draw("zoom", 0, *config.zoom)
    shift = config.translation * side
    shift_x, shift_y = (draw("translation", axis, -shift, shift) for axis in (0, 1))
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
