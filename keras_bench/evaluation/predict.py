"""Runs a model over one split, every image exactly once, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_bench.console import Log
from keras_bench.data.index import ImageIndex
from keras_bench.evaluation.predictions import Predictions
from keras_bench.parallel import map_in_order

if TYPE_CHECKING:
    import tensorflow as tf

# TensorFlow's own threads leave cores idle between operations, and a second batch uses that time. On two cores,
# EfficientNetB0 ran at 59 images/s instead of 51, and at 54 instead of 31 if the machine kept both threads on one core.
BATCHES_AT_ONCE = 2


def predict_split(
    forward: Callable[[tf.Tensor], np.ndarray],
    dataset: tf.data.Dataset,
    index: ImageIndex,
    positions: np.ndarray,
    title: str,
    log: Log,
) -> Predictions:
    """Return the model's probabilities for the images at `positions`.

    Args:
        forward: the model, a function from images, float32 (batch, side, side, 3), to probabilities, float32
            (batch, K), which two threads may call at once.
        dataset: tf.data of exactly these images, with labels, in the same order.
        index: provides ids, labels and class names.
        positions: int64, (N,).
        title: label of the progress bar.
        log: the screen.
    """
    batches = []
    with log.progress(title, int(dataset.cardinality()), "steps") as advance:
        for batch_probabilities in map_in_order(lambda batch: forward(batch[0]), dataset, BATCHES_AT_ONCE):
            batches.append(batch_probabilities)
            advance(1)
    probabilities = np.concatenate(batches)
    if probabilities.shape != (len(positions), len(index.class_names)):
        raise AssertionError(f"expected {len(positions)} rows of probabilities, received {probabilities.shape}")
    return Predictions(
        ids=np.array([index.ids[i] for i in positions], dtype=np.str_),
        labels=index.labels[positions],
        probabilities=probabilities,
        class_names=np.array(index.class_names, dtype=np.str_),
    )
