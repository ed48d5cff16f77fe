"""The tf.data pipeline: decoded pixels, one resize, augmentation of training images, batches."""

from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf

from keras_bench.config import AugmentationConfig
from keras_bench.data.augmentation import build_augmentation
from keras_bench.data.store import ImageStore


@dataclass(frozen=True)
class Pipeline:
    """Builds the datasets of one run.

    Attributes:
        store: the decoded images.
        image_size: side of the network's square input, pixels.
        batch_size: images per batch: those of a training step, or of a portion of it under gradient accumulation.
        num_classes: length of the one-hot labels.
        seed: seed of shuffling and augmentation.
    """

    store: ImageStore
    image_size: int
    batch_size: int
    num_classes: int
    seed: int

    def training(
        self, positions: np.ndarray, augmentation: AugmentationConfig, epochs: int, start: int = 0
    ) -> tf.data.Dataset:
        """Return all epochs in sequence, each a new shuffle that holds every image exactly once.

        An epoch depends only on the seed and its number, so training can resume at `start`.

        Args:
            positions: int64, (N,), the training images.
            augmentation: settings of the random transformations.
            epochs: epoch to stop before; the last one is `epochs - 1`.
            start: first epoch, from 0.

        Returns:
            (images, labels) with float32 (batch, image_size, image_size, 3) in [0, 255] and float32 one-hot
            (batch, num_classes); ceil(N / batch_size) batches per epoch.
        """
        count = len(positions)
        steps = self.steps(count)
        augment = build_augmentation(augmentation, self.image_size, self.seed)
        table = tf.constant(positions, tf.int64)

        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            order = tf.gather(table, self.order(count, epoch))
            batches = tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size)
            keys = tf.data.Dataset.range(steps).map(lambda step: tf.cast(epoch * steps + step, tf.int32))
            return tf.data.Dataset.zip(batches, keys)

        def load(batch: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return augment(self._images(batch), key), self._labels(batch)

        dataset = tf.data.Dataset.range(start, epochs).flat_map(one_epoch)
        return dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)

    def evaluation(self, positions: np.ndarray) -> tf.data.Dataset:
        """Return the images once, in the order of `positions`, without augmentation; shapes as in `training`."""
        dataset = tf.data.Dataset.from_tensor_slices(positions).batch(self.batch_size)
        return dataset.map(
            lambda batch: (self._images(batch), self._labels(batch)), num_parallel_calls=tf.data.AUTOTUNE
        ).prefetch(2)

    def views(
        self, positions: np.ndarray, augmentation: AugmentationConfig, view: int, done: int = 0
    ) -> tf.data.Dataset:
        """Return one view of each image, in the order of `positions`: view 0 is not augmented, all others are.

        Args:
            positions: int64, (N,).
            augmentation: settings of the random transformations.
            view: number of the view; its images depend only on it and the seed.
            done: number of images to skip at the start; for an augmented view a multiple of the batch size.

        Returns:
            float32 (batch, image_size, image_size, 3) in [0, 255].
        """
        augment = build_augmentation(augmentation, self.image_size, self.seed)
        first_key = view * self.steps(len(positions))
        batches = tf.data.Dataset.from_tensor_slices(positions[done:]).batch(self.batch_size)

        def load(step: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
            images = self._images(batch)
            return augment(images, tf.cast(first_key + step, tf.int32)) if view else images

        numbered = batches.enumerate(done // self.batch_size)
        return numbered.map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)

    def order(self, count: int, epoch: tf.Tensor | int) -> tf.Tensor:
        """Return an epoch's order, int64 (count,), the same for streamed images and for cached features."""
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(epoch, tf.int64)])
        return tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed=seed)

    def steps(self, count: int) -> int:
        """Return the number of batches that hold `count` images."""
        return -(-count // self.batch_size)

    def _images(self, batch: tf.Tensor) -> tf.Tensor:
        """Load and resize as the exported graph does: bilinear, no antialiasing, aspect ratio not preserved."""
        if len(self.store.sizes) == 1:
            height, width = next(iter(self.store.sizes))
            pixels = tf.numpy_function(self.store.batch, [batch], tf.uint8, stateful=False)
            return self._resize(tf.ensure_shape(pixels, (None, height, width, 3)))

        def load_one(position: tf.Tensor) -> tf.Tensor:
            pixels = tf.numpy_function(self.store.image, [position], tf.uint8, stateful=False)
            return self._resize(tf.ensure_shape(pixels, (None, None, 3)))

        signature = tf.TensorSpec((self.image_size, self.image_size, 3), tf.float32)
        return tf.map_fn(load_one, batch, fn_output_signature=signature)

    @cached_property
    def _resizing(self) -> keras.layers.Resizing:
        return keras.layers.Resizing(self.image_size, self.image_size, dtype="float32")  # also in mixed precision

    def _resize(self, pixels: tf.Tensor) -> tf.Tensor:
        return self._resizing(tf.cast(pixels, tf.float32))  # Resizing would round the result for integers

    def _labels(self, batch: tf.Tensor) -> tf.Tensor:
        labels = tf.gather(tf.constant(self.store.index.labels, tf.int64), batch)
        return tf.one_hot(labels, self.num_classes)
