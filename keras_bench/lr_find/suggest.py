"""Which learning rate a range test points to. NumPy only.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186), section 3.3, lets the rate grow
linearly and looks at the accuracy; that it grows exponentially, and that one looks at the loss, is fastai's way
(https://docs.fast.ai/callback.schedule.html, lr_find).
"""

import math

import numpy as np

from keras_bench.lr_find.records import RateSuggestion

DIVERGED = 4.0  # times the lowest smoothed loss; as in fastai
WIDTH = 0.05  # of all steps: deviation of the smoothing's weights (ours)
SMALLEST_LOSS = 1e-12  # of a loss whose logarithm is taken
ROUNDING = 1e-6  # of a loss: a fall that float32 makes by itself
CLEAR = 3.0  # standard errors that a fall must exceed to be more than scatter


def rates_between(low: float, high: float, steps: int) -> np.ndarray:
    """Return `steps` rates from low to high, float64, each the same multiple of the one before."""
    return np.geomspace(low, high, steps)


def smooth(losses: np.ndarray, steps: int) -> np.ndarray:
    """Return a geometric moving average with Gaussian weights around each step.

    It looks forward as far as back. An exponential average over past steps lags behind, and so do the rates read off
    it: with fastai's weight of 0.98, step 60 of 100 by 24 steps, which are 1.7 decades of seven. It is geometric
    because the last losses may be thousands of times the others, and would otherwise lift the curve long before.

    Args:
        losses: float, (N,), those of the steps so far, positive.
        steps: of the whole search; the weights' deviation is a twentieth of them.

    Returns:
        float64, (N,).
    """
    kernel = _kernel(steps)
    return np.asarray(np.exp(_slide(_log(losses), kernel) / _slide(np.ones(len(losses)), kernel)))


def last_average(losses: np.ndarray, steps: int) -> float:
    """Return the last value of `smooth`, which has past steps only to look at."""
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
    """Return the kernel's sum around each value; beyond the ends there is nothing."""
    return np.convolve(values, kernel)[len(kernel) // 2 :][: len(values)]


def suggest(rates: np.ndarray, losses: np.ndarray, steps: int) -> RateSuggestion | None:
    """Return the rate at which the smoothed loss falls fastest, before its minimum; None where it never falls.

    Fastest per factor of the rate: the slope is over the rate's logarithm.

    Args:
        rates: float, (N,), ascending.
        losses: float, (N,), of single batches.
        steps: of the whole search, of which N were made.
    """
    if len(losses) < 3:
        return None
    smoothed = smooth(losses, steps)
    lowest = int(smoothed.argmin())
    if smoothed[: lowest + 1].max() <= smoothed[lowest] * (1 + ROUNDING):
        return None
    steepest = int(np.gradient(smoothed[: lowest + 1], np.log(rates[: lowest + 1])).argmin())
    shares = _variance_left(len(losses), steps)
    scatter = np.std((_log(losses) - np.log(smoothed))[: lowest + 1])
    clear = bool(math.log(smoothed[0] / smoothed[lowest]) > CLEAR * scatter * math.sqrt(shares[0] + shares[lowest]))
    return RateSuggestion(float(rates[steepest]), float(rates[lowest]), clear)


def _variance_left(count: int, steps: int) -> np.ndarray:
    """Return which share of the variance of independent values their moving average keeps: the sum of w² / (Σw)²."""
    ones, kernel = np.ones(count), _kernel(steps)
    return _slide(ones, kernel**2) / _slide(ones, kernel) ** 2
