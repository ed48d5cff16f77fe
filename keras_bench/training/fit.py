"""Fits one phase of one model: the only place that compiles and calls fit."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_bench.backbones.table import Backbone
from keras_bench.config import Config, FineTuneConfig
from keras_bench.console import Log, duration
from keras_bench.models.phases import count_parameters, set_phase
from keras_bench.runs.folders import RunDir
from keras_bench.runs.history import best_row, read_history
from keras_bench.runs.results import FitOutcome
from keras_bench.training.callbacks import AtomicCheckpoint, History, StopOnNonFinite
from keras_bench.training.losses import build_loss, class_weights
from keras_bench.training.monitors import build_metrics, mode_of
from keras_bench.training.optimizers import build_optimizer, build_schedule
from keras_bench.training.precision import FullPrecisionValidation, training_precision, trains_in_tf32, uses_xla
from keras_bench.training.resume import SavedState, SaveState, drop_later_rows, drop_state, find_state, restore_best


@dataclass(frozen=True)
class Phase:
    """One phase to be fitted.

    Attributes:
        name: "scratch", "tl" or "ft".
        config: the run's configuration.
        backbone: the row of the table the model was built from.
        steps: batches an epoch.
        class_counts: training images of each class.
        inputs: everything the result depends on; a saved state counts only for the same.
        checkpoint: where the weights of the best epoch go, ending in .weights.h5; None: the run's usual place.
        steps_per_execution: steps between two returns to Python.
    """

    name: str
    config: Config
    backbone: Backbone
    steps: int
    class_counts: tuple[int, ...]
    inputs: dict[str, Any]
    checkpoint: Path | None = None
    steps_per_execution: int = 1


def set_phase_of(model: keras.Model, phase: Phase) -> None:
    """Set what trains in this phase, as its configuration says."""
    settings = phase.config.phase(phase.name)
    unfreeze = settings.unfreeze if isinstance(settings, FineTuneConfig) else "all"
    norms = phase.config.model
    set_phase(model, phase.backbone, phase.name, unfreeze, norms.batch_norm, norms.batch_norm_momentum)


def compile_for_phase(model: keras.Model, phase: Phase) -> bool:
    """Set what trains, and compile with a new optimizer and new metrics; returns whether XLA compiles the step."""
    settings, training = phase.config.phase(phase.name), phase.config.training
    set_phase_of(model, phase)
    xla = uses_xla(training)
    model.compile(
        optimizer=build_optimizer(settings, training.accumulation_steps),
        loss=build_loss(training, phase.class_counts),
        metrics=build_metrics(model.outputs[0].shape[-1]),
        jit_compile=xla,
        steps_per_execution=phase.steps_per_execution,
    )
    # Otherwise `fit` makes the optimizer's variables while it traces the step, and so traces it twice: EfficientNetB0's
    # first epoch of two steps then takes 43 s instead of 23 s on two cores.
    model.optimizer.build(model.trainable_variables)
    return xla


def fit_phase(model: keras.Model, phase: Phase, run: RunDir, training: Any, validation: Any, log: Log) -> FitOutcome:
    """Train a model through one phase, continuing an interrupted one where its state was saved.

    The best epoch's weights are on disk afterwards; the model itself keeps its last ones.

    Args:
        model: built and filled with the weights the phase starts from.
        phase: what to do.
        run: where history, best weights and state go.
        training: function from the number of finished epochs to the tf.data stream of the remaining ones; or, where its
            cardinality says that it ends after `phase.steps`, of the next one each time it is read, which more than one
            step an execution needs: the last ones of an epoch would be taken from the next one's images (Keras 3.15).
        validation: tf.data of the validation images.
        log: shows a line an epoch.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    state = _state_to_continue(phase, run, log)
    if state:
        model = keras.models.load_model(state.model, safe_mode=True)
        drop_later_rows(run.history(phase.name), state.epochs)
        log.line(f"{phase.name}: continuing after epoch {state.epochs}, where it was interrupted")
        xla = bool(model.jit_compile)
    else:
        run.history(phase.name).unlink(missing_ok=True)
        xla = compile_for_phase(model, phase)
        total, trainable = count_parameters(model)
        log.line(f"{phase.name}: training {trainable:,} of {total:,} parameters, XLA {'on' if xla else 'off'}")
    done = state.epochs if state else 0
    epochs = phase.config.phase(phase.name).epochs
    callbacks = _callbacks(phase, run, log, state)
    tf32 = trains_in_tf32(phase.config.training, xla)
    if phase.config.training.tf32 and not tf32:
        log.line(f"{phase.name}: without XLA it trains in full float32; training.tf32 needs training.xla")
    if done < epochs and not (state and state.stopped):
        stream = training(done)
        with training_precision(tf32):
            model.fit(
                stream,
                validation_data=validation,
                initial_epoch=done,
                epochs=epochs,
                steps_per_epoch=None if stream.cardinality() == phase.steps else phase.steps,
                class_weight=class_weights(phase.config.training, phase.class_counts),
                callbacks=callbacks,
                shuffle=False,  # the stream is shuffled already
                verbose=0,
            )
    rows = read_history(run.history(phase.name))
    for row in rows[done:]:
        log.spend("forward and backward", row["train_seconds"])
        log.spend("validation", row["seconds"] - row["train_seconds"])
    first_step = next(one.first_step_seconds for one in callbacks if isinstance(one, History))
    resolved = {
        "xla": xla,
        "tf32": tf32,
        "mixed_precision": phase.config.training.mixed_precision,
        "first_step_seconds": first_step,
    }
    return _outcome(phase, rows, resolved, log)


def _state_to_continue(phase: Phase, run: RunDir, log: Log) -> SavedState | None:
    """Return the saved state with the best weights back in their place, or None where the phase begins anew."""
    folder, checkpoint = run.state(phase.name), phase.checkpoint or run.best_weights(phase.name)
    state = find_state(folder)
    monitor = phase.config.training.watched_by_checkpoint
    if state is None or restore_best(state, checkpoint, run.history(phase.name), monitor):
        return state
    log.warn(
        f"{phase.name}: starts over: it was interrupted after epoch {state.epochs}, but {checkpoint} "
        "is missing, damaged or of a later epoch, so the weights of the best epoch until then are lost"
    )
    drop_state(folder)
    return None


def _callbacks(phase: Phase, run: RunDir, log: Log, state: SavedState | None) -> list[keras.callbacks.Callback]:
    """Return new callbacks in the order they must run: decisions, then records, then the state of both."""
    training = phase.config.training
    settings = phase.config.phase(phase.name)
    checkpoint = AtomicCheckpoint(phase.checkpoint or run.best_weights(phase.name), training.watched_by_checkpoint)
    stopping = keras.callbacks.EarlyStopping(
        training.watched_by_stopping,
        patience=training.early_stopping_patience,
        mode=mode_of(training.watched_by_stopping),
    )
    history = History(run.history(phase.name), phase.name, settings.epochs, phase.steps, log, checkpoint)
    schedule = build_schedule(settings, training)
    deciding = [checkpoint, stopping, *([schedule] if schedule else [])]
    seconds = phase.config.runtime.save_state_seconds
    saver = SaveState(run.state(phase.name), checkpoint.final, deciding, phase.inputs, state, seconds)
    board = []
    if phase.config.runtime.tensorboard and importlib.util.find_spec("tensorboard"):
        board = [keras.callbacks.TensorBoard(str(run.tensorboard(phase.name)), write_graph=False)]
    return [FullPrecisionValidation(), StopOnNonFinite(phase.name), *deciding, history, *board, saver]


def _outcome(phase: Phase, rows: list[dict[str, float]], resolved: dict[str, Any], log: Log) -> FitOutcome:
    monitor, decision = phase.config.training.watched_by_checkpoint, phase.config.training.decision
    best = best_row(rows, monitor, mode_of(monitor))
    seconds = sum(row["seconds"] for row in rows)
    epochs = phase.config.phase(phase.name).epochs
    why = f", stopped early of {epochs}" if len(rows) < epochs else ""
    log.line(
        f"{phase.name}: {len(rows)} epochs{why} in {duration(seconds)}; best is epoch {int(best['epoch'])} "
        f"with val {decision.label} {best[f'val_{decision}']:.1%}"
    )
    return FitOutcome(
        best_epoch=int(best["epoch"]),
        epochs=len(rows),
        seconds=seconds,
        train_seconds=sum(row["train_seconds"] for row in rows),
        resolved=resolved,
    )
