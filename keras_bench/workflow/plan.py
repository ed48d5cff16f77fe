"""`--dry-run`: what a run would do and cost, estimated from a few timed steps.

It writes nothing to runs/ or exports/; images that it decodes or extracts stay in the cache.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from keras_bench.console import Log, counted, duration
from keras_bench.data.tiny_imagenet import archive_path
from keras_bench.disk import size_text
from keras_bench.environment import peak_memory_mb
from keras_bench.phases import Phase
from keras_bench.runs.data import (
    Data,
    data_path,
    describe_data,
    load_data,
    open_data,
    positions_of,
    require_data,
    require_folders,
    training_rows,
)
from keras_bench.runs.fingerprint import finished_phases, phase_inputs
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run
from keras_bench.runs.weights import InitialWeights, find_whole_weights, missing_weights, offer_of_other_sizes
from keras_bench.workflow.parts import planned_parts

PROBE_STEPS = 4
PROBE_SECONDS = 20.0


@dataclass(frozen=True)
class Probe:
    """A phase measured over a few timed steps.

    Attributes:
        trainable: number of trainable parameters.
        parameters: number of parameters of the whole model.
        first_seconds: duration of the first training step, which builds the graph.
        step_seconds: duration of a later training step.
        predict_seconds: duration of an evaluation step.
    """

    trainable: int
    parameters: int
    first_seconds: float
    step_seconds: float
    predict_seconds: float


def print_plan(job: Job, log: Log) -> None:
    """Print the resolved plan of a run: data, splits, phases, parameters, images, time, disk, memory.

    Raises:
        UserError: the input is wrong, and would stop the run itself before training.
    """
    log.line(
        f"plan of {job.config.name}: {job.backbone.name} at {job.image_size} pixels, phases {' then '.join(job.phases)}"
    )
    require_data(job)
    require_folders(job)
    missing = missing_weights([job])
    weights = None if missing else find_whole_weights(job, log)
    for name in missing:
        log.line(f"weights: missing; a run would download it: {name}{offer_of_other_sizes([job])}")
    if job.config.dataset.source == "tiny-imagenet" and data_path(job) is None and not archive_path().is_file():
        log.line(f"data: missing; a run would download 248 MB to {archive_path()}. Pass --data to plan with images")
        return
    index, store, fingerprint = open_data(job, log)
    data = load_data(job, index, store, fingerprint, log)
    for line in describe_data(data):
        log.line(line)
    finished = _print_finished(job, data, weights, log)
    remaining = [phase for phase in job.phases if phase not in finished]
    if not remaining:
        return
    from keras_bench.models.start import start_tensorflow

    start_tensorflow(log)
    log.line(f"timing {PROBE_STEPS} steps per phase …")
    run = Run(job, data, log)
    probes = {phase: probe_phase(run, phase) for phase in remaining}
    total = sum(_print_phase(job, phase, probe, data, log) for phase, probe in probes.items())
    disk = sum(_disk_bytes(run, probe) for probe in probes.values())
    log.line(
        f"in total: at most {duration(total)} (less with early stopping), {size_text(disk)} on disk, "
        f"about {peak_memory_mb() / 1024:.1f} GiB of memory"
    )
    log.line(f"after training: {'; '.join([*planned_parts(job), 'the report'])}")
    log.line(f"results would go to {job.folder.root}; run the same command without --dry-run to start")


def _print_finished(job: Job, data: Data, weights: InitialWeights | None, log: Log) -> list[Phase]:
    """Print the weights and the phases that are finished already, and return those phases."""
    if weights is None:
        log.line("already done: nothing, since the weights are missing")
        return []
    log.line(f"weights: {weights.origin}")
    inputs = {phase: phase_inputs(job, phase, data.fingerprint, weights.fingerprint) for phase in job.phases}
    finished = finished_phases(job, inputs)
    log.line(f"already done: {', '.join(finished) or 'nothing'}")
    return finished


def probe_phase(run: Run, phase: Phase) -> Probe:
    """Time a few training and evaluation steps of a phase on the run's own images, from random weights."""
    from keras_bench.models.build import build_model
    from keras_bench.models.phases import count_parameters
    from keras_bench.training.auxiliary import with_requested_auxiliary
    from keras_bench.training.fit import compile_for_phase
    from keras_bench.training.phase import fit_plan
    from keras_bench.training.precision import training_precision, trains_in_tf32

    model = build_model(run.model_spec)
    plan = fit_plan(run, phase, steps=0)
    trained = with_requested_auxiliary(run, plan, model, model)
    xla = compile_for_phase(trained, plan)
    stream = iter(run.pipeline.training(positions_of(run.data, "train"), run.config.augmentation, 1000))
    with training_precision(trains_in_tf32(run.config.training, xla)):
        first = _seconds(lambda: trained.train_on_batch(*next(stream)))
        step = _median_seconds(lambda: trained.train_on_batch(*next(stream)))
    images, _ = next(stream)
    trained.predict_on_batch(images)
    predict = _median_seconds(lambda: trained.predict_on_batch(images))
    parameters, trainable = count_parameters(model)
    return Probe(trainable, parameters, first, step, predict)


def _seconds(step: Callable[[], object]) -> float:
    """Return the duration of one step."""
    started = time.monotonic()
    step()
    return time.monotonic() - started


def _median_seconds(step: Callable[[], object]) -> float:
    """Return the median duration of a few steps."""
    durations: list[float] = []
    while len(durations) < PROBE_STEPS and sum(durations) < PROBE_SECONDS:
        durations.append(_seconds(step))
    return sorted(durations)[len(durations) // 2]


def _print_phase(job: Job, phase: Phase, probe: Probe, data: Data, log: Log) -> float:
    """Print one phase's line and return its estimated seconds."""
    counts = {split: len(positions_of(data, split)) for split in ("val", "test")}
    counts["train"] = len(training_rows(job, data))
    training, epochs = job.config.training, job.config.phase(phase).epochs
    portion = training.portion_size  # images per timed step
    steps = {split: -(-count // portion) for split, count in counts.items()}
    summary = (
        f"{phase}: trains {probe.trainable:,} of {probe.parameters:,} parameters; at most {counted(epochs, 'epochs')}"
    )
    if training.accumulation_steps > 1:
        summary += f", each batch of {training.batch_size} in portions of {portion}"
    if job.config.is_cached(phase):
        views = job.config.views_of(phase)
        seconds = (views * steps["train"] + 2 * steps["val"] + steps["test"]) * probe.predict_seconds
        images = views * counts["train"] + counts["val"]
        log.line(f"{summary} on features of {images:,} images: about {duration(seconds)} to compute, then seconds")
        return seconds
    seconds = probe.first_seconds + epochs * (
        steps["train"] * probe.step_seconds + steps["val"] * probe.predict_seconds
    )
    seconds += (steps["val"] + steps["test"]) * probe.predict_seconds
    images = epochs * (counts["train"] + counts["val"]) + counts["val"] + counts["test"]
    log.line(
        f"{summary}, {images:,} images, {portion / probe.step_seconds:.0f} training images/s: about {duration(seconds)}"
    )
    return seconds


def _disk_bytes(run: Run, probe: Probe) -> int:
    """Return what a run requires to be free before it trains a phase."""
    from keras_bench.training.phase import phase_bytes

    return phase_bytes(run, probe.parameters, probe.trainable)
