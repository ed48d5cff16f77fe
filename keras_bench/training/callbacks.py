"""What happens between batches and epochs: stop on NaN, keep the best weights, write history, tell the person."""

import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_bench.config.decision import DecisionMetric, decision_of
from keras_bench.console import Log, duration
from keras_bench.errors import RunError
from keras_bench.runs.history import HISTORY_COLUMNS, append_history
from keras_bench.training.monitors import mode_of


class DivergedError(RunError):
    """The loss became NaN or infinite."""


class StopOnNonFinite(keras.callbacks.Callback):
    """Raises DivergedError at the first step whose loss is not finite, naming phase, epoch and step.

    After each epoch it also looks at the weights: oneDNN's fused ReLU makes 0 of NaN, so a broken network may go on
    with a finite loss.
    """

    def __init__(self, phase: str) -> None:
        super().__init__()
        self.phase, self.epoch = phase, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remember the epoch for the message."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the running mean of the loss, which keeps a NaN from then on."""
        self._check((logs or {}).get("loss"), f"step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the validation loss and the weights too."""
        self._check((logs or {}).get("val_loss"), "validation")
        for weight in self.model.trainable_weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                raise DivergedError(f"the weights {weight.path} are no longer finite {self._where('weights')}")

    def _check(self, loss: Any, where: str) -> None:
        if loss is not None and not math.isfinite(float(loss)):
            raise DivergedError(f"the loss became {float(loss)} {self._where(where)}")

    def _where(self, where: str) -> str:
        return (
            f"in phase {self.phase}, epoch {self.epoch + 1}, {where}; "
            f"try a lower learning rate, e.g. --set {self.phase}.learning_rate=1e-5"
        )


class AtomicCheckpoint(keras.callbacks.ModelCheckpoint):
    """ModelCheckpoint of the best weights that never leaves half a file behind.

    Args:
        path: the final file, ending in .weights.h5.
        monitor: a validation metric; its absence is an error (Keras itself only warns, and then saves every epoch).
    """

    def __init__(self, path: Path, monitor: str) -> None:
        self.final = path
        self.unfinished = path.with_name(f".writing-{path.name}")
        super().__init__(
            str(self.unfinished), monitor, save_best_only=True, save_weights_only=True, mode=mode_of(monitor)
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save if this is the best epoch so far."""
        if self.monitor not in (logs or {}):
            raise RunError(f"the metric {self.monitor} is missing; received {', '.join(logs or {}) or 'none'}")
        super().on_epoch_end(epoch, logs)
        if self.unfinished.is_file():
            os.replace(self.unfinished, self.final)


class History(keras.callbacks.Callback):
    """Appends a row per epoch to history.csv and shows one line per epoch, with progress inside it.

    Args:
        path: the CSV file; existing rows are kept.
        phase: for the screen.
        epochs: epochs at most, for the time left.
        steps: batches per epoch.
        log: the screen.
        checkpoint: tells whether the epoch was the best so far.
    """

    def __init__(self, path: Path, phase: str, epochs: int, steps: int, log: Log, checkpoint: AtomicCheckpoint) -> None:
        super().__init__()
        self.path, self.phase, self.epochs, self.steps = path, phase, epochs, steps
        self.log, self.checkpoint = log, checkpoint
        self.started = self.trained = self.begun = 0.0
        self.first_step_seconds: float | None = None
        self.best: float | None = None
        self.seconds: list[float] = []
        self._bar: Any = None
        self._shown = 0
        self._advance: Callable[[int], None] = lambda _: None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Remember what was the best before an interruption."""
        self.best, self.begun = self.checkpoint.best, time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock and the progress bar."""
        self.started, self.trained, self._shown = time.monotonic(), 0.0, 0
        self._bar = self.log.progress(f"{self.phase} epoch {epoch + 1}/{self.epochs}", self.steps, "steps")
        self._advance = self._bar.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move the progress bar; the first step also builds the graph, so its end is worth knowing."""
        if self.first_step_seconds is None:
            self.first_step_seconds = round(time.monotonic() - self.begun, 2)
        self._advance(batch + 1 - self._shown)  # several steps may be one execution
        self._shown = batch + 1

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Note when training ended and validation began."""
        self.trained = time.monotonic() - self.started

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the row and the line."""
        self._bar.__exit__(None, None, None)
        values = dict(logs or {})
        values.setdefault("learning_rate", float(self.model.optimizer.learning_rate))
        seconds = time.monotonic() - self.started
        row = {"epoch": epoch + 1, "seconds": f"{seconds:.3f}", "train_seconds": f"{self.trained:.3f}"}
        row |= {name: f"{values[name]:.9g}" for name in HISTORY_COLUMNS if name in values}
        append_history(self.path, row)
        self._show(epoch, values, seconds)

    def _show(self, epoch: int, values: dict[str, float], seconds: float) -> None:
        self.seconds.append(seconds)
        usual = self.seconds[1:] or self.seconds  # the first epoch also builds the graph
        left = statistics.median(usual) * (self.epochs - epoch - 1)
        better = self.checkpoint.best != self.best
        self.best = self.checkpoint.best
        parts = [
            f"{self.phase:>7} epoch {epoch + 1:>2}/{self.epochs}",
            f"cross-entropy {values['cross_entropy']:.3f} (val {values['val_cross_entropy']:.3f})",
            f"top-1 {values['top1']:6.1%} (val {values['val_top1']:6.1%})",
            self._balanced(values),
            f"rate {values['learning_rate']:.2g}",
            duration(seconds),
            f"at most {duration(left)} left" if left else "",
            "best so far" if better else "",
        ]
        self.log.line("  ".join(part for part in parts if part))

    def _balanced(self, values: dict[str, float]) -> str:
        """Return balanced accuracy for the line, where that is what counts."""
        if decision_of(self.checkpoint.monitor) is DecisionMetric.TOP1:
            return ""
        return f"balanced {values['balanced_accuracy']:6.1%} (val {values['val_balanced_accuracy']:6.1%})"
