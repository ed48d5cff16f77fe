"""Runs a model over one split, every image exactly once, in a fixed order."""

from typing import Any

import keras
import numpy as np

from keras_bench.console import Log
from keras_bench.records.dataset import ImageIndex
from keras_bench.records.predictions import Predictions


class _Advance(keras.callbacks.Callback):
    def __init__(self, advance: Any) -> None:
        super().__init__()
        self.advance = advance

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.advance(1)


def predict_split(
    model: keras.Model, dataset: Any, index: ImageIndex, positions: np.ndarray, title: str, log: Log
) -> Predictions:
    """Return the model's probabilities for the images at `positions`.

    Args:
        model: float32 model from raw pixels to probabilities.
        dataset: tf.data of exactly those images in that order.
        index: gives ids, labels and class names.
        positions: int64, (N,).
        title: names the step on the screen.
        log: the screen.
    """
    with log.progress(title, int(dataset.cardinality()), "steps") as advance:
        probabilities = model.predict(dataset, verbose=0, callbacks=[_Advance(advance)])
    if probabilities.shape != (len(positions), len(index.class_names)):
        raise AssertionError(f"expected {len(positions)} rows of probabilities, received {probabilities.shape}")
    return Predictions(
        ids=np.array([index.ids[i] for i in positions], dtype=np.str_),
        labels=index.labels[positions],
        probabilities=probabilities.astype(np.float32),
        class_names=np.array(index.class_names, dtype=np.str_),
    )
