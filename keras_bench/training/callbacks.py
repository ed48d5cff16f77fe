"""What happens between batches and epochs: stop on NaN, keep the best weights, write history, show progress."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_bench.config.decision import DecisionMetric, decision_of
from keras_bench.console import Log, duration
from keras_bench.errors import RunError
from keras_bench.models.saving import save_weights
from keras_bench.phases import Phase
from keras_bench.runs.history import HISTORY_COLUMNS, append_history
from keras_bench.training.monitors import mode_of

if TYPE_CHECKING:
    import tensorflow as tf


class DivergedError(RunError):
    """The loss became NaN or infinite."""


class StopOnNonFinite(keras.callbacks.Callback):
    """Raises DivergedError at the first step whose loss is not finite, naming phase, epoch and step.

    After each epoch it also checks the weights: oneDNN's fused ReLU turns NaN into 0, so a broken network may keep a
    finite loss.

    Args:
        phase: the phase, for the message.
        learning_rate: the phase's; the message suggests a tenth of it.
    """

    def __init__(self, phase: Phase, learning_rate: float) -> None:
        super().__init__()
        self.phase, self.learning_rate, self.epoch = phase, learning_rate, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch for the message."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the running mean of the loss, which stays NaN once it is NaN."""
        self._require_finite((logs or {}).get("loss"), f"step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Check the validation loss and the weights too."""
        self._require_finite((logs or {}).get("val_loss"), "validation")
        for weight in self.model.trainable_weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                raise DivergedError(f"the weights {weight.path} are no longer finite {self._describe('weights')}")

    def _require_finite(self, loss: float | tf.Tensor, moment: str) -> None:
        if loss is not None and not math.isfinite(float(loss)):
            raise DivergedError(f"the loss became {float(loss)} {self._describe(moment)}")

    def _describe(self, moment: str) -> str:
        return (
            f"in phase {self.phase}, epoch {self.epoch + 1}, {moment}; "
            f"add a lower learning rate to the same command, e.g. --set {self.phase}.learning_rate="
            f"{self.learning_rate / 10:.2g} --variant lower-rate, which keeps what was trained so far"
        )


class AtomicCheckpoint(keras.callbacks.ModelCheckpoint):
    """ModelCheckpoint of the best weights that never leaves an incomplete file behind.

    Args:
        path: file of the best weights, ending in .weights.h5.
        monitor: a validation metric; if it is missing, that is an error (Keras only warns, and then saves every epoch).
    """

    def __init__(self, path: Path, monitor: str) -> None:
        self.final = path
        super().__init__(str(path), monitor, save_best_only=True, save_weights_only=True, mode=mode_of(monitor))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save if this is the best epoch so far."""
        if self.monitor not in (logs or {}):
            raise RunError(f"the metric {self.monitor} is missing; received {', '.join(logs or {}) or 'none'}")
        super().on_epoch_end(epoch, logs)

    def _save_model(self, epoch: int, batch: int | None, logs: dict[str, float]) -> None:
        """Save in our way, in place of Keras's (3.15), which writes HDF5 to the file itself."""
        if self._should_save_model(epoch, batch, logs, str(self.final)):
            save_weights(self.model, self.final)


class HistoryWriter(keras.callbacks.Callback):
    """Appends a row per epoch to history.csv and prints a line per epoch, with a progress bar during the epoch.

    Args:
        path: the CSV file; existing rows are kept.
        phase: name of the phase, for the screen.
        epochs: maximum number of epochs, to estimate the time left.
        steps: batches per epoch.
        log: the screen.
        checkpoint: knows whether an epoch is the best so far.
    """

    def __init__(
        self, path: Path, phase: Phase, epochs: int, steps: int, log: Log, checkpoint: AtomicCheckpoint
    ) -> None:
        super().__init__()
        self.path, self.phase, self.epochs, self.steps = path, phase, epochs, steps
        self.log, self.checkpoint = log, checkpoint
        self.training_started = self.epoch_started = self.train_seconds = 0.0
        self.first_step_seconds: float | None = None
        self.best: float | None = None
        self.seconds: list[float] = []
        self._bar: AbstractContextManager[Callable[[int], None]] = nullcontext(lambda _: None)
        self._shown = 0
        self._advance: Callable[[int], None] = lambda _: None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Remember the best value before an interruption."""
        self.best, self.training_started = self.checkpoint.best, time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock and the progress bar."""
        self.epoch_started, self.train_seconds, self._shown = time.monotonic(), 0.0, 0
        self._bar = self.log.progress(f"{self.phase} epoch {epoch + 1}/{self.epochs}", self.steps, "steps")
        self._advance = self._bar.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the progress bar; time the first step, which also builds the graph."""
        if self.first_step_seconds is None:
            self.first_step_seconds = round(time.monotonic() - self.training_started, 2)
        self._advance(batch + 1 - self._shown)  # one execution may take several steps
        self._shown = batch + 1

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Note how long training took before validation began."""
        self.train_seconds = time.monotonic() - self.epoch_started

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Give a sign of life during validation, which has no bar of its own."""
        self._advance(0)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the row and print the line."""
        self._bar.__exit__(None, None, None)
        values = dict(logs or {})
        values.setdefault("learning_rate", float(self.model.optimizer.learning_rate))
        seconds = time.monotonic() - self.epoch_started
        row = {"epoch": epoch + 1, "seconds": f"{seconds:.3f}", "train_seconds": f"{self.train_seconds:.3f}"}
        row |= {name: f"{values[name]:.9g}" for name in HISTORY_COLUMNS if name in values}
        append_history(self.path, row)
        self._print_epoch(epoch, values, seconds)

    def _print_epoch(self, epoch: int, values: dict[str, float], seconds: float) -> None:
        self.seconds.append(seconds)
        typical = self.seconds[1:] or self.seconds  # the first epoch also builds the graph
        left = statistics.median(typical) * (self.epochs - epoch - 1)
        is_best = self.checkpoint.best != self.best
        self.best = self.checkpoint.best
        columns = [
            f"{self.phase:>7} epoch {epoch + 1:>2}/{self.epochs}",
            f"cross-entropy {values['cross_entropy']:.3f} (val {values['val_cross_entropy']:.3f})",
            f"top-1 {values['top1']:6.1%} (val {values['val_top1']:6.1%})",
            self._balanced_accuracy(values),
            f"rate {values['learning_rate']:.2g}",
            duration(seconds),
            f"at most {duration(left)} left" if left else "",
            "best so far" if is_best else "",
        ]
        self.log.line("  ".join(column for column in columns if column))

    def _balanced_accuracy(self, values: dict[str, float]) -> str:
        """Return balanced accuracy for the line if that decides, else an empty string."""
        if decision_of(self.checkpoint.monitor) is DecisionMetric.TOP1:
            return ""
        return f"balanced {values['balanced_accuracy']:6.1%} (val {values['val_balanced_accuracy']:6.1%})"
