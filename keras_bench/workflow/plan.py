"""`--dry-run`: what a run would do and cost, from a few timed steps, without writing anything."""

import time
from dataclasses import dataclass
from typing import Any

from keras_bench.console import Log, duration
from keras_bench.data.tiny_imagenet import archive_path
from keras_bench.environment import peak_memory_mb
from keras_bench.runs.data import (
    Data,
    data_path,
    describe_data,
    load_data,
    open_data,
    positions_of,
    require_data,
    training_rows,
)
from keras_bench.runs.fingerprint import finished_phases, phase_inputs
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run
from keras_bench.runs.weights import find_weights, missing_weights, offer_of_other_sizes
from keras_bench.workflow.parts import planned_parts

PROBE_STEPS = 4
PROBE_SECONDS = 20.0


@dataclass(frozen=True)
class Probe:
    """What a few timed steps of a phase showed.

    Attributes:
        trainable: parameters that train.
        parameters: of the whole model.
        first_seconds: of the first step, which builds the graph.
        step_seconds: of one training step after that.
        predict_seconds: of one evaluation step.
    """

    trainable: int
    parameters: int
    first_seconds: float
    step_seconds: float
    predict_seconds: float


def print_plan(job: Job, log: Log) -> None:
    """Print the resolved plan of a run: data, splits, phases, parameters, images, time, disk, memory.

    Raises:
        UserError: whatever would stop the run itself before training.
    """
    log.line(
        f"plan of {job.config.name}: {job.backbone.name} at {job.image_size} pixels, phases {' then '.join(job.phases)}"
    )
    require_data(job)
    missing = missing_weights([job])
    for line in missing:
        log.line(f"weights: missing, a run would download it: {line}{offer_of_other_sizes([job])}")
    if job.config.dataset.source == "tiny-imagenet" and data_path(job) is None and not archive_path().is_file():
        log.line(f"data: not here; a run would download 248 MB to {archive_path()}. Pass --data to plan with images")
        return
    index, store, fingerprint = open_data(job, log)
    data = load_data(job, index, store, fingerprint, log)
    for line in describe_data(data):
        log.line(line)
    done = _print_done(job, data, missing, log)
    todo = [phase for phase in job.phases if phase not in done]
    if not todo:
        return
    from keras_bench.models.start import start_tensorflow

    start_tensorflow(log)
    log.line(f"timing {PROBE_STEPS} steps per phase …")
    run = Run(job, data, log)
    probes = {phase: probe_phase(run, phase) for phase in todo}
    total = sum(_print_phase(job, phase, probe, data, log) for phase, probe in probes.items())
    classes = len(index.class_names)
    disk = sum(_disk_bytes(probe, data, classes) for probe in probes.values())
    log.line(
        f"in all: at most {duration(total)} (early stopping may end sooner), {disk / 1e6:.0f} MB on disk, "
        f"about {peak_memory_mb() / 1024:.1f} GiB of memory"
    )
    log.line(f"after training: {'; '.join([*planned_parts(job), 'the report'])}")
    log.line(f"results would go to {job.folder.root}; the same command without --dry-run starts")


def _print_done(job: Job, data: Data, missing: list[str], log: Log) -> list[str]:
    if missing:
        log.line("already done: nothing, since the weights are missing")
        return []
    weights = find_weights(job, log)
    log.line(f"weights: {weights.origin}")
    inputs = {phase: phase_inputs(job, phase, data.fingerprint, weights.fingerprint) for phase in job.phases}
    done = finished_phases(job, inputs)
    log.line(f"already done: {', '.join(done) or 'nothing'}")
    return done


def probe_phase(run: Run, phase: str) -> Probe:
    """Time a few training and evaluation steps of a phase on the run's own images, with random weights."""
    from keras_bench.models.build import build_model
    from keras_bench.models.phases import count_parameters
    from keras_bench.training.auxiliary import with_asked_auxiliary
    from keras_bench.training.fit import compile_for_phase
    from keras_bench.training.phase import fit_plan
    from keras_bench.training.precision import training_precision, trains_in_tf32

    model = build_model(run.model_spec)
    plan = fit_plan(run, phase, steps=0)
    fitted = with_asked_auxiliary(run, plan, model, model)
    xla = compile_for_phase(fitted, plan)
    stream = iter(run.pipeline.training(positions_of(run.data, "train"), run.config.augmentation, 1000))
    with training_precision(trains_in_tf32(run.config.training, xla)):
        first = _seconds(lambda: fitted.train_on_batch(*next(stream)))
        steps = _median_seconds(lambda: fitted.train_on_batch(*next(stream)))
    images, _ = next(stream)
    fitted.predict_on_batch(images)
    predict = _median_seconds(lambda: fitted.predict_on_batch(images))
    parameters, trainable = count_parameters(model)
    return Probe(trainable, parameters, first, steps, predict)


def _seconds(work: Any) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _median_seconds(work: Any) -> float:
    taken: list[float] = []
    while len(taken) < PROBE_STEPS and sum(taken) < PROBE_SECONDS:
        taken.append(_seconds(work))
    return sorted(taken)[len(taken) // 2]


def _print_phase(job: Job, phase: str, probe: Probe, data: Data, log: Log) -> float:
    """Print one phase's line and return its estimated seconds."""
    counts = {split: len(positions_of(data, split)) for split in ("val", "test")}
    counts["train"] = len(training_rows(job, data))
    training, epochs = job.config.training, job.config.phase(phase).epochs
    portion = training.portion_size  # what one timed step took
    steps = {split: -(-count // portion) for split, count in counts.items()}
    trains = f"{phase}: trains {probe.trainable:,} of {probe.parameters:,} parameters; at most {epochs} epochs"
    if training.accumulation_steps > 1:
        trains += f", each batch of {training.batch_size} in portions of {portion}"
    if job.config.is_cached(phase):
        views = job.config.views_of(phase)
        seconds = (views * steps["train"] + 2 * steps["val"] + steps["test"]) * probe.predict_seconds
        images = views * counts["train"] + counts["val"]
        log.line(f"{trains} on features of {images:,} images, cached or not: about {duration(seconds)}, then seconds")
        return seconds
    seconds = probe.first_seconds + epochs * (
        steps["train"] * probe.step_seconds + steps["val"] * probe.predict_seconds
    )
    seconds += (steps["val"] + steps["test"]) * probe.predict_seconds
    images = epochs * (counts["train"] + counts["val"]) + counts["val"] + counts["test"]
    log.line(
        f"{trains}, {images:,} images, {portion / probe.step_seconds:.0f} training images/s: about {duration(seconds)}"
    )
    return seconds


def _disk_bytes(probe: Probe, data: Data, classes: int) -> int:
    """Estimate model and best weights, each float32, and the predictions kept for each image."""
    evaluated = len(positions_of(data, "val")) + len(positions_of(data, "test"))
    return 2 * 4 * probe.parameters + 4 * classes * evaluated
