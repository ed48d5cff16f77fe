"""Says that a long operation stands still, so that nobody waits for hours for a process that hangs."""

import os
import threading
import time
from collections.abc import Callable

from keras_bench.errors import UserError, quoted

SECONDS = 300.0  # without a finished step, before the first warning
MAX_SECONDS = 1_000_000_000
VARIABLE = "KERAS_BENCH_STALL_SECONDS"  # environment variable with another number of seconds; 0: never warn


class Watchdog:
    """Warns when no step has finished for a set time, then again after twice that time, and so on.

    The clock stands still while the machine sleeps. The thread ends with the process.

    Args:
        seconds: from the last finished step to the first warning; 0 or less: never.
        warn: called with the seconds since the last finished step.
        clock: returns seconds.
    """

    def __init__(
        self, seconds: float, warn: Callable[[float], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds, self.warn, self.clock = seconds, warn, clock
        self.limit, self.last = seconds, clock()
        self.over = threading.Event()

    def seen(self) -> None:
        """Note that a step has finished."""
        self.last, self.limit = self.clock(), self.seconds

    def check(self) -> float:
        """Warn if it is time to, and return the seconds until the next check."""
        idle = self.clock() - self.last
        if idle >= self.limit:
            self.warn(idle)
            self.limit *= 2
        return max(0.0, self.limit - idle)

    def __enter__(self) -> "Watchdog":
        """Start watching."""
        if self.seconds > 0:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self.over.set()

    def _watch(self) -> None:
        while not self.over.wait(self.check()):
            pass


def stall_seconds() -> float:
    """Return the seconds without a finished step before a warning, from the environment if they are set there.

    Raises:
        UserError: the environment holds something else.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise UserError(f"{VARIABLE}: expected seconds from 0 (never warn) to {MAX_SECONDS:,}, received {quoted(text)}")
    return seconds
