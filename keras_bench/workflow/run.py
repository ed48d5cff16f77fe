"""The story of a run: one model through its phases, from data to a finished run folder."""

import sys
import time

from keras_bench.config import to_yaml
from keras_bench.console import Log, duration
from keras_bench.cost.latency import LATENCY
from keras_bench.environment import describe_environment
from keras_bench.errors import ExportError
from keras_bench.files import write_json, write_text
from keras_bench.runs.data import (
    audit_data,
    describe_data,
    load_data,
    open_data,
    require_data,
    write_data_files,
)
from keras_bench.runs.fingerprint import finished_phases, phase_inputs
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run
from keras_bench.runs.weights import InitialWeights, find_weights
from keras_bench.workflow.compare import compare_runs
from keras_bench.workflow.parts import make_parts, missing_parts, time_models

INPUT, COMPARISON = "reading and checking images", "tables and figures"


def run_job(job: Job, log: Log, in_suite: bool = False) -> None:
    """Train what is not finished yet, and end with the comparison of the experiment's runs.

    Args:
        job: the run.
        log: the screen.
        in_suite: leave the table and the next step to the suite that started this process.

    Raises:
        UserError: bad input, found before training.
        RunError: training failed.
    """
    started = time.monotonic()
    require_data(job)
    weights = find_weights(job, log)
    failure = None
    with job.folder.lock():
        log.path = job.folder.log
        try:
            _work(job, weights, log)
        except ExportError as error:  # the run itself is finished: its results come first
            failure = error
        if not in_suite:
            with log.timed(LATENCY):
                time_models([job], log)
        log.line(f"results: {job.folder.root}")
        if not in_suite:
            with log.timed(COMPARISON):
                compare_runs(job.experiment_folder, log)
        _tell_time(job, time.monotonic() - started, log)
    if not in_suite:
        log.line(f"next:    {_next_command(job)}")
    if failure:
        raise failure


def _work(job: Job, weights: InitialWeights, log: Log) -> None:
    """Do what is missing, from data to bundles."""
    with log.timed(INPUT):
        index, store, fingerprint = open_data(job, log)
    inputs = {phase: phase_inputs(job, phase, fingerprint, weights.fingerprint) for phase in job.phases}
    done = finished_phases(job, inputs)
    trained = set(done) == set(job.phases) and job.folder.run.is_file()
    if trained and not missing_parts(job):
        log.line(f"{job.folder.root}: {' and '.join(done)} finished before with the same settings: nothing to do.")
        return
    _introduce(job, weights, done, log)
    with log.timed(INPUT):
        data = load_data(job, index, store, fingerprint, log)
        data = audit_data(job, data, log, bool(done) or _interrupted(job))
        for line in describe_data(data):
            log.line(line)
    with log.timed("start of TensorFlow"):
        from keras_bench.models.start import start_tensorflow

        devices = start_tensorflow(log)
    from keras_bench.training.phase import train_phase
    from keras_bench.workflow.final import choose_final_phase, keep_thumbnails

    run = Run(job, data, log, weights, tuple(devices))
    if not trained:
        _write_provenance(run)
        for phase in run.phases:
            if phase in done:
                log.line(f"{phase}: finished before with the same settings, reused")
            else:
                train_phase(run, phase)
        choose_final_phase(run)
    keep_thumbnails(run)
    make_parts(run)


def _interrupted(job: Job) -> bool:
    return any(next(job.folder.state(phase).glob("epoch*.json"), None) is not None for phase in job.phases)


def _introduce(job: Job, weights: InitialWeights, done: list[str], log: Log) -> None:
    title = f" ({job.config.title})" if job.config.title else ""
    log.line(f"{job.config.name}{title}: {job.backbone.name}, {' then '.join(job.phases)}, seed {job.request.seed}")
    log.line(f"weights: {weights.origin}")
    if job.phases == ("tl", "ft") and job.request.phase == "ft" and not done:
        log.line("phase ft continues a finished tl; there is none yet, so tl runs first")
    if weights.path is None and "tl" in job.phases:
        log.warn("phase tl trains a head on a frozen backbone of random weights; --phase scratch trains all of it")


def _write_provenance(run: Run) -> None:
    """Write what the run is, before any training."""
    from keras_bench.training.precision import describe_tf32

    weights = run.weights
    write_text(run.folder.config, to_yaml(run.config))
    write_data_files(run.folder, run.data)
    location = {"data": run.data.index.location, "weights": str(weights.path) if weights.path else "none"}
    write_json(
        run.folder.environment,
        {
            **describe_environment(list(run.devices)),
            "tf32": describe_tf32(run.config.training),
            "command": sys.argv[1:],
            "seed": run.job.request.seed,
            "weights_sha256": weights.fingerprint,
            "locations": location,
        },
    )


def _tell_time(job: Job, total: float, log: Log) -> None:
    """Say what a run's time went into, and keep it in the run's folder; a run that did nothing says nothing."""
    if set(log.spent) <= {INPUT, LATENCY, COMPARISON}:
        return
    parts = {**log.spent, "other": max(0.0, total - sum(log.spent.values()))}
    shares = ", ".join(f"{part} {seconds / total:.0%}" for part, seconds in parts.items() if seconds / total >= 0.005)
    log.line(f"time: {duration(total)}: {shares}")
    write_json(
        job.folder.timing, {"seconds": round(total, 1), **{part: round(value, 2) for part, value in parts.items()}}
    )


def _next_command(job: Job) -> str:
    if len(job.phases) == 1 and job.phases[0] == "tl":
        return f"the same command with --phase ft fine-tunes {job.backbone.name}"
    return f"keras-bench suite --experiment {job.request.experiment} compares every model of the experiment"
