"""Calibration error by hand, temperature against a grid and a known truth, coverage by hand."""

import numpy as np
import pytest
from scipy.special import softmax

from keras_bench.evaluation.calibration import (
    apply_temperature,
    calibrate,
    coverage_curve,
    cross_entropy,
    fit_temperature,
    reliability_bins,
)
from keras_bench.evaluation.predictions import Predictions


def test_calibration_error_by_hand():
    # Bins of two: confidences .5 and .6, one correct; .8 and 1.0, both correct.
    confidence = np.array([0.6, 1.0, 0.5, 0.8])
    correct = np.array([True, True, False, True])
    reliability = reliability_bins(correct, confidence, bins=2)
    assert reliability.confidence == pytest.approx([0.55, 0.9])
    assert reliability.accuracy == pytest.approx([0.5, 1.0])
    assert reliability.images.tolist() == [2, 2]
    assert reliability.error == pytest.approx((2 * 0.05 + 2 * 0.1) / 4)


def test_bins_have_equal_numbers_of_images_and_are_never_empty():
    generator = np.random.default_rng(0)
    reliability = reliability_bins(generator.random(100) < 0.5, generator.random(100) ** 8)
    assert len(reliability.images) == 15
    assert set(reliability.images.tolist()) == {6, 7}
    assert len(reliability_bins(np.array([True]), np.array([0.4])).images) == 1


def overconfident(images=6000, factor=3.0, seed=0):
    """Labels drawn from softmax(z) with probabilities softmax(factor · z), so the true temperature is `factor`."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(images, 5)) * 1.5
    labels = (softmax(logits, axis=1).cumsum(axis=1) > generator.random((images, 1))).argmax(axis=1)
    ids = np.arange(images).astype(str)
    return Predictions(ids, labels, softmax(factor * logits, axis=1).astype(np.float32), np.array(list("abcde")))


def test_the_temperature_undoes_a_known_overconfidence():
    val, test = overconfident(seed=1), overconfident(seed=2)
    assert fit_temperature(val.labels, val.probabilities) == pytest.approx(3.0, rel=0.05)
    calibration = calibrate(val, test)
    assert calibration.before.error > 0.15
    assert calibration.after.error < 0.02
    assert calibration.cross_entropy_after < cross_entropy(test.labels, test.probabilities)


def test_the_temperature_is_the_best_of_a_grid():
    val = overconfident(images=500, factor=0.5)
    grid = np.geomspace(0.05, 20, 2000)
    best = grid[np.argmin([cross_entropy(val.labels, apply_temperature(val.probabilities, t)) for t in grid])]
    assert fit_temperature(val.labels, val.probabilities) == pytest.approx(best, rel=0.01)


def test_a_temperature_keeps_the_predictions_and_accepts_zero_probabilities():
    probabilities = np.array([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]], dtype=np.float32)
    scaled = apply_temperature(probabilities, 2.0)
    assert scaled.argmax(axis=1).tolist() == [0, 1]
    assert np.isfinite(scaled).all()
    assert scaled[1] == pytest.approx(np.sqrt([0.2, 0.5, 0.3]) / np.sqrt([0.2, 0.5, 0.3]).sum())


def test_coverage_by_hand():
    confidence = np.array([0.9, 0.7, 0.7, 0.4])
    correct = np.array([True, False, True, False])
    coverage, accuracy = coverage_curve(correct, confidence)
    assert coverage.tolist() == [0.25, 0.75, 1.0]  # the two images at 0.7 count together
    assert accuracy == pytest.approx([1.0, 2 / 3, 0.5])
