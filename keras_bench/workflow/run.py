"""The story of a run: one model through its phases, from images to a finished run folder."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from keras_bench.console import Log, duration
from keras_bench.cost.latency import LATENCY
from keras_bench.errors import ExportError, memory_named
from keras_bench.files import write_record
from keras_bench.phases import Phase
from keras_bench.reading import is_intact, read_json
from keras_bench.runs.damage import (
    damaged_files,
    describe,
    has_only_predictions,
    is_unreadable,
    lost_results,
    recorded_phases,
    refuse_lost,
)
from keras_bench.runs.data import (
    audit_data,
    describe_data,
    load_data,
    open_data,
    require_data,
    require_folders,
)
from keras_bench.runs.fingerprint import finished_phases, phase_inputs
from keras_bench.runs.job import Job
from keras_bench.runs.memory import memory_advice
from keras_bench.runs.run import Run
from keras_bench.runs.weights import InitialWeights, find_whole_weights
from keras_bench.workflow.compare import compare_runs, is_current
from keras_bench.workflow.final import choose_final_phase
from keras_bench.workflow.parts import damaged_parts, make_parts, measure_latencies, missing_parts, runs_to_measure
from keras_bench.workflow.provenance import restore_provenance, write_provenance

INPUT, COMPARISON = "reading and checking images", "tables and figures"
FEWER_DECODED = "add --set runtime.cache_memory_mb=0 to the same command, which then keeps no decoded images"


def run_job(job: Job, log: Log, in_suite: bool = False) -> None:
    """Train the phases that are not finished yet, make the parts that follow, and compare the experiment's runs.

    Args:
        job: the run.
        log: the screen; it also writes to run.log.
        in_suite: whether a suite started this process; latency, comparison and next command are then left to it.

    Raises:
        UserError: the input is wrong; found before training.
        RunError: training failed.
        ExportError: training succeeded, but a bundle could not be made.
        OutOfMemoryError: the message says in which part, and which options need less.
    """
    started = time.monotonic()
    require_data(job)
    require_folders(job)
    weights = find_whole_weights(job, log)
    export_error = None
    with job.folder.lock():
        log.path = job.folder.log
        try:
            with memory_advice(job, others=in_suite), memory_named(INPUT, FEWER_DECODED):
                _complete_run(job, weights, log, in_suite)
        except ExportError as error:  # training is finished, so its results are shown before the error
            export_error = error
        if not in_suite:
            with log.timed(LATENCY):
                measure_latencies([job], log)
        log.line(f"results: {job.folder.root}")
        if not in_suite:
            with log.timed(COMPARISON):
                compare_runs(job.experiment_folder, log)
        _report_time(job, time.monotonic() - started, log)
    if not in_suite:
        log.line(f"next:    {_next_command(job)}")
    if export_error:
        raise export_error


def _complete_run(job: Job, weights: InitialWeights, log: Log, in_suite: bool) -> None:
    """Do everything the run still lacks, from reading images to bundles."""
    with log.timed(INPUT):
        index, store, fingerprint = open_data(job, log)
    inputs = {phase: phase_inputs(job, phase, fingerprint, weights.fingerprint) for phase in job.phases}
    finished = finished_phases(job, inputs)
    for phase in finished:
        job.folder.remove_state(phase)  # by a process that was killed before it had removed it
    begun = bool(finished) or _was_interrupted(job)
    damaged = damaged_files(job.folder, job.phases) if begun else []
    if begun and not job.folder.splits.is_file() and job.folder.splits not in damaged:
        damaged.append(job.folder.splits)  # every version wrote it, but only this one its digest
    refuse_lost(job.folder, damaged)
    compared = recorded_phases(job.folder, job.phases)
    is_trained = set(finished) == set(job.phases) <= set(compared) and all(
        job.folder.result(phase).is_file() for phase in compared
    )
    if set(finished) == set(job.phases):
        damaged += damaged_parts(job)
    has_dropped = _drop_damaged_timing(job, log)
    is_complete = is_trained and not damaged and not missing_parts(job)
    if is_complete and is_intact(job.experiment_folder.audit, read_json):
        nothing = "" if has_dropped or _has_more_to_do(job, in_suite) else ": nothing to do"
        log.line(f"{job.folder.root}: {' and '.join(finished)} finished before with the same settings{nothing}.")
        return
    _warn_of_damage(job, damaged, log)
    _introduce(job, weights, finished, log)
    with log.timed(INPUT):
        data = load_data(job, index, store, fingerprint, log)
        data = audit_data(job, data, log, begun)
        for line in describe_data(data):
            log.line(line)
    if is_complete:  # only the audit was missing
        return
    with log.timed("start of TensorFlow"):
        from keras_bench.models.start import start_tensorflow

        devices = start_tensorflow(log)
    run = Run(job, data, log, weights, tuple(devices))
    _train_missing(run, finished, damaged)
    if not is_trained:
        choose_final_phase(run, _phases_to_compare(job, finished, compared))
    make_parts(run)


def _has_more_to_do(job: Job, in_suite: bool) -> bool:
    """Return whether latencies or the comparison, which follow a complete run, are made; a suite makes its own."""
    return not in_suite and (bool(runs_to_measure([job])) or not is_current(job.experiment_folder))


def _train_missing(run: Run, finished: list[Phase], damaged: list[Path]) -> None:
    """Train the phases that are not finished, show what each has reached, and make damaged files of others again."""
    from keras_bench.report.standing import standing_line
    from keras_bench.training.phase import train_phase
    from keras_bench.training.restore import restore_phase

    if set(finished) == set(run.phases):
        restore_provenance(run, damaged)
    else:
        write_provenance(run)
    for phase in run.phases:
        if phase in finished:
            run.log.line(f"{phase}: finished before with the same settings, reused")
            restore_phase(run, phase, damaged)
        else:
            with memory_named(f"phase {phase}"):
                train_phase(run, phase)
            run.log.line(standing_line(run.job.experiment_folder, run.folder, phase, run.config.training.decision))


def _phases_to_compare(job: Job, finished: Sequence[Phase], compared: Sequence[Phase]) -> tuple[Phase, ...]:
    """Return the phases among which to choose: without run.json and any training, a finished ft counts beside tl."""
    if compared or job.phases != ("tl",) or list(finished) != ["tl"] or lost_results(job.folder, ["ft"]):
        return job.phases
    return ("tl", "ft")  # the choice leaves out phases that are not finished


def _warn_of_damage(job: Job, damaged: Sequence[Path], log: Log) -> None:
    """Say which files are made again, and which phases are trained again."""
    for path in damaged:
        is_result = path in [job.folder.result(phase) for phase in job.phases]
        log.warn(f"{describe(path)}; {f'{path.parent.name} is trained again' if is_result else 'it is made again'}")
    for phase in job.phases:
        result = job.folder.result(phase)
        if has_only_predictions(job.folder, phase) and result not in damaged:
            log.warn(f"{describe(result)}: an earlier version was interrupted; {phase} is trained again")


def _drop_damaged_timing(job: Job, log: Log) -> bool:
    """Remove timing.json if it is damaged, since the time spent cannot be measured again; return whether it was."""
    is_damaged = is_unreadable(job.folder.timing)
    if is_damaged:
        log.warn(f"{describe(job.folder.timing)} and is removed: how the run's time was spent is lost")
        job.folder.timing.unlink()
    return is_damaged


def _was_interrupted(job: Job) -> bool:
    """Return whether a phase left a saved state behind."""
    return any(job.folder.states(phase) for phase in job.phases)


def _introduce(job: Job, weights: InitialWeights, finished: list[Phase], log: Log) -> None:
    """Print the model, its phases and its weights, and what may surprise about them."""
    title = f" ({job.config.title})" if job.config.title else ""
    log.line(f"{job.config.name}{title}: {job.backbone.name}, {' then '.join(job.phases)}, seed {job.request.seed}")
    log.line(f"weights: {weights.origin}")
    if job.phases == ("tl", "ft") and job.request.phase == "ft" and not finished:
        log.line("phase ft continues a finished tl; there is none yet, so tl runs first")
    if weights.path is None and "tl" in job.phases:
        log.warn("phase tl trains a head on a frozen backbone of random weights; --phase scratch trains all layers")


def _report_time(job: Job, total: float, log: Log) -> None:
    """Print how a run spent its time, and keep that in timing.json; a run that did nothing prints nothing."""
    if set(log.spent) <= {INPUT, LATENCY, COMPARISON}:
        return
    parts = {**log.spent, "other": max(0.0, total - sum(log.spent.values()))}
    shares = ", ".join(f"{part} {seconds / total:.0%}" for part, seconds in parts.items() if seconds / total >= 0.005)
    log.line(f"time: {duration(total)}: {shares}")
    write_record(
        job.folder.timing, {"seconds": round(total, 1), **{part: round(value, 2) for part, value in parts.items()}}
    )


def _next_command(job: Job) -> str:
    """Return a sentence with the command to try next."""
    if len(job.phases) == 1 and job.phases[0] == "tl":
        return f"the same command with --phase ft fine-tunes {job.backbone.name}"
    command = shlex.join(["keras-bench", "suite", "--experiment", job.request.experiment])
    return f"{command} compares every model of the experiment"
