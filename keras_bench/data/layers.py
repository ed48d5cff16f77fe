"""Keras preprocessing layers that Keras 3.15 lacks: one affine transform, a brightness factor, one draw per image.

Like Keras's own they work in tf.data and in a model, draw from `generator`, split the work into
`get_random_transformation` and `transform_images`, and do nothing unless `training` is true. Keras's base class for
such layers, BaseImagePreprocessingLayer, is not public.
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from keras_bench.data.affine import transform
from keras_bench.data.seeding import PositionSeed

DrawRange = tuple[float, float]
Draws = dict[str, tf.Tensor]  # float32, (batch,) each


class RandomImageLayer(keras.layers.Layer):
    """Base of the layers below: draws random values for each image of a batch and transforms it accordingly.

    Input: (batch, height, width, channels) or one image, (height, width, channels). Output: the same shape, in the
    layer's compute dtype.

    Args:
        seed: seed of the draws; None: a random one.
        **kwargs: `name`, `dtype` and other arguments of keras.layers.Layer.
    """

    def __init__(self, seed: int | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def get_random_transformation(self, images: tf.Tensor) -> Draws:
        """Draw the values for a batch of images."""
        raise NotImplementedError

    def transform_images(self, images: tf.Tensor, transformation: Draws) -> tf.Tensor:
        """Return a batch of images transformed by the drawn values."""
        raise NotImplementedError

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the images, transformed if `training` is true."""
        images = tf.cast(images, self.compute_dtype)
        if not training:
            return images
        if images.shape.rank == 3:
            return self.call(images[None], training=True)[0]
        return self.transform_images(images, self.get_random_transformation(images))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}

    def uniform(self, images: tf.Tensor, low: float, high: float) -> tf.Tensor:
        """Draw a number from [low, high) for each image, float32, (batch,)."""
        return keras.random.uniform((tf.shape(images)[0],), low, high, dtype="float32", seed=self.generator)


@keras.saving.register_keras_serializable(package="keras_bench")
class RandomAffine(RandomImageLayer):
    """Mirrors, rotates, zooms and shifts each image about its centre, interpolating once.

    Keras's four layers in sequence interpolate three times, which blurs more and took 3.4 times as long. Areas outside
    the image are filled with its reflection. Height and width must be known.

    Args:
        horizontal_flip: mirror left and right with probability 0.5.
        vertical_flip: mirror top and bottom with probability 0.5.
        rotation_degrees: largest rotation in either direction, degrees.
        zoom: range of the relative zoom; values above 0 zoom out, below 0 in.
        translation: largest shift in either direction, as a share of width and height.
        seed: as for RandomImageLayer.
        **kwargs: as for RandomImageLayer.

    Raises:
        ValueError: when called, if the height or the width is unknown.
    """

    # The configuration key that each draw belongs to, in the order of get_random_transformation.
    DRAWS = ("horizontal_flip", "vertical_flip", "rotation_degrees", "zoom", "translation", "translation")

    def __init__(
        self,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        rotation_degrees: float = 0.0,
        zoom: DrawRange = (0.0, 0.0),
        translation: float = 0.0,
        seed: int | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(seed, **kwargs)
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.rotation_degrees = rotation_degrees
        self.zoom = tuple(zoom)  # JSON has lists only
        self.translation = translation

    def get_random_transformation(self, images: tf.Tensor) -> Draws:
        """Draw for each image: flips, -1 (mirrored) or 1; angle, radians; zoom, 1: none; shifts, pixels."""
        height, width = images.shape[1:3]
        if height is None or width is None:
            raise ValueError(
                f"RandomAffine: expected images of known height and width, received shape {images.shape}; resize first"
            )
        limit = math.radians(self.rotation_degrees)
        across, down = self.translation * width, self.translation * height
        return {
            "flip_x": self._flip(images, self.horizontal_flip),
            "flip_y": self._flip(images, self.vertical_flip),
            "angle": self.uniform(images, -limit, limit),
            "zoom": 1.0 + self.uniform(images, *self.zoom),
            "shift_x": self.uniform(images, -across, across),
            "shift_y": self.uniform(images, -down, down),
        }

    def _flip(self, images: tf.Tensor, is_on: bool) -> tf.Tensor:
        return tf.where(self.uniform(images, -1.0, 1.0) < 0.0, -1.0 if is_on else 1.0, 1.0)

    def transform_images(self, images: tf.Tensor, transformation: Draws) -> tf.Tensor:
        """Return the images transformed.

        A pixel of the result at u, relative to the centre, is sampled at F·R·z·(u - d): shift d, zoom z, rotation R,
        mirror F.
        """
        flip_x, flip_y, zoom = (transformation[name] for name in ("flip_x", "flip_y", "zoom"))
        cosine, sine = zoom * tf.cos(transformation["angle"]), zoom * tf.sin(transformation["angle"])
        xx, xy, yx, yy = flip_x * cosine, -flip_x * sine, flip_y * sine, flip_y * cosine
        middle_x, middle_y = (images.shape[2] - 1) / 2, (images.shape[1] - 1) / 2
        left, top = middle_x + transformation["shift_x"], middle_y + transformation["shift_y"]
        rows = [xx, xy, middle_x - xx * left - xy * top, yx, yy, middle_y - yx * left - yy * top]
        matrices = tf.reshape(tf.stack(rows, axis=1), (-1, 2, 3))
        return tf.cast(transform(tf.cast(images, tf.float32), matrices), images.dtype)

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments."""
        names = ("horizontal_flip", "vertical_flip", "rotation_degrees", "zoom", "translation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_bench")
class RandomBrightnessFactor(RandomImageLayer):
    """Multiplies all values of each image by a factor; keras.layers.RandomBrightness adds instead.

    Args:
        factor: range of the factor; 1 leaves an image unchanged.
        value_range: range to which values are clipped.
        seed: as for RandomImageLayer.
        **kwargs: as for RandomImageLayer.
    """

    def __init__(
        self, factor: DrawRange, value_range: DrawRange = (0.0, 255.0), seed: int | None = None, **kwargs: object
    ) -> None:
        super().__init__(seed, **kwargs)
        self.factor = tuple(factor)  # JSON has lists only
        self.value_range = tuple(value_range)

    def get_random_transformation(self, images: tf.Tensor) -> Draws:
        """Draw the factor of each image."""
        return {"factor": self.uniform(images, *self.factor)}

    def transform_images(self, images: tf.Tensor, transformation: Draws) -> tf.Tensor:
        """Return the images multiplied by their factors, clipped."""
        factors = tf.cast(transformation["factor"], images.dtype)[:, None, None, None]
        return tf.clip_by_value(images * factors, *self.value_range)

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "factor": self.factor, "value_range": self.value_range}


@keras.saving.register_keras_serializable(package="keras_bench")
class PerImage(keras.layers.Layer):
    """Applies a layer to each image of a batch separately: RandomCrop itself cuts the same window from all of them.

    Args:
        layer: takes (height, width, channels) and draws from its `generator`, as Keras's random layers do.
        **kwargs: as for keras.layers.Layer.
    """

    IMAGES_PER_KEY = 4099  # more than a batch holds; int32 overflow of an image's key is harmless

    def __init__(self, layer: keras.layers.Layer, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.layer = layer

    @property
    def generator(self) -> keras.random.SeedGenerator:
        """The generator of the layer; a PositionSeed gets a new key for each image."""
        return self.layer.generator

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the layer for one image."""
        self.layer.build(tuple(input_shape[1:]))

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the layer's results for (batch, height, width, channels); draws only if `training` is true."""
        if not training:
            return self.layer(images, training=False)
        shape = self.layer.compute_output_shape(tuple(images.shape[1:]))
        key = self.generator.key if isinstance(self.generator, PositionSeed) else None

        def transform_one(numbered_image: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image, number = numbered_image
            if key is not None:
                self.generator.at(key * self.IMAGES_PER_KEY + number)
            return tf.ensure_shape(self.layer(image, training=True), shape)

        signature = tf.TensorSpec(shape, self.layer.compute_dtype)
        results = tf.map_fn(transform_one, (images, tf.range(tf.shape(images)[0])), fn_output_signature=signature)
        if key is not None:
            self.generator.at(key)  # the last image's key is a tensor of the loop and must not outlive it
        return results

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the batch size followed by the layer's output shape for one image."""
        return (input_shape[0], *self.layer.compute_output_shape(tuple(input_shape[1:])))

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: dict[str, object]) -> PerImage:
        """Build the layer from the result of `get_config`."""
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})
