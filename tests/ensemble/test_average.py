"""Averages and fitted weights against a search over a grid."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss

from keras_bench.config.decision import DecisionMetric
from keras_bench.ensemble.average import average, fit_weights
from tests.made import predictions

LABELS = np.arange(300) % 4
NAMES = [f"class{k}" for k in range(4)]


def test_the_mean_is_weighted():
    first, second = (predictions(LABELS, NAMES, 1.0, seed) for seed in (0, 1))
    mean = average([first, second], [0.25, 0.75])
    expected = 0.25 * first.probabilities + 0.75 * second.probabilities
    np.testing.assert_allclose(mean.probabilities, expected, atol=1e-7)
    assert mean.ids is first.ids


def test_fitted_weights_are_the_best_of_a_grid():
    members = [predictions(LABELS, NAMES, skill, seed) for seed, skill in enumerate((0.8, 2.0, 1.4))]
    weights = fit_weights(members)
    assert sum(weights) == pytest.approx(1)

    def loss(trial):
        return log_loss(LABELS, average(members, trial).probabilities, labels=range(4))

    grid = [(a / 20, b / 20, 1 - a / 20 - b / 20) for a in range(21) for b in range(21 - a)]
    assert loss(weights) <= min(map(loss, grid)) + 1e-6


def test_a_member_that_adds_nothing_is_left_out():
    good = predictions(LABELS, NAMES, 4.0, 0)
    wrong = predictions((LABELS + 1) % 4, NAMES, 6.0, 1)
    assert fit_weights([good, wrong])[1] == 0.0


def test_if_balanced_accuracy_decides_all_classes_count_equally_in_the_fit():
    labels = np.repeat([0, 1], [200, 50])
    large, small = (predictions(labels, NAMES[:2], 1.0, seed) for seed in (0, 1))
    # The first is good at the large class, the second at the small one.
    large.probabilities[labels == 0] = large.probabilities[labels == 0] ** [0.2, 2]
    small.probabilities[labels == 1] = small.probabilities[labels == 1] ** [2, 0.2]
    members = [
        replace(member, probabilities=member.probabilities / member.probabilities.sum(axis=1, keepdims=True))
        for member in (large, small)
    ]
    balanced = fit_weights(members, DecisionMetric.BALANCED_ACCURACY)
    repeated = np.r_[np.arange(200), np.repeat(np.arange(200, 250), 4)]
    assert balanced == pytest.approx(fit_weights([member.rows(repeated) for member in members]), abs=1e-3)
    assert balanced[1] > fit_weights(members)[1] + 0.05
