"""The stages of a run that need TensorFlow: start it, train a phase, evaluate its best epoch."""

from pathlib import Path
from typing import Any

from keras_bench.console import Log
from keras_bench.environment import describe_environment, peak_memory_mb
from keras_bench.evaluation.classes import class_scores
from keras_bench.evaluation.metrics import compute_metrics
from keras_bench.evaluation.predictions import Predictions
from keras_bench.files import replacing, write_bytes, write_json
from keras_bench.pages.class_table import class_table
from keras_bench.runs.data import Data, class_counts, positions_of, training_rows
from keras_bench.runs.job import Job
from keras_bench.runs.results import FitOutcome, PhaseResult
from keras_bench.runs.run import build_pipeline, model_spec
from keras_bench.runs.weights import InitialWeights
from keras_bench.training.auxiliary import fit_part
from keras_bench.training.cached_features import MOST_STEPS, fit_on_features, is_cached


def train_phase(
    job: Job, phase: str, inputs: dict[str, Any], data: Data, weights: InitialWeights, devices: list[str], log: Log
) -> None:
    """Fit one phase, evaluate its best epoch on val and test, and write its folder; result.json comes last."""
    from keras_bench.models.phases import count_parameters
    from keras_bench.training.resume import discard_state

    job.run.phase(phase).mkdir(parents=True, exist_ok=True)
    pipeline = build_pipeline(job, data)
    train_images = len(training_rows(job, data))
    steps = pipeline.steps(train_images)
    at_once = min(MOST_STEPS, steps) if is_cached(job, phase) else 1
    settings = phase_settings(job, phase, data, steps, inputs, at_once)
    outcome = _fit(job, settings, data, weights, pipeline, log)
    best = _best_model(job, settings, data)
    with log.timed("evaluation"):
        _evaluate(job, phase, best, data, pipeline, log)
    with replacing(job.run.model(phase)) as path:
        best.save(path)
    _write_result(job, phase, outcome, count_parameters(best), inputs, train_images, devices)
    discard_state(job.run.state(phase))


def phase_settings(
    job: Job, phase: str, data: Data, steps: int, inputs: dict[str, Any], steps_per_execution: int = 1
) -> Any:
    """Return what fitting a phase of this run takes, a training.fit.Phase.

    Args:
        job: the run.
        phase: "scratch", "tl" or "ft".
        data: its images.
        steps: batches an epoch.
        inputs: everything the result depends on.
        steps_per_execution: steps between two returns to Python.
    """
    from keras_bench.training.fit import Phase

    return Phase(
        name=phase,
        config=job.config,
        backbone=job.backbone,
        steps=steps,
        class_counts=class_counts(data),
        inputs=inputs,
        steps_per_execution=steps_per_execution,
    )


def _fit(job: Job, phase: Any, data: Data, weights: InitialWeights, pipeline: Any, log: Log) -> FitOutcome:
    """Train the phase from the initial weights, or, in ft, from the best epoch of tl."""
    model = starting_model(job, data, weights, job.run.best_weights("tl") if phase.name == "ft" else None)
    if is_cached(job, phase.name):
        return fit_on_features(job, phase, data, weights, model, pipeline, log)
    train = positions_of(data, "train")[training_rows(job, data)]
    epochs = job.config.phase(phase.name).epochs
    return fit_part(
        job,
        phase,
        model,
        model,
        lambda start: pipeline.training(train, job.config.augmentation, epochs, start),
        pipeline.evaluation(positions_of(data, "val")),
        log,
    )


def starting_model(job: Job, data: Data, weights: InitialWeights, continued: Path | None) -> Any:
    """Return the model that a phase starts from, in the precision it trains in.

    Args:
        job: the run.
        data: its images.
        weights: of the backbone at the start of the run.
        continued: the best weights of the phase before, which replace them; None for the first phase.
    """
    import keras

    from keras_bench.models.weights import initial_model

    # Each phase starts from its own seed, so that ft is the same whether tl ran just before or last week.
    keras.utils.set_random_seed(job.request.seed)
    _set_precision(job.config.training.mixed_precision)
    model = initial_model(model_spec(job, data), weights.path)
    if continued is not None:
        model.load_weights(continued)
    return model


def _best_model(job: Job, phase: Any, data: Data) -> Any:
    """Return a fresh float32 model with the phase's best weights, whatever precision it was trained in."""
    from keras_bench.models.build import build_model
    from keras_bench.training.fit import set_phase_of

    _set_precision("none")
    model = build_model(model_spec(job, data))
    model.load_weights(job.run.best_weights(phase.name))
    set_phase_of(model, phase)
    return model


def _set_precision(half: str) -> None:
    import keras

    keras.mixed_precision.set_global_policy("float32" if half == "none" else f"mixed_{half}")


def _evaluate(job: Job, phase: str, model: Any, data: Data, pipeline: Any, log: Log) -> None:
    """Predict val and test once each with the whole model, from pixels, and keep all probabilities."""
    from keras_bench.evaluation.predict import predict_split
    from keras_bench.models.forward import keras_forward

    forward = keras_forward(model)
    for split in ("val", "test"):
        positions = positions_of(data, split)
        stream = pipeline.evaluation(positions)
        predictions = predict_split(forward, stream, data.index, positions, f"{phase}: evaluating {split}", log)
        write_bytes(job.run.predictions(phase, split), predictions.to_npz())
    heading = f"{phase}: every class on test"
    log.keep(class_table(class_scores(predictions), list(data.index.class_titles), heading))


def _write_result(
    job: Job,
    phase: str,
    outcome: FitOutcome,
    parameters: tuple[int, int],
    inputs: dict[str, Any],
    train_images: int,
    devices: list[str],
) -> None:
    from keras_bench.training.precision import describe_tf32

    metrics = {
        split: compute_metrics(Predictions.from_npz(job.run.predictions(phase, split))) for split in ("val", "test")
    }
    result = PhaseResult(
        phase=phase,
        best_epoch=outcome.best_epoch,
        epochs=outcome.epochs,
        seconds=outcome.seconds,
        seconds_per_epoch=outcome.seconds / outcome.epochs,
        images_per_second=train_images * outcome.epochs / outcome.train_seconds,
        parameters=parameters[0],
        trainable_parameters=parameters[1],
        peak_memory_mb=peak_memory_mb(),
        metrics=metrics,
        inputs=inputs,
        resolved=outcome.resolved,
        environment={**describe_environment(devices), "tf32": describe_tf32(job.config.training)},
    )
    write_json(job.run.result(phase), result.to_json())
