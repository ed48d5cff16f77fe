"""Fits one phase of one model: the only place that compiles and calls fit."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from keras_bench.backbones.table import Backbone
from keras_bench.config import Config, FineTuneConfig, PhaseConfig
from keras_bench.console import Log, counted, duration
from keras_bench.models.phases import count_parameters, set_phase
from keras_bench.phases import Phase
from keras_bench.runs.folders import RunDir
from keras_bench.runs.history import best_row, drop_later_epochs, read_history
from keras_bench.runs.results import FitOutcome
from keras_bench.training.callbacks import AtomicCheckpoint, HistoryWriter, StopOnNonFinite
from keras_bench.training.losses import build_loss, class_weights
from keras_bench.training.monitors import build_metrics, mode_of
from keras_bench.training.optimizers import build_optimizer, build_schedule
from keras_bench.training.precision import FullPrecisionValidation, training_precision, trains_in_tf32, uses_xla
from keras_bench.training.resume import (
    SavedState,
    StateSaver,
    changes_since,
    damage_of,
    find_states,
    load_state,
    remove_saved_epochs,
    restore_best,
    seed_generators,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    import tensorflow as tf


@dataclass(frozen=True)
class FitPlan:
    """How one phase is fitted.

    Attributes:
        phase: which.
        config: the run's configuration.
        backbone: the table's entry of the model's backbone.
        steps: batches per epoch.
        class_counts: number of training images of each class.
        inputs: everything the result depends on, saved with the state of an interrupted phase.
        checkpoint: file of the best epoch's weights, ending in .weights.h5; None for the run folder's usual one.
        steps_per_execution: training steps between two returns to Python.
    """

    phase: Phase
    config: Config
    backbone: Backbone
    steps: int
    class_counts: tuple[int, ...]
    inputs: dict[str, object]
    checkpoint: Path | None = None
    steps_per_execution: int = 1

    @property
    def settings(self) -> PhaseConfig:
        """The phase's section of the configuration."""
        return self.config.phase(self.phase)


@dataclass(frozen=True)
class Examples:
    """The examples a phase trains on, and the model that takes them.

    Attributes:
        model: the whole model for images; for features, only its tail, the layers after the frozen part.
        training: function from the number of finished epochs to a stream. A stream either (1) holds all remaining
            epochs, or (2) holds one epoch and gives the next one each time it is read. `steps_per_execution` above 1
            requires (2), because Keras 3.15 would fill up an epoch's last execution with the next epoch's steps.
        validation: stream of the validation examples.
        seconds: time it took to prepare the examples, counted as training time.
    """

    model: keras.Model
    training: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    seconds: float = 0.0


def set_trainable(model: keras.Model, plan: FitPlan) -> None:
    """Set which layers train in this phase, as its configuration says."""
    settings = plan.settings
    unfreeze = settings.unfreeze if isinstance(settings, FineTuneConfig) else "all"
    norms = plan.config.model
    set_phase(model, plan.backbone, plan.phase, unfreeze, norms.batch_norm, norms.batch_norm_momentum)


def compile_for_phase(model: keras.Model, plan: FitPlan) -> bool:
    """Set what trains and compile with a new optimizer and new metrics; return whether XLA compiles the step."""
    settings, training = plan.settings, plan.config.training
    set_trainable(model, plan)
    xla = uses_xla(training)
    model.compile(
        optimizer=build_optimizer(settings, training.accumulation_steps),
        loss=build_loss(training, plan.class_counts),
        metrics=build_metrics(model.outputs[0].shape[-1]),
        jit_compile=xla,
        steps_per_execution=plan.steps_per_execution,
    )
    # Otherwise `fit` creates the optimizer's variables while it traces the step, and therefore traces it twice:
    # EfficientNetB0's first epoch of two steps then takes 43 s instead of 23 s on two cores.
    model.optimizer.build(model.trainable_variables)
    return xla


def fit_phase(model: keras.Model, plan: FitPlan, run: RunDir, examples: Examples, log: Log) -> FitOutcome:
    """Train a model for one phase; an interrupted phase resumes from its saved state.

    Afterwards the best epoch's weights are on disk; the model itself keeps those of the last epoch.

    Args:
        model: the model to train, with the weights the phase starts from.
        plan: how to fit it.
        run: folder for history, best weights and state.
        examples: training and validation examples.
        log: the screen, which gets a line per epoch.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    state = _state_to_continue(plan, run, log)
    xla = compile_for_phase(model, plan)
    if state:
        _resume(model, state, plan, run, log)
    else:
        run.history(plan.phase).unlink(missing_ok=True)
        total, trainable = count_parameters(model)
        log.line(f"{plan.phase}: training {trainable:,} of {total:,} parameters, XLA {'on' if xla else 'off'}")
    finished_epochs = state.epochs if state else 0
    callbacks, tf32 = _build_callbacks(plan, run, log, state), _uses_tf32(plan, xla, log)
    if finished_epochs < plan.settings.epochs and not (state and state.stopped):
        stream = examples.training(finished_epochs)
        with training_precision(tf32):
            model.fit(
                stream,
                validation_data=examples.validation,
                initial_epoch=finished_epochs,
                epochs=plan.settings.epochs,
                steps_per_epoch=None if stream.cardinality() == plan.steps else plan.steps,
                class_weight=class_weights(plan.config.training, plan.class_counts),
                callbacks=callbacks,
                shuffle=False,  # the stream is shuffled already
                verbose=0,
            )
    history = read_history(run.history(plan.phase))
    _spend_epochs(history.iloc[finished_epochs:], log)
    resolved: dict[str, object] = {"xla": xla, "tf32": tf32, "mixed_precision": plan.config.training.mixed_precision}
    first_steps = (each.first_step_seconds for each in callbacks if isinstance(each, HistoryWriter))
    resolved["first_step_seconds"] = next(first_steps)
    return _report_outcome(plan, history, resolved, examples.seconds, log)


def _uses_tf32(plan: FitPlan, xla: bool, log: Log) -> bool:
    """Return whether training steps use TF32, and say so where the configuration wants it and cannot have it."""
    tf32 = trains_in_tf32(plan.config.training, xla)
    if plan.config.training.tf32 and not tf32:
        log.line(f"{plan.phase}: without XLA it trains in full float32; training.tf32 needs training.xla")
    return tf32


def _spend_epochs(trained: pd.DataFrame, log: Log) -> None:
    """Count the seconds of the epochs that this process trained towards the breakdown of the run's time."""
    if len(trained):
        log.spend("forward and backward", trained["train_seconds"].sum())
        log.spend("validation", (trained["seconds"] - trained["train_seconds"]).sum())


def _resume(model: keras.Model, state: SavedState, plan: FitPlan, run: RunDir, log: Log) -> None:
    """Take model and history back to where the state was saved; later epochs will run again."""
    load_state(state, model)
    drop_later_epochs(run.history(plan.phase), state.epochs)
    log.line(f"{plan.phase}: continuing after epoch {state.epochs}, where it was interrupted")
    if state.seeds is None and seed_generators(model):
        log.warn(
            f"{plan.phase}: the state was saved by an earlier version, without that of dropout and other random "
            "layers, so the rest is not exactly what it would have been without the interruption"
        )
    if changes := changes_since(state):
        log.warn(
            f"{plan.phase}: it began with {'; '.join(changes)}: the rest is trained alike, but is not to the bit what "
            "it would have been without the interruption"
        )


def _state_to_continue(plan: FitPlan, run: RunDir, log: Log) -> SavedState | None:
    """Return the saved state, after restoring its best weights, or None if the phase starts from the beginning."""
    folder, checkpoint = run.state(plan.phase), plan.checkpoint or run.best_weights(plan.phase)
    history, monitor = run.history(plan.phase), plan.config.training.watched_by_checkpoint
    reasons = []
    for state in find_states(folder):
        reason = damage_of(state, history)
        if reason is None and restore_best(state, checkpoint, history, monitor):
            return state
        lost = f"{checkpoint} is missing, damaged or of a later epoch, so the best weights up to that epoch are lost"
        reasons.append(f"it was interrupted after epoch {state.epochs}, but {reason or lost}")
    if saved := run.states(plan.phase):
        log.warn(f"{plan.phase}: starts over: {next(iter(reasons), f'{saved[0]} is damaged')}")
        remove_saved_epochs(folder)
    return None


def _build_callbacks(plan: FitPlan, run: RunDir, log: Log, state: SavedState | None) -> list[keras.callbacks.Callback]:
    """Return new callbacks in the order they must run: first those that decide, then records, last the saved state."""
    training = plan.config.training
    settings = plan.settings
    checkpoint = AtomicCheckpoint(plan.checkpoint or run.best_weights(plan.phase), training.watched_by_checkpoint)
    stopping = keras.callbacks.EarlyStopping(
        training.watched_by_stopping,
        patience=training.early_stopping_patience,
        mode=mode_of(training.watched_by_stopping),
    )
    history = HistoryWriter(run.history(plan.phase), plan.phase, settings.epochs, plan.steps, log, checkpoint)
    schedule = build_schedule(settings, training)
    deciding = [checkpoint, stopping, *([schedule] if schedule else [])]
    seconds = plan.config.runtime.save_state_seconds
    files = run.state(plan.phase), checkpoint.final, run.history(plan.phase)
    saver = StateSaver(*files, deciding, plan.inputs, state, seconds)
    board = []
    if plan.config.runtime.tensorboard and importlib.util.find_spec("tensorboard"):
        board = [keras.callbacks.TensorBoard(str(run.tensorboard(plan.phase)), write_graph=False)]
    watching = [FullPrecisionValidation(), StopOnNonFinite(plan.phase, settings.learning_rate)]
    return [*watching, *deciding, history, *board, saver]


def _report_outcome(
    plan: FitPlan, history: pd.DataFrame, resolved: dict[str, object], preparation_seconds: float, log: Log
) -> FitOutcome:
    """Print and return the outcome of a phase whose history is complete."""
    if preparation_seconds:
        resolved["feature_seconds"] = round(preparation_seconds, 1)
    monitor, decision = plan.config.training.watched_by_checkpoint, plan.config.training.decision
    best = best_row(history, monitor, mode_of(monitor))
    seconds = float(history["seconds"].sum())
    epochs = plan.settings.epochs
    planned = f" of {epochs}, stopped early," if len(history) < epochs else ""
    log.line(
        f"{plan.phase}: {counted(len(history), 'epochs')}{planned} in {duration(seconds)}; the best is epoch "
        f"{int(best['epoch'])} with val {decision.label} {best[f'val_{decision}']:.1%}"
    )
    return FitOutcome(
        best_epoch=int(best["epoch"]),
        epochs=len(history),
        seconds=preparation_seconds + seconds,
        train_seconds=preparation_seconds + float(history["train_seconds"].sum()),
        resolved=resolved,
    )
