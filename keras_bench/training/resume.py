"""Saves between epochs all that a phase needs to resume: weights, optimizer, random state, counters, the best weights.

Keras's BackupAndRestore keeps neither the counters of EarlyStopping, ReduceLROnPlateau and ModelCheckpoint nor the
history, so a resumed training would decide differently from an uninterrupted one. Nor does a .keras file hold the
state of the seed generators (Keras 3.15): Dropout would draw the masks of the first epoch again.

Every file of the state is checked by its digest before the phase resumes from it; those of earlier versions lack some
of the digests.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_bench.data.augmentation import AUGMENTATION_VERSION
from keras_bench.download import digest_file
from keras_bench.environment import describe_environment
from keras_bench.errors import UserError
from keras_bench.files import link_or_copy, write_record
from keras_bench.models.saving import save_model
from keras_bench.reading import read_record
from keras_bench.runs.history import best_row, history_digest, read_history
from keras_bench.runs.model_files import is_whole_zip
from keras_bench.training.monitors import mode_of

BEST = ".best.weights.h5"
COUNTERS = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")


@dataclass(frozen=True)
class SavedState:
    """The saved state of an interrupted phase.

    Attributes:
        epochs: number of finished epochs.
        stopped: whether early stopping had already ended the phase.
        counters: the counters of each callback, by class name.
        model: the .keras file of model and optimizer.
        inputs: everything the phase's result depends on.
        best: copy of the weights of the best epoch so far.
        best_sha256: digest of those weights; None in states of earlier versions, which kept no copy.
        seeds: state of each seed generator of the model, in the order of `seed_generators`; None in states of earlier
            versions, which did not save it.
        model_sha256: digest of the .keras file; None in states of earlier versions.
        history_sha256: `history_digest` of history.csv when the state was saved; None in states of earlier versions.
        computed_with: `computing_with()` of the process that saved it; empty in states of earlier versions.
    """

    epochs: int
    stopped: bool
    counters: dict[str, dict[str, float | None]]
    model: Path
    inputs: Mapping[str, object]
    best: Path
    best_sha256: str | None
    seeds: list[list[int]] | None
    model_sha256: str | None
    history_sha256: str | None
    computed_with: Mapping[str, object]


def find_states(folder: Path) -> list[SavedState]:
    """Return the states in a phase's state folder whose JSON can be read, newest first.

    There is one, or two if saving was interrupted. Whether their other files are as they were saved, `damage_of` says.
    """
    states = []
    for path in sorted(folder.glob("epoch*.json"), reverse=True):
        with suppress(UserError):
            states.append(read_record(path, partial(_parse_state, path)))
    return states


def _parse_state(path: Path, tree: dict[str, Any]) -> SavedState:
    return SavedState(
        int(tree["epochs"]),
        bool(tree["stopped"]),
        dict(tree["counters"]),
        path.with_suffix(".keras"),
        dict(tree["inputs"]),
        path.with_suffix(BEST),
        tree.get("best_sha256"),
        tree.get("seeds"),
        tree.get("model_sha256"),
        tree.get("history_sha256"),
        dict(tree.get("computed_with", {})),
    )


def computing_with() -> dict[str, object]:
    """Return what else changes the bits of an epoch besides its inputs: versions, processor, accelerators, commit."""
    environment, devices = describe_environment([]), tf.config.list_physical_devices("GPU")
    packages = {name: environment["packages"][name] for name in ("keras-bench", "tensorflow", "keras", "numpy")}
    machine = {"cpu": environment["cpu"], "cores": environment["cores"], "GPUs": len(devices)}
    return {**packages, "commit": environment["commit"], "augmentation": AUGMENTATION_VERSION, **machine}


def changes_since(state: SavedState) -> list[str]:
    """Return what differs from the process that saved a state, e.g. "keras 3.15.1, now 3.16.0"."""
    now = computing_with()
    before = state.computed_with
    return [f"{name} {before[name]}, now {now[name]}" for name in now if name in before and before[name] != now[name]]


def damage_of(state: SavedState, history: Path) -> str | None:
    """Return why a phase cannot resume from a state, or None if model and history are as they were saved.

    Args:
        state: the saved state.
        history: history.csv, which may have rows of later epochs.
    """
    if not state.model.is_file():
        return f"{state.model} is missing"
    intact = is_whole_zip(state.model) if state.model_sha256 is None else digest_file(state.model) == state.model_sha256
    if not intact:
        return f"{state.model} is damaged"
    if not history.is_file():
        return f"{history} is missing"
    try:
        epochs, digest = read_history(history)["epoch"].tolist(), history_digest(history, state.epochs)
    except UserError:
        return f"{history} is damaged"
    is_same = epochs[: state.epochs] == list(range(1, state.epochs + 1)) and state.history_sha256 in (None, digest)
    return None if is_same else f"{history} is damaged"


def load_state(state: SavedState, model: keras.Model) -> None:
    """Restore weights, optimizer and random state of a compiled model to a saved state.

    The model is built as for a new start, and only its variables are read from the file: a model that Keras rebuilds
    from the file can differ, since some layers do not save all of their settings (SpatialDropout2D omits its
    precision).

    Args:
        state: the saved state.
        model: a model compiled for the phase, with its optimizer's variables built.

    Raises:
        ValueError: the state belongs to a model with other layers.
    """
    model.load_weights(state.model)
    if state.seeds is not None:
        for variable, seed in zip(seed_generators(model), state.seeds, strict=True):
            variable.assign(seed)


def seed_generators(model: keras.Model) -> list[keras.Variable]:
    """Return the states of a model's seed generators, integers of shape (2,), in the order of its layers.

    Keras counts them among a layer's variables but not among its weights, and saves only the weights.
    """
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def restore_best(state: SavedState, checkpoint: Path, history: Path, monitor: str) -> bool:
    """Restore the best weights as of the saved state.

    A later epoch may have replaced them; it will run again, and need not be the best again.

    Args:
        state: the state that the phase resumes from.
        checkpoint: file of the best weights.
        history: history.csv, with the rows of later epochs still in it.
        monitor: the metric that decides which epoch is best.

    Returns:
        whether the file now holds the state's best epoch; False if those weights are lost.
    """
    if state.best_sha256 is None:
        if not (checkpoint.is_file() and history.is_file()):
            return False
        rows = read_history(history)
        return len(rows) > 0 and bool(best_row(rows, monitor, mode_of(monitor))["epoch"] <= state.epochs)
    for path in (checkpoint, state.best):
        if path.is_file() and digest_file(path) == state.best_sha256:
            if path != checkpoint:
                link_or_copy(path, checkpoint)
            return True
    return False


def remove_saved_epochs(folder: Path) -> None:
    """Remove a saved state, its JSON first, without which the other files do not count."""
    for pattern in ("epoch*.json", "epoch*"):
        for path in folder.glob(pattern):
            path.unlink()


class StateSaver(keras.callbacks.Callback):
    """Saves the state between epochs and restores callback counters at the start; must be the last callback.

    Saving takes about a second, which is long compared with a short epoch, so it happens at most every `seconds`.

    Args:
        folder: the phase's state folder.
        checkpoint: file of the best weights.
        history: history.csv, which has the row of an epoch by the time its state is saved.
        deciding: the callbacks whose counters influence decisions.
        inputs: everything the phase's result depends on.
        restored: the state to resume from, or None.
        seconds: minimum time between two saves.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Path,
        history: Path,
        deciding: list[keras.callbacks.Callback],
        inputs: Mapping[str, object],
        restored: SavedState | None,
        seconds: float,
    ) -> None:
        super().__init__()
        self.seconds, self.saved = seconds, time.monotonic()
        self.folder, self.checkpoint, self.history = folder, checkpoint, history
        self.deciding, self.inputs, self.restored = deciding, inputs, restored
        self.computed_with = computing_with()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Restore the counters after the other callbacks have reset theirs."""
        if self.restored is None:
            return
        for callback in self.deciding:
            for name, value in self.restored.counters.get(type(callback).__name__, {}).items():
                setattr(callback, name, value)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the model and the best weights, then the JSON that makes them count; remove the previous state."""
        if time.monotonic() - self.saved < self.seconds:
            return
        path = self.folder / f"epoch{epoch + 1:04d}.json"
        save_model(self.model, path.with_suffix(".keras"))
        best_sha256 = None
        if self.checkpoint.is_file():
            best_sha256 = digest_file(self.checkpoint)
            link_or_copy(self.checkpoint, path.with_suffix(BEST))
        counters = {
            type(callback).__name__: {name: getattr(callback, name) for name in COUNTERS if hasattr(callback, name)}
            for callback in self.deciding
        }
        write_record(
            path,
            {
                "epochs": epoch + 1,
                "stopped": bool(self.model.stop_training),
                "counters": counters,
                "inputs": self.inputs,
                "best_sha256": best_sha256,
                "seeds": [variable.numpy().tolist() for variable in seed_generators(self.model)],
                "model_sha256": digest_file(path.with_suffix(".keras")),
                "history_sha256": history_digest(self.history, epoch + 1),
                "computed_with": self.computed_with,
            },
        )
        for old in self.folder.glob("epoch*"):
            if not old.name.startswith(f"{path.stem}."):
                old.unlink()
        self.saved = time.monotonic()
