"""What trying out learning rates for one phase showed."""

import csv
import io
from dataclasses import asdict, dataclass
from typing import Any

from keras_bench.phases import Phase

POINT_COLUMNS = ("step", "learning_rate", "loss", "smoothed_loss")


@dataclass(frozen=True)
class RateSuggestion:
    """The rates that a search points to.

    Attributes:
        steepest: where the smoothed loss falls fastest; the one suggested.
        minimum: where it is lowest, which is too high to train with: the loss is about to rise.
        clear: whether it fell by more than single batches scatter.
    """

    steepest: float
    minimum: float
    clear: bool

    @property
    def below_minimum(self) -> float:
        """A tenth of the rate of the minimum, the other usual choice."""
        return self.minimum / 10


@dataclass(frozen=True)
class RateSearch:
    """One search: the loss of successive training batches while the learning rate grows exponentially.

    Attributes:
        phase: which.
        low: the first rate.
        high: the last one that would have been tried.
        steps: how many would have been tried.
        rates: those that were tried, ascending.
        losses: what training minimises, for the batch before the step with that rate: cross-entropy with class
            weights and label smoothing, and the L2 penalty.
        smoothed: the same, smoothed.
        stopped: "at the highest rate", "the loss diverged" or "the loss became nan" (or inf).
        suggestion: None where the loss never fell.
    """

    phase: Phase
    low: float
    high: float
    steps: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    stopped: str
    suggestion: RateSuggestion | None

    def to_csv(self) -> str:
        """Return the points as CSV, one row per step."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(POINT_COLUMNS)
        for step, point in enumerate(zip(self.rates, self.losses, self.smoothed, strict=True), start=1):
            writer.writerow([step, *(f"{value:.9g}" for value in point)])
        return stream.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Return everything but the points as plain values."""
        tree = asdict(self)
        for name in ("rates", "losses", "smoothed"):
            del tree[name]
        return {**tree, "tried": len(self.rates)}
