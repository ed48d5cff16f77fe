"""The stages of a run that need TensorFlow: train a phase, evaluate it, draw the first figures."""

import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_bench.console import Log
from keras_bench.environment import describe_environment, peak_memory_mb
from keras_bench.evaluation.metrics import compute_metrics
from keras_bench.jobs.prepare import Data, class_weights, positions_of
from keras_bench.jobs.request import Job
from keras_bench.jobs.weights import InitialWeights
from keras_bench.records.predictions import Predictions
from keras_bench.records.results import FitOutcome, PhaseResult
from keras_bench.reporting.figures import confusion_matrix, learning_curves, sample_predictions
from keras_bench.rundir import replacing, write_bytes, write_json

SAMPLES = 18  # images in the grid of sample predictions


def start_tensorflow(job: Job, log: Log) -> list[str]:
    """Import TensorFlow quietly, set seeds and precision; returns the names of the accelerators it sees."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _without_native_stderr():
        import keras
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    keras.backend.clear_session()
    half = job.config.training.mixed_precision
    keras.mixed_precision.set_global_policy("float32" if half == "none" else f"mixed_{half}")
    devices = []
    for device in gpus:
        tf.config.experimental.set_memory_growth(device, True)
        devices.append(tf.config.experimental.get_device_details(device).get("device_name", device.name))
    log.line(f"device: {', '.join(devices) or 'CPU'}")
    return devices


@contextmanager
def _without_native_stderr() -> Iterator[None]:
    """Hide what TensorFlow's C++ prints while it looks for a GPU, whatever the log level; we name the device."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def train_phase(
    job: Job,
    phase: str,
    inputs: dict[str, Any],
    data: Data,
    weights: InitialWeights,
    devices: list[str],
    log: Log,
) -> None:
    """Fit one phase, evaluate its best epoch on val and test, and write its folder; result.json comes last."""
    import keras

    from keras_bench.models.build import ModelSpec, build_model
    from keras_bench.models.phases import count_parameters
    from keras_bench.models.weights import initial_model
    from keras_bench.training.fit import Phase, fit_phase, set_phase_of
    from keras_bench.training.resume import discard_state

    # Each phase starts from its own seed, so that ft is the same whether tl ran just before or last week.
    keras.utils.set_random_seed(job.request.seed)
    job.run.phase(phase).mkdir(parents=True, exist_ok=True)
    spec = ModelSpec(job.backbone, job.image_size, len(data.index.class_names), job.config.model)
    pipeline = _pipeline(job, data)
    train, val = positions_of(data, "train"), positions_of(data, "val")
    settings = Phase(
        name=phase,
        config=job.config,
        backbone=job.backbone,
        steps=pipeline.steps(len(train)),
        class_weights=class_weights(data, job.config.training.class_weights),
        inputs=inputs,
    )
    model = initial_model(spec, weights.path)
    if phase == "ft":
        model.load_weights(job.run.best_weights("tl"))
    epochs = job.config.phase(phase).epochs
    outcome = fit_phase(
        model,
        settings,
        job.run,
        lambda start: pipeline.training(train, job.config.augmentation, epochs, start),
        pipeline.evaluation(val),
        log,
    )
    del model
    keras.mixed_precision.set_global_policy("float32")
    best = build_model(spec)
    best.load_weights(job.run.best_weights(phase))
    set_phase_of(best, settings)
    _evaluate(job, phase, best, data, pipeline, log)
    with replacing(job.run.model(phase)) as path:
        best.save(path)
    _write_result(job, phase, outcome, count_parameters(best), inputs, len(train), devices)
    discard_state(job.run.state(phase))


def _pipeline(job: Job, data: Data) -> Any:
    from keras_bench.data.pipeline import Pipeline

    return Pipeline(
        data.store,
        job.image_size,
        job.config.training.batch_size,
        len(data.index.class_names),
        job.request.seed,
    )


def _evaluate(job: Job, phase: str, model: Any, data: Data, pipeline: Any, log: Log) -> None:
    """Predict val and test once each and keep the probabilities image by image."""
    from keras_bench.evaluation.predict import predict_split

    for split in ("val", "test"):
        positions = positions_of(data, split)
        title = f"{phase}: evaluating {split}"
        predictions = predict_split(model, pipeline.evaluation(positions), data.index, positions, title, log)
        write_bytes(job.run.predictions(phase, split), predictions.to_npz())


def _write_result(
    job: Job,
    phase: str,
    outcome: FitOutcome,
    parameters: tuple[int, int],
    inputs: dict[str, Any],
    train_images: int,
    devices: list[str],
) -> None:
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
        environment=describe_environment(devices),
    )
    write_json(job.run.result(phase), result.to_json())


def finish_run(job: Job, data: Data, log: Log) -> None:
    """Choose the final phase on val, draw its figures, and write run.json, which marks the run finished."""
    from keras_bench.training.callbacks import read_history

    results = {phase: result for phase in ("scratch", "tl", "ft") if (result := job.run.read_result(phase))}
    results = {phase: result for phase, result in results.items() if phase in job.phases}
    # max keeps the first of equals: the phase that cost less.
    final = max(results, key=lambda phase: results[phase].metrics["val"].top1)
    test = Predictions.from_npz(job.run.predictions(final, "test"))
    where = f"{job.backbone.name} {final}, test of {job.config.name}"
    titles = data.index.class_titles
    chosen = sorted(random.Random(job.request.seed).sample(range(len(test.ids)), min(SAMPLES, len(test.ids))))
    test_positions = positions_of(data, "test")
    images = [data.store.image(int(test_positions[i])) for i in chosen]
    figures = {
        "learning_curves": learning_curves(
            {phase: read_history(job.run.history(phase)) for phase in results},
            f"{job.backbone.name}, {job.config.name}",
        ),
        "confusion_matrix": confusion_matrix(test, titles, where),
        "sample_predictions": sample_predictions(images, _rows(test, chosen), titles, where),
    }
    for name, figure in figures.items():
        with replacing(job.run.figures / f"{name}.png") as path:
            figure.savefig(path, dpi=130)
    write_json(
        job.run.run,
        {
            "experiment": job.config.name,
            "model": job.backbone.name,
            "seed": job.request.seed,
            "phases": list(results),
            "final_phase": final,
            "chosen_by": "val top1",
            "figures": [f"figures/{name}.png" for name in figures],
        },
    )
    chosen_of = " and ".join(results)
    log.line(f"final phase: {final}, chosen on val among {chosen_of}" if len(results) > 1 else f"final phase: {final}")


def _rows(predictions: Predictions, rows: list[int]) -> Predictions:
    which = np.array(rows)
    return Predictions(
        predictions.ids[which],
        predictions.labels[which],
        predictions.probabilities[which],
        predictions.class_names,
    )
