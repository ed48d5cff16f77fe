"""The range test on a small network: the rates it sets, the losses it records, and the reasons why it ends."""

import csv
import io

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import load_experiment, parse_setting
from keras_bench.console import Log
from keras_bench.errors import RunError
from keras_bench.frames import frame_csv
from keras_bench.lr_find.range_test import GrowingRate, search_rate
from keras_bench.training.fit import FitPlan

IMAGES = np.random.default_rng(0).uniform(0, 255, (16, 4, 4, 3)).astype(np.float32)
LABELS = np.eye(2, dtype=np.float32)[np.arange(16) % 2]
IMAGES[LABELS[:, 1] == 1] *= 0.3  # something to learn


def make_model():
    """Return a linear model with a head that set_phase knows; one batch holds all of its data, so there is no noise."""
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 3), name="image")
    pixels = keras.layers.Rescaling(1 / 127.5, -1)(image)
    features = keras.layers.Flatten(name="head_pool")(pixels)
    return keras.Model(image, keras.layers.Dense(2, "softmax", name="head_probabilities")(features))


def make_phase(*settings):
    texts = ("tl.optimizer=sgd", "tl.momentum=0", *settings)
    config = load_experiment("digits").resolve("MobileNet", [parse_setting(text) for text in texts])
    return FitPlan("tl", config, BACKBONES["MobileNet"], steps=40, class_counts=(1, 1), inputs={})


def search(low, high, steps=40, images=IMAGES, model=None):
    batches = tf.data.Dataset.from_tensor_slices((images, LABELS)).batch(16).repeat(steps)
    return search_rate(model or make_model(), make_phase(), low, high, steps, batches, Log())


def test_losses_equal_those_of_plain_gradient_descent():
    result = search(1e-3, 1e-1)
    assert result.stopped == "at the highest rate"
    np.testing.assert_allclose(result.rates, np.geomspace(1e-3, 1e-1, 40))
    # The same by hand: softmax regression on the scaled pixels.
    kernel, bias = make_model().get_layer("head_probabilities").get_weights()
    pixels = (IMAGES / 127.5 - 1).reshape(16, -1).astype(np.float64)
    for rate, loss in zip(result.rates, result.losses, strict=True):
        logits = pixels @ kernel + bias
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert loss == pytest.approx(-np.log((probabilities * LABELS).sum(axis=1)).mean(), rel=1e-4)
        gradient = (probabilities - LABELS) / 16
        kernel, bias = kernel - rate * pixels.T @ gradient, bias - rate * gradient.sum(axis=0)
    assert result.suggestion.clear
    assert result.losses[-1] < result.losses[0]


def test_it_stops_when_the_loss_diverges():
    contradictory = np.concatenate([IMAGES[:8], IMAGES[1:8], IMAGES[:1]])  # no weights tell these apart
    result = search(1e-3, 1e3, steps=60, images=contradictory)
    assert result.stopped == "the loss diverged"
    assert len(result.rates) == len(result.losses) == len(result.smoothed) < 60
    assert result.smoothed[-1] > 4 * min(result.smoothed)
    assert result.suggestion.steepest < result.suggestion.minimum


class Broken(keras.layers.Layer):
    """Returns NaN after a number of calls."""

    def __init__(self, after):
        super().__init__()
        self.after = after
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, values):
        self.calls.assign_add(1.0)
        return keras.ops.where(self.calls > self.after, values * np.nan, values)


def broken_model(after):
    image = keras.Input((4, 4, 3), name="image")
    features = Broken(after)(keras.layers.Flatten(name="head_pool")(keras.layers.Rescaling(1 / 255)(image)))
    return keras.Model(image, keras.layers.Dense(2, "softmax", name="head_probabilities")(features))


def test_it_stops_at_the_first_loss_that_is_not_finite():
    result = search(1e-6, 1e-5, model=broken_model(after=25))
    assert result.stopped == "the loss became nan"
    assert len(result.losses) == 25
    assert np.isfinite(result.losses).all()
    with pytest.raises(RunError, match="the loss became nan at the first step, before any rate was tried"):
        search(1e-6, 1e-5, model=broken_model(after=0))


def test_each_loss_is_of_its_own_batch():
    """Keras reports the mean since the last reset; here two batches alternate at a rate that changes nothing."""
    images = np.concatenate([IMAGES, IMAGES[::-1] * 0.1])
    labels = np.concatenate([LABELS, LABELS])
    model = make_model()
    model.compile(keras.optimizers.SGD(1.0), "categorical_crossentropy")
    advanced = []
    range_test = GrowingRate(np.full(6, 1e-12), advanced.append)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(16).repeat(3)
    model.fit(batches, steps_per_epoch=6, callbacks=[range_test], shuffle=False, verbose=0)
    losses = [model.evaluate(images[rows], labels[rows], verbose=0) for rows in (slice(0, 16), slice(16, 32))]
    assert losses[0] != pytest.approx(losses[1], rel=0.01)
    np.testing.assert_allclose(range_test.losses, losses * 3, rtol=1e-5)
    assert advanced == [1] * 6


def test_the_record_as_csv_and_json():
    result = search(1e-3, 1e-1)
    rows = list(csv.DictReader(io.StringIO(frame_csv(result.points, "%.9g"))))
    assert [int(row["step"]) for row in rows] == list(range(1, 41))
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0.1)
    assert float(rows[7]["loss"]) == pytest.approx(result.losses[7])
    assert float(rows[7]["smoothed_loss"]) == pytest.approx(result.smoothed[7])
    tree = result.to_json()
    assert tree["tried"] == 40
    assert tree["suggestion"]["steepest"] == result.suggestion.steepest
    assert "losses" not in tree
