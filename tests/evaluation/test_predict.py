"""A model's predictions for a split: complete and in order."""

import time

import numpy as np
import pytest

from keras_bench.console import Log
from keras_bench.data.index import ImageIndex
from keras_bench.evaluation.predict import predict_split
from tests.checks import python


class Batches(list):
    """Batches of (images, labels) with a cardinality, like a tf.data.Dataset."""

    def cardinality(self):
        return len(self)


def forward(images):
    """Return a tenth of each image's number as a probability; a batch that starts with a larger number is faster."""
    time.sleep(0.05 / (1 + float(images[0, 0, 0, 0])))
    share = images[:, 0, 0, 0] / 10
    return np.stack([share, 0 * share, 1 - share], axis=1)


def numbered(numbers, size):
    images = np.array(numbers, np.float32)[:, None, None, None] * np.ones((1, 4, 4, 3), np.float32)
    return Batches((images[first : first + size], None) for first in range(0, len(images), size))


def index_of(count):
    names, ids = ("a", "b", "c"), tuple(f"{k}.png" for k in range(count))
    return ImageIndex("test", "test", names, names, ids, np.arange(count) % 3, ("",) * count, lambda _: b"")


def test_predictions_are_in_the_order_of_the_positions_whichever_batch_finishes_first():
    positions = np.array([7, 2, 9, 4, 0])
    predictions = predict_split(forward, numbered(positions, 2), index_of(10), positions, "test", Log())
    np.testing.assert_allclose(predictions.probabilities, [[k / 10, 0, 1 - k / 10] for k in positions], atol=1e-6)
    assert predictions.ids.tolist() == ["7.png", "2.png", "9.png", "4.png", "0.png"]
    assert predictions.labels.tolist() == [1, 2, 0, 1, 0]
    assert predictions.class_names.tolist() == ["a", "b", "c"]


def test_too_few_predictions_are_an_error():
    with pytest.raises(AssertionError, match="expected 5 rows"):
        predict_split(forward, numbered([1, 2, 3], 2), index_of(10), np.arange(5), "test", Log())


def test_tensorflow_gives_only_its_types():
    code = "import sys, keras_bench.evaluation.predict; print('tensorflow' in sys.modules)"
    assert python(code) == "False\n"
