"""Trains one phase: build the model, fit it, restore its best epoch, evaluate it, and write the results."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import keras

from keras_bench.disk import require_space
from keras_bench.environment import describe_environment, peak_memory_mb
from keras_bench.errors import memory_named
from keras_bench.evaluation.classes import class_scores
from keras_bench.evaluation.metrics import compute_metrics
from keras_bench.evaluation.predict import predict_split
from keras_bench.evaluation.predictions import Predictions
from keras_bench.files import write_bytes, write_record
from keras_bench.models.build import build_model
from keras_bench.models.forward import keras_forward
from keras_bench.models.phases import count_parameters
from keras_bench.models.saving import save_model, save_weights
from keras_bench.models.weights import initial_model
from keras_bench.pages.class_table import class_table
from keras_bench.phases import Phase
from keras_bench.runs.damage import FILES, digests_of, phase_files
from keras_bench.runs.data import class_counts, positions_of, training_rows
from keras_bench.runs.results import FitOutcome, PhaseResult
from keras_bench.training.auxiliary import with_requested_auxiliary
from keras_bench.training.cached_features import MAX_STEPS_PER_EXECUTION, features_for
from keras_bench.training.fit import Examples, FitPlan, fit_phase, set_trainable
from keras_bench.training.precision import describe_tf32

if TYPE_CHECKING:
    from pathlib import Path

    from keras_bench.runs.run import Run


def train_phase(run: Run, phase: Phase) -> None:
    """Train one phase, evaluate its best epoch on val and test, and write its folder.

    result.json is written last: its presence means that the phase is finished.

    Args:
        run: the run, with its initial weights.
        phase: the phase to train.

    Raises:
        RunError: training failed, or there is too little disk space.
    """
    run.folder.state(phase).mkdir(parents=True, exist_ok=True)  # stays until result.json is written
    plan = fit_plan(run, phase)
    model = starting_model(run, run.folder.best_weights("tl") if phase == "ft" else None)

    require_space_for_phase(run, plan, model)
    cached = run.config.is_cached(phase)
    with memory_named(f"the features of phase {phase}"):
        examples = features_for(run, plan, model) if cached else images_for(run, plan, model)
    model_to_fit = with_requested_auxiliary(run, plan, model, examples.model)  # shares its layers with the whole model
    outcome = fit_phase(model_to_fit, with_checkpoint(run, plan, model_to_fit is model), run.folder, examples, run.log)
    if model_to_fit is not model:
        save_whole_model(run, phase, model, model_to_fit)

    best = best_model(run, plan)
    with memory_named(f"the evaluation of phase {phase}"), run.log.timed("evaluation"):
        evaluate(run, phase, best)
    save_model(best, run.folder.model(phase))
    write_result(run, phase, outcome, best)
    run.folder.remove_state(phase)


def phase_bytes(run: Run, parameters: int, trainable: int) -> int:
    """Return about how many bytes the files of a phase take while it trains.

    They are model.keras, the best weights and two saved states, because the earlier one is removed last, and the
    predictions. All but model.keras hold the optimizer's variables too: at most two for each weight that trains, as
    Adam keeps them.

    Args:
        run: the run, with its data.
        parameters: number of parameters of the model.
        trainable: how many of them the phase trains.
    """
    evaluated = len(positions_of(run.data, "val")) + len(positions_of(run.data, "test"))
    return 4 * (parameters + 3 * (parameters + 2 * trainable) + len(run.data.index.class_names) * evaluated)


def require_space_for_phase(run: Run, plan: FitPlan, model: keras.Model) -> None:
    """Refuse to train a phase whose files would not fit, before it begins.

    Raises:
        DiskFullError: there is too little disk space.
    """
    set_trainable(model, plan)
    folder, needed = run.folder.phase(plan.phase), phase_bytes(run, *count_parameters(model))
    existing = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    require_space(folder, max(0, needed - existing))


def fit_plan(run: Run, phase: Phase, steps: int | None = None) -> FitPlan:
    """Return the plan for fitting a phase of this run.

    Args:
        run: the run.
        phase: the phase to train.
        steps: batches per epoch; by default as many as the images of an epoch fill.
    """
    full_epoch = run.pipeline.steps(len(training_rows(run.job, run.data)))
    is_whole, is_cached = steps is None, run.config.is_cached(phase)
    return FitPlan(
        phase=phase,
        config=run.config,
        backbone=run.job.backbone,
        steps=full_epoch if steps is None else steps,
        class_counts=class_counts(run.data),
        inputs=run.inputs(phase) if steps is None else {},
        steps_per_execution=min(MAX_STEPS_PER_EXECUTION, full_epoch) if is_whole and is_cached else 1,
    )


def starting_model(run: Run, previous_weights: Path | None) -> keras.Model:
    """Return the model that a phase starts from, in the precision it trains in.

    Args:
        run: the run.
        previous_weights: best weights of the previous phase, which replace the initial ones; None for the first phase.
    """
    # Each phase resets the seed, so that ft is the same whether tl ran just before or last week.
    keras.utils.set_random_seed(run.job.request.seed)
    precision = run.config.training.mixed_precision
    keras.mixed_precision.set_global_policy("float32" if precision == "none" else f"mixed_{precision}")
    model = initial_model(run.model_spec, run.weights.path)
    if previous_weights is not None:
        model.load_weights(previous_weights)
    return model


def images_for(run: Run, plan: FitPlan, model: keras.Model) -> Examples:
    """Return streams of images for the whole model, augmented differently in every epoch."""
    positions = positions_of(run.data, "train")[training_rows(run.job, run.data)]
    epochs = plan.settings.epochs
    return Examples(
        model=model,
        training=lambda start: run.pipeline.training(positions, run.config.augmentation, epochs, start),
        validation=run.pipeline.evaluation(positions_of(run.data, "val")),
    )


def with_checkpoint(run: Run, plan: FitPlan, is_whole: bool) -> FitPlan:
    """Return the plan with the path for the best weights, in the state folder if only part of the model is trained."""
    checkpoint = run.folder.best_weights(plan.phase) if is_whole else run.folder.tail_weights(plan.phase)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    return replace(plan, checkpoint=checkpoint)


def save_whole_model(run: Run, phase: Phase, model: keras.Model, fitted: keras.Model) -> None:
    """Save the whole model's weights at the best epoch, after training a model that only shares layers with it."""
    fitted.load_weights(run.folder.tail_weights(phase))
    save_weights(model, run.folder.best_weights(phase))


def best_model(run: Run, plan: FitPlan) -> keras.Model:
    """Return a new float32 model with the phase's best weights, whatever precision it was trained in."""
    keras.mixed_precision.set_global_policy("float32")
    model = build_model(run.model_spec)
    model.load_weights(run.folder.best_weights(plan.phase))
    set_trainable(model, plan)
    return model


def evaluate(run: Run, phase: Phase, model: keras.Model) -> None:
    """Predict val and test once each with the whole model, from pixels, and save all probabilities."""
    predictions = predict_phase(run, phase, model)
    for split, split_predictions in predictions.items():
        write_bytes(run.folder.predictions(phase, split), split_predictions.to_npz())
    scores = class_scores(predictions["test"])
    run.log.keep(class_table(scores, list(run.data.index.class_titles), f"{phase}: every class on test"))


def predict_phase(run: Run, phase: Phase, model: keras.Model) -> dict[str, Predictions]:
    """Return the whole model's predictions on "val" and "test", from pixels."""
    forward, predictions = keras_forward(model), {}
    for split in ("val", "test"):
        positions = positions_of(run.data, split)
        stream, title = run.pipeline.evaluation(positions), f"{phase}: evaluating {split}"
        predictions[split] = predict_split(forward, stream, run.data.index, positions, title, run.log)
    return predictions


def write_result(run: Run, phase: Phase, outcome: FitOutcome, best: keras.Model) -> None:
    """Write result.json, which marks the phase as finished."""
    predictions = {split: Predictions.from_npz(run.folder.predictions(phase, split)) for split in ("val", "test")}
    parameters, trainable = count_parameters(best)
    environment = describe_environment(list(run.devices))
    result = PhaseResult(
        phase=phase,
        best_epoch=outcome.best_epoch,
        epochs=outcome.epochs,
        seconds=outcome.seconds,
        seconds_per_epoch=outcome.seconds / outcome.epochs,
        images_per_second=len(training_rows(run.job, run.data)) * outcome.epochs / outcome.train_seconds,
        parameters=parameters,
        trainable_parameters=trainable,
        peak_memory_mb=peak_memory_mb(),
        metrics={split: compute_metrics(split_predictions) for split, split_predictions in predictions.items()},
        inputs=run.inputs(phase),
        resolved=outcome.resolved,
        environment={**environment, "tf32": describe_tf32(run.config.training)},
    )
    files = digests_of(run.folder.phase(phase), phase_files(run.folder, phase))
    write_record(run.folder.result(phase), {**result.to_json(), FILES: files})
