"""Suggests a learning rate from the losses of a range test. NumPy only.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186), section 3.3, increases the rate
linearly and inspects the accuracy. Increasing it exponentially and inspecting the loss is fastai's method
(https://docs.fast.ai/callback.schedule.html, lr_find).
"""

import math

import numpy as np

from keras_bench.lr_find.records import RateSuggestion

DIVERGED = 4.0  # times the lowest smoothed loss, as in fastai
WIDTH = 0.05  # standard deviation of the smoothing weights, as a share of all steps (our choice)
SMALLEST_LOSS = 1e-12  # smaller losses are raised to this before the logarithm
ROUNDING = 1e-6  # a relative fall of the loss that float32 rounding can cause
CLEAR = 3.0  # a fall must exceed this many standard errors to be more than noise


def rates_between(low: float, high: float, steps: int) -> np.ndarray:
    """Return `steps` rates from low to high, float64, each the same multiple of the previous one."""
    return np.geomspace(low, high, steps)


def smooth(losses: np.ndarray, steps: int) -> np.ndarray:
    """Return a geometric moving average with Gaussian weights around each step.

    The weights are symmetric. An exponential average over past steps lags behind, and so do the rates read off it: with
    fastai's weight of 0.98 the lag at step 60 of 100 is 24 steps, which are 1.7 of seven decades. The average is
    geometric because the last losses may be thousands of times larger and would otherwise lift the curve long before.

    Args:
        losses: positive losses of the steps so far, float, (N,).
        steps: number of steps of the whole search; the weights' standard deviation is a twentieth of it.

    Returns:
        float64, (N,).
    """
    kernel = _kernel(steps)
    return np.asarray(np.exp(_slide(_log(losses), kernel) / _slide(np.ones(len(losses)), kernel)))


def last_average(losses: np.ndarray, steps: int) -> float:
    """Return the last value of `smooth`, for which only past steps are available."""
    kernel = _kernel(steps)
    newest_first = _log(losses[::-1][: len(kernel) // 2 + 1])
    weights = kernel[len(kernel) // 2 :][: len(newest_first)]
    return math.exp(weights @ newest_first / weights.sum())


def _log(losses: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(losses, SMALLEST_LOSS)))


def _kernel(steps: int) -> np.ndarray:
    deviation = max(1.0, WIDTH * steps)
    reach = math.ceil(4 * deviation)
    return np.exp(-((np.arange(-reach, reach + 1) / deviation) ** 2) / 2)


def _slide(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return the sum of values around each position, weighted by the kernel; values beyond the ends count as 0."""
    return np.convolve(values, kernel)[len(kernel) // 2 :][: len(values)]


def suggest(rates: np.ndarray, losses: np.ndarray, steps: int) -> RateSuggestion | None:
    """Return the rate at which the smoothed loss falls fastest before its minimum; None if it never falls.

    The slope is taken over the logarithm of the rate.

    Args:
        rates: ascending rates, float, (N,).
        losses: losses of single batches, float, (N,).
        steps: number of steps of the whole search, of which N were made.
    """
    if len(losses) < 3:
        return None
    smoothed = smooth(losses, steps)
    lowest = int(smoothed.argmin())
    if smoothed[: lowest + 1].max() <= smoothed[lowest] * (1 + ROUNDING):
        return None
    steepest = int(np.gradient(smoothed[: lowest + 1], np.log(rates[: lowest + 1])).argmin())
    variances = _variance_shares(len(losses), steps)
    noise = np.std((_log(losses) - np.log(smoothed))[: lowest + 1])
    standard_error = noise * math.sqrt(variances[0] + variances[lowest])
    clear = bool(math.log(smoothed[0] / smoothed[lowest]) > CLEAR * standard_error)
    return RateSuggestion(float(rates[steepest]), float(rates[lowest]), clear)


def _variance_shares(count: int, steps: int) -> np.ndarray:
    """Return the variance of each moving average of independent values of variance 1: Σw² / (Σw)²."""
    ones, kernel = np.ones(count), _kernel(steps)
    return _slide(ones, kernel**2) / _slide(ones, kernel) ** 2
