"""The suggested rate on curves whose steepest point is known; NumPy only."""

import math

import numpy as np
import pytest

from keras_bench.lr_find.suggest import last_average, rates_between, smooth, suggest

STEPS = 100
RATES = rates_between(1e-7, 1.0, STEPS)
DECADES = np.log10(RATES)
ONE_STEP = 7 / 99  # decades


def falling(center, noise=0.0, seed=0):
    """Return a loss that falls from 2.3 to 0.5 around a rate, fastest exactly there, and then stays constant."""
    loss = 2.3 - 1.8 / (1 + np.exp(-(DECADES - center) / 0.25))
    return loss * np.exp(np.random.default_rng(seed).normal(0, noise, STEPS))


def exploding_from(center):
    return np.where(center < DECADES, np.exp(5 * (DECADES - center)), 1.0)


def test_rates_grow_by_the_same_factor():
    np.testing.assert_allclose(rates_between(1e-4, 1.0, 5), [1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_smoothing_by_hand():
    # For 20 steps the weights' deviation is one step: 1, e^-½, e^-2, e^-4.5, e^-8 at distances 0 to 4.
    near, far = math.exp(-0.5), math.exp(-2)
    smoothed = smooth(np.array([1.0, math.e, 1.0]), 20)
    expected = [near / (1 + near + far), 1 / (1 + 2 * near), near / (1 + near + far)]
    np.testing.assert_allclose(np.log(smoothed), expected)
    losses = np.ones(30)
    losses[0] = 1e9
    assert smooth(losses, 20)[5] == pytest.approx(1)  # the fifth neighbour is out of reach
    assert smooth(losses, 20)[4] > 1


def test_smoothing_keeps_a_constant_and_is_symmetric():
    np.testing.assert_allclose(smooth(np.full(37, 2.5), STEPS), 2.5)
    losses = falling(-3, noise=0.1)
    np.testing.assert_allclose(smooth(losses[::-1], STEPS), smooth(losses, STEPS)[::-1])


@pytest.mark.parametrize("count", [1, 2, 30, STEPS])
def test_the_last_average_is_the_end_of_the_smoothed_curve(count):
    losses = falling(-3, noise=0.2)[:count]
    assert last_average(losses, STEPS) == pytest.approx(smooth(losses, STEPS)[-1])


@pytest.mark.parametrize("center", [-5, -3.5, -2])
def test_the_steepest_point_is_found(center):
    losses = falling(center) * exploding_from(center + 1.5)
    suggestion = suggest(RATES, losses, STEPS)
    # A geometric average is steepest slightly after the loss itself: where the logarithm falls fastest.
    assert math.log10(suggestion.steepest) == pytest.approx(center, abs=0.3)
    assert math.log10(suggestion.minimum) == pytest.approx(center + 1.25, abs=0.4)
    assert suggestion.below_minimum == suggestion.minimum / 10
    assert suggestion.clear


def test_the_slope_is_over_the_logarithm_of_the_rate():
    losses = np.concatenate([np.full(40, 2.0), np.linspace(2.0, 1.0, 21), np.full(39, 1.0)])
    suggestion = suggest(RATES, losses, STEPS)
    # Linear over the steps, which are evenly spaced in the logarithm: steepest in the middle of the ramp, step 50.
    assert abs(math.log10(suggestion.steepest) - DECADES[50]) <= 3 * ONE_STEP


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_the_suggestion_by_less_than_half_a_decade(seed):
    suggestion = suggest(RATES, falling(-3, noise=0.15, seed=seed) * exploding_from(-1.5), STEPS)
    assert abs(math.log10(suggestion.steepest) + 3) < 0.5
    assert suggestion.clear


def test_one_exploding_batch_at_the_end_does_not_move_the_suggestion():
    losses = falling(-3)[:80]
    exploding_losses = losses.copy()
    exploding_losses[-1] = 1e6
    plain, exploded = (suggest(RATES[:80], values, STEPS) for values in (losses, exploding_losses))
    assert abs(math.log10(exploded.steepest / plain.steepest)) <= ONE_STEP


def test_only_rates_below_the_minimum_count():
    # The loss falls slowly to 1, explodes, and then drops steeply, but not as low again.
    losses = np.concatenate([np.linspace(2.3, 1.0, 60), np.full(20, 9.0), np.full(20, 3.0)])
    assert suggest(RATES, losses, STEPS).steepest < RATES[60]


def test_a_loss_that_only_rises_has_no_suggestion():
    assert suggest(RATES, np.linspace(1, 5, STEPS), STEPS) is None
    assert suggest(RATES, np.full(STEPS, 2.0), STEPS) is None
    assert suggest(RATES[:2], np.array([2.0, 1.0]), STEPS) is None


def test_noise_is_not_mistaken_for_a_fall():
    suggestions = [
        suggest(RATES, 2.3 * np.exp(np.random.default_rng(seed).normal(0, 0.15, STEPS)), STEPS) for seed in range(100)
    ]
    assert sum(suggestion is not None and suggestion.clear for suggestion in suggestions) <= 5
