"""What trying out learning rates for one phase showed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from keras_bench.frames import frame_of

if TYPE_CHECKING:
    import pandas as pd

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

    @property
    def points(self) -> pd.DataFrame:
        """The points, one row per step, which is counted from 1."""
        steps = range(1, len(self.rates) + 1)
        points = zip(steps, self.rates, self.losses, self.smoothed, strict=True)
        return frame_of(dict(zip(POINT_COLUMNS, point, strict=True)) for point in points)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the points as plain values."""
        tree = asdict(self)
        for name in ("rates", "losses", "smoothed"):
            del tree[name]
        return {**tree, "tried": len(self.rates)}
