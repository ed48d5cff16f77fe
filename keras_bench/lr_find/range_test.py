"""The learning-rate range test: trains for some steps while the learning rate grows, and records the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_bench.console import Log
from keras_bench.errors import RunError
from keras_bench.lr_find.records import RateSearch
from keras_bench.lr_find.suggest import DIVERGED, last_average, rates_between, smooth, suggest
from keras_bench.training.fit import FitPlan, compile_for_phase
from keras_bench.training.losses import class_weights
from keras_bench.training.precision import training_precision, trains_in_tf32

if TYPE_CHECKING:
    import tensorflow as tf


class GrowingRate(keras.callbacks.Callback):
    """Sets the rate of each step, records its batch's loss, and stops when the loss diverges or is not finite.

    Args:
        rates: the rate of each step, float, (steps,).
        advance: called with 1 after each step.

    Attributes:
        losses: finite losses of the steps so far.
        lowest: lowest smoothed loss so far.
        stopped: reason why the test ended.
    """

    def __init__(self, rates: np.ndarray, advance: Callable[[int], None]) -> None:
        super().__init__()
        self.rates, self.advance = rates, advance
        self.losses: list[float] = []
        self.lowest = math.inf
        self.stopped = "at the highest rate"

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Set the rate, and reset the metrics: Keras reports the mean loss since the last reset."""
        self.model.optimizer.learning_rate = float(self.rates[batch])
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Record the loss, or stop."""
        loss = float((logs or {})["loss"])
        if math.isfinite(loss):
            self.losses.append(loss)
            average = last_average(np.array(self.losses), len(self.rates))
            self.lowest = min(self.lowest, average)
            if average > DIVERGED * self.lowest:
                self._stop("the loss diverged")
        else:
            self._stop(f"the loss became {loss}")
        self.advance(1)

    def _stop(self, reason: str) -> None:
        self.stopped, self.model.stop_training = reason, True


def search_rate(
    model: keras.Model, plan: FitPlan, low: float, high: float, steps: int, batches: tf.data.Dataset, log: Log
) -> RateSearch:
    """Train a model with exponentially growing rates; its weights are useless afterwards.

    Args:
        model: a model with the weights the phase starts from.
        plan: plan of the phase: the layers that train, the optimizer and the loss.
        low: the first rate.
        high: the last rate.
        steps: number of rates, each tried on one batch.
        batches: tf.data stream of at least `steps` training batches.
        log: the screen.

    Raises:
        RunError: the first loss is not finite.
    """
    xla = compile_for_phase(model, plan)
    rates = rates_between(low, high, steps)
    precision = training_precision(trains_in_tf32(plan.config.training, xla))
    with log.progress(f"{plan.phase}: growing learning rate", steps, "steps") as advance, precision:
        range_test = GrowingRate(rates, advance)
        model.fit(
            batches,
            steps_per_epoch=steps,
            class_weight=class_weights(plan.config.training, plan.class_counts),
            callbacks=[range_test],
            shuffle=False,  # the stream is shuffled already
            verbose=0,
        )
    if not range_test.losses:
        when = "at the first step, before any rate was tried"
        raise RunError(f"{range_test.stopped} {when}; inspect the images and the weights")
    tried, losses = rates[: len(range_test.losses)], np.array(range_test.losses)
    return RateSearch(
        phase=plan.phase,
        low=low,
        high=high,
        steps=steps,
        rates=tuple(tried.tolist()),
        losses=tuple(range_test.losses),
        smoothed=tuple(smooth(losses, steps).tolist()),
        stopped=range_test.stopped,
        suggestion=suggest(tried, losses, steps),
    )
