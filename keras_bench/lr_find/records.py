"""Records of a learning-rate search for one phase."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from keras_bench.frames import frame_of

if TYPE_CHECKING:
    import pandas as pd

from keras_bench.phases import Phase

POINT_COLUMNS = ("step", "learning_rate", "loss", "smoothed_loss")


@dataclass(frozen=True)
class RateSuggestion:
    """The rates that a search suggests.

    Attributes:
        steepest: the suggested rate, at which the smoothed loss falls fastest.
        minimum: the rate at which the smoothed loss is lowest, which is too high to train with: the loss is about to
            rise.
        clear: whether the loss fell by more than the noise of single batches.
    """

    steepest: float
    minimum: float
    clear: bool

    @property
    def below_minimum(self) -> float:
        """A tenth of the rate at the minimum, the other usual choice."""
        return self.minimum / 10


@dataclass(frozen=True)
class RateSearch:
    """One search: the loss of successive training batches while the learning rate grows exponentially.

    Attributes:
        phase: the phase searched.
        low: the first rate.
        high: the last rate planned.
        steps: the number of rates planned.
        rates: the rates tried, ascending.
        losses: training loss of each rate's batch before the step: cross-entropy with class weights and label
            smoothing, plus the L2 penalty.
        smoothed: the smoothed losses.
        stopped: "at the highest rate", "the loss diverged" or "the loss became nan" (or inf).
        suggestion: the suggested rates; None if the loss never fell.
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

    def to_json(self) -> dict[str, object]:
        """Return everything but the points as plain values."""
        tree = asdict(self)
        for name in ("rates", "losses", "smoothed"):
            del tree[name]
        return {**tree, "tried": len(self.rates)}
