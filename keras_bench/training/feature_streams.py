"""Streams cached features, epoch by epoch, to the layers after the frozen part."""

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import tensorflow as tf

Batch = tuple[np.ndarray, np.ndarray]  # features and one-hot labels


def feature_stream(
    views: list[np.ndarray],
    labels: np.ndarray,
    batch_size: int,
    order_of: Callable[[int], np.ndarray],
    seed: int,
    start: int,
) -> tf.data.Dataset:
    """Return a stream that gives the next epoch each time it is read, with a random view of each image.

    Its cardinality is the number of batches in an epoch, so Keras may take several steps per execution. The content of
    epoch e depends only on the seed and e, so training may resume at `start`.

    Args:
        views: features of each view of the same images, float32 (N, ...).
        labels: float32 one-hot, (N, K).
        batch_size: images per step.
        order_of: function from an epoch's number to the rows of its images in order, int (M,); rows may repeat.
        seed: seed of the choice of views.
        start: number of the first epoch, 0-based.
    """
    shape, epochs = views[0].shape[1:], count(start)

    def batches() -> Iterator[Batch]:
        epoch = next(epochs)
        order = order_of(epoch)
        drawn_views = np.asarray(np.random.default_rng((seed, epoch)).integers(len(views), size=len(order)))
        for first in range(0, len(order), batch_size):
            rows, view_of_row = order[first : first + batch_size], drawn_views[first : first + batch_size]
            batch = np.empty((len(rows), *shape), dtype=np.float32)
            for view in np.unique(view_of_row):
                is_view = view_of_row == view
                batch[is_view] = views[view][rows[is_view]]
            yield batch, labels[rows]

    steps = -(-len(order_of(start)) // batch_size)
    return _stream(batches, views[0], labels).apply(tf.data.experimental.assert_cardinality(steps))


def ordered_stream(features: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return a stream of the features of all images, once and in order; shapes as in `feature_stream`."""
    count = len(features)

    def batches() -> Iterator[Batch]:
        for first in range(0, count, batch_size):
            yield features[first : first + batch_size], labels[first : first + batch_size]

    stream = _stream(batches, features, labels)
    return stream.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))


def _stream(batches: Callable[[], Iterator[Batch]], features: np.ndarray, labels: np.ndarray) -> tf.data.Dataset:
    """Return a stream of a generator's batches; features stay on disk until their batch is read."""
    signature = (
        tf.TensorSpec((None, *features.shape[1:]), tf.float32),
        tf.TensorSpec((None, *labels.shape[1:]), tf.float32),
    )
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(8)
