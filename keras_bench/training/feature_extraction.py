"""Streams stored features to what lies behind the frozen part, epoch by epoch."""

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import tensorflow as tf


def feature_stream(
    views: list[np.ndarray],
    labels: np.ndarray,
    batch_size: int,
    order_of: Callable[[int], np.ndarray],
    seed: int,
    start: int,
) -> tf.data.Dataset:
    """Return a stream that gives the next epoch each time it is read, each image of an epoch in a fresh random view.

    It ends with the epoch, and says how many batches that is, so that Keras may take several steps at once. What epoch
    e holds depends on the seed and e only, so training may continue at `start`.

    Args:
        views: of the same images, float32 (N, ...) each.
        labels: float32 one-hot, (N, K).
        batch_size: images per step.
        order_of: function from an epoch's number to its images in their order, int (M,); one may come several times.
        seed: of the choice of views.
        start: number of the first epoch.
    """
    shape, epochs = views[0].shape[1:], count(start)

    def batches() -> Any:
        epoch = next(epochs)
        order = order_of(epoch)
        chosen = np.asarray(np.random.default_rng((seed, epoch)).integers(len(views), size=len(order)))
        for first in range(0, len(order), batch_size):
            rows, picked = order[first : first + batch_size], chosen[first : first + batch_size]
            batch = np.empty((len(rows), *shape), dtype=np.float32)
            for view in np.unique(picked):
                where = picked == view
                batch[where] = views[view][rows[where]]
            yield batch, labels[rows]

    steps = -(-len(order_of(start)) // batch_size)
    return _stream(batches, views[0], labels).apply(tf.data.experimental.assert_cardinality(steps))


def ordered_stream(features: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return all images once, in order; shapes as `feature_stream`."""
    count = len(features)

    def batches() -> Any:
        for first in range(0, count, batch_size):
            yield features[first : first + batch_size], labels[first : first + batch_size]

    stream = _stream(batches, features, labels)
    return stream.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))


def _stream(batches: Callable[[], Any], features: np.ndarray, labels: np.ndarray) -> tf.data.Dataset:
    """Return what a generator of batches yields; it reads from disk, so that memory need not hold all."""
    signature = (
        tf.TensorSpec((None, *features.shape[1:]), tf.float32),
        tf.TensorSpec((None, *labels.shape[1:]), tf.float32),
    )
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(8)
