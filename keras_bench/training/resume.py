"""Saves between epochs all that a phase needs to go on: weights, optimizer, callback counters.

Keras's BackupAndRestore keeps neither the counters of EarlyStopping, ReduceLROnPlateau and ModelCheckpoint nor the
history, so a resumed training would decide differently from an uninterrupted one.
"""

import csv
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_bench.rundir import replacing, write_json, write_text

COUNTERS = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")


@dataclass(frozen=True)
class SavedState:
    """Where an interrupted phase stands.

    Attributes:
        epochs: epochs finished.
        stopped: early stopping had already ended the phase.
        counters: for each callback class its counters.
        model: the .keras file with optimizer.
        inputs: what the phase was started with.
    """

    epochs: int
    stopped: bool
    counters: dict[str, dict[str, Any]]
    model: Path
    inputs: dict[str, Any]


def find_state(folder: Path) -> SavedState | None:
    """Return the newest whole state in a phase's state folder, or None."""
    for path in sorted(folder.glob("epoch*.json"), reverse=True):
        tree = json.loads(path.read_text())
        return SavedState(tree["epochs"], tree["stopped"], tree["counters"], path.with_suffix(".keras"), tree["inputs"])
    return None


def drop_later_rows(history: Path, epochs: int) -> None:
    """Cut history.csv back to the epochs the saved state knows; the others will run again."""
    with history.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    kept = rows[:1] + [row for row in rows[1:] if row and int(row[0]) <= epochs]
    if len(kept) < len(rows):
        write_text(history, "".join(",".join(row) + "\n" for row in kept))


class SaveState(keras.callbacks.Callback):
    """Saves the state between epochs and restores callback counters at the start; must be the last callback.

    Saving takes about a second, which is long beside a short epoch: so not after each one, but at most every
    `seconds`.

    Args:
        folder: the phase's state folder.
        watched: the callbacks whose counters decide something.
        inputs: what the phase was started with.
        restored: the state to continue from, or None.
        seconds: at least so much time lies between two savings.
    """

    def __init__(
        self,
        folder: Path,
        watched: list[keras.callbacks.Callback],
        inputs: dict[str, Any],
        restored: SavedState | None,
        seconds: float,
    ) -> None:
        super().__init__()
        self.seconds, self.saved = seconds, time.monotonic()
        self.folder, self.watched, self.inputs, self.restored = folder, watched, inputs, restored

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Put the counters back after the other callbacks have reset theirs."""
        if self.restored is None:
            return
        for callback in self.watched:
            for name, value in self.restored.counters.get(type(callback).__name__, {}).items():
                setattr(callback, name, value)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the model, then the JSON that makes it count, then remove the previous state."""
        if time.monotonic() - self.saved < self.seconds:
            return
        path = self.folder / f"epoch{epoch + 1:04d}.json"
        with replacing(path.with_suffix(".keras")) as unfinished:
            self.model.save(unfinished)
        counters = {
            type(callback).__name__: {name: getattr(callback, name) for name in COUNTERS if hasattr(callback, name)}
            for callback in self.watched
        }
        write_json(
            path,
            {
                "epochs": epoch + 1,
                "stopped": bool(self.model.stop_training),
                "counters": counters,
                "inputs": self.inputs,
            },
        )
        for old in self.folder.glob("epoch*"):
            if old.stem != path.stem:
                old.unlink()
        self.saved = time.monotonic()


def discard_state(folder: Path) -> None:
    """Remove the state of a finished phase."""
    shutil.rmtree(folder, ignore_errors=True)
