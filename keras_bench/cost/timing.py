"""Times a call until its median is known precisely enough, or until the calls or the time allowed for it are spent."""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

MIN_CALLS = 5  # fewer are meaningless, however slow the model is
MIN_WARM_UP = 2  # the first call traces, the second runs the traced function
WARM_UP_SHARE = 0.25  # of the time budget; slow models are warm after few calls
PRECISE_CALLS = 30  # the large-sample interval holds from 20 calls on; fewer than 30 say too little about the p90
# Shorter series may lie in one fast or slow phase of the machine, and look precise: in parts of a long series, ending
# early changed the median by 3.9 % (standard deviation) without this minimum, and by 0.6 % with it.
PRECISE_SECONDS = 0.5
# In that series, the p99 of 30 calls was typically 0.76 times that of all 1,300, and the p99 of 100 calls 0.87 times.
# So fast models get 100 calls, and others as many as these seconds allow.
P99_CALLS, P99_SECONDS = 100, 2.0
PRECISION = 0.02  # both ends of the median's interval are within this share of it
CHECK_GROWTH = 1.1  # the interval is computed anew when the number of calls has grown by a tenth
Z95 = 1.959964  # two-sided 95 % quantile of the normal distribution
NANOSECONDS = 1e9


@dataclass(frozen=True)
class Timing:
    """Timing of a series of calls.

    Attributes:
        warm_up: calls made first, without timing.
        calls: timed calls.
        p50_ms: median milliseconds of a call.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile; of fewer than 100 calls it lies between the two slowest.
        mean_ms: mean.
        p50_low_ms: lower end of the median's 95 % interval (see `median_interval`).
        p50_high_ms: upper end.
    """

    warm_up: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    p50_low_ms: float
    p50_high_ms: float


def time_calls(
    call: Callable[[], object],
    warm_up: int,
    calls: int,
    seconds: float,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Timing:
    """Call repeatedly, first to warm up, then timed, until the median is precise or a limit is reached.

    The timed calls end when both ends of the median's 95 % interval are within 2 % of it and there are at least 100
    calls that took half a second, or 30 that took two seconds; or else at a limit. Percentiles are NumPy's, linear
    between the two nearest calls. Garbage is collected before the timed calls, and Python's collector stays on during
    them: `predict` leaves reference cycles behind, and freeing them is part of its cost in time and memory wherever it
    is used.

    Args:
        call: does all the work and returns once its result is in memory.
        warm_up: maximum number of warm-up calls; they also end after a quarter of `seconds`, but not before the second.
        calls: maximum number of timed calls.
        seconds: time limit of the timed calls; the call that reaches it is the last, but not before the fifth.
        clock: returns the current time in nanoseconds.
    """
    warm_up_calls = _repeat(call, warm_up, MIN_WARM_UP, WARM_UP_SHARE * seconds, clock)
    gc.collect()
    durations = _repeat(call, calls, MIN_CALLS, seconds, clock, stop_when_precise=True)
    milliseconds = np.array(durations) / 1e6
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).tolist()
    low, high = median_interval(milliseconds.tolist())
    return Timing(len(warm_up_calls), len(durations), p50, p90, p99, float(milliseconds.mean()), low, high)


def _repeat(
    call: Callable[[], object],
    most: int,
    least: int,
    seconds: float,
    clock: Callable[[], int],
    stop_when_precise: bool = False,
) -> list[int]:
    """Call repeatedly and return the duration of each call, in nanoseconds."""
    durations: list[int] = []
    total, next_check = 0, PRECISE_CALLS
    while len(durations) < most and (len(durations) < least or total < seconds * NANOSECONDS):
        started = clock()
        call()
        durations.append(clock() - started)
        total += durations[-1]
        least_seconds = PRECISE_SECONDS if len(durations) >= P99_CALLS else P99_SECONDS
        if stop_when_precise and len(durations) >= next_check and total >= least_seconds * NANOSECONDS:
            if is_precise(durations):
                break
            next_check = math.ceil(CHECK_GROWTH * len(durations))
    return durations


def is_precise(durations: Sequence[float]) -> bool:
    """Return whether both ends of the median's interval are within 2 % of the median."""
    low, high = median_interval(durations)
    median = float(np.median(durations))
    return max(high - median, median - low) <= PRECISION * median


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median, from order statistics and without assuming a distribution.

    Of n values in ascending order, its ends are those of rank r = n/2 - z·√n/2 and s = n/2 + z·√n/2, both rounded up,
    z = 1.96 (W. J. Conover, Practical Nonparametric Statistics, 3rd edition, 1999, section 3.2: the normal
    approximation of the binomial distribution, for n > 20). Of 20 values or fewer, they are the smallest and largest.
    The interval assumes independent values. Successive calls are not quite independent, so it describes this series
    and not another one on another day.
    """
    ordered, count = sorted(values), len(values)
    if count <= 20:
        return ordered[0], ordered[-1]
    margin = Z95 * math.sqrt(count) / 2
    return ordered[math.ceil(count / 2 - margin) - 1], ordered[math.ceil(count / 2 + margin) - 1]
