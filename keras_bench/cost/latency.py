"""Measures the latencies of finished runs in turn, in fresh processes, and saves them in their folders."""

import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from keras_bench.config.schema import LatencyConfig
from keras_bench.console import Log, duration
from keras_bench.cost.measured_run import LatencySetting, MeasuredRun, latency_settings, measured_run, missing_settings
from keras_bench.cost.records import Latency
from keras_bench.cost.timing import WARM_UP_SHARE
from keras_bench.environment import describe_environment
from keras_bench.errors import RunError, is_out_of_memory, one_line
from keras_bench.processes import run_child
from keras_bench.runs.folders import RunDir
from keras_bench.runs.weights import final_phase

# Importing TensorFlow, loading and tracing MobileNet 0.75 took 7 to 8 s on two cores of an AMD EPYC.
START_SECONDS = 8.0
# Of one measurement, warm-up included: estimated for the same model from the duration of its calls.
USUAL_SECONDS = 3.0
MACHINE = ("platform", "cpu", "cores", "packages")  # must be equal for latencies to be comparable
LATENCY = "latency"  # key in timing.json for the time of all these measurements, those of bundles included


@dataclass(frozen=True)
class WorkerResult:
    """What one process measured.

    Attributes:
        measurements: one per batch size, in ascending order.
        error: why it measured no further batch size; None if it measured all.
    """

    measurements: list[dict[str, Any]]
    error: RunError | None = None


Start = Callable[[Path, Sequence[LatencySetting], LatencyConfig], WorkerResult]


def start_worker(file: Path, batches: Sequence[LatencySetting], settings: LatencyConfig) -> WorkerResult:
    """Measure one way of calling a model in a fresh process (see `keras_bench.cost.latency_worker`).

    If the process fails at one batch size, the figures of the smaller ones stand.

    Args:
        file: the model file.
        batches: settings that differ only in batch size, in ascending order.
        settings: number of calls and time.
    """
    sizes = ",".join(str(setting.batch_size) for setting in batches)
    command = [sys.executable, "-m", "keras_bench.cost.latency_worker", str(file)]
    command += ["--call", batches[0].call, "--device", batches[0].device, "--batch-sizes", sizes]
    command += ["--calls", str(settings.calls), "--seconds", str(settings.seconds), "--warm-up", str(settings.warm_up)]
    done = run_child(command, capture=True)
    lines = [line for line in done.stdout.splitlines(keepends=True) if line.endswith("\n")]  # not one that was cut off
    measurements = [json.loads(line) for line in lines]
    if len(measurements) == len(batches):
        return WorkerResult(measurements)
    return WorkerResult(measurements, _worker_error(done, batches[len(measurements)], settings))


def measure_alone(file: Path, setting: LatencySetting, settings: LatencyConfig) -> dict[str, Any]:
    """Measure one latency in a process of its own.

    Raises:
        RunError: the process failed; the message is its last line, or the signal that ended it.
    """
    result = start_worker(file, [setting], settings)
    if result.error:
        raise result.error
    return result.measurements[0]


def _worker_error(done: CompletedProcess[str], setting: LatencySetting, settings: LatencyConfig) -> RunError:
    """Return why a process ended before it had measured a setting."""
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        memory = f", as when memory runs out; {_smaller_batches(setting, settings)}" if name == "SIGKILL" else ""
        return RunError(f"the process was ended by {name}{memory}")
    lines = done.stderr.strip().splitlines()
    error = RunError(lines[-1].strip() if lines else f"the process ended with exit code {done.returncode}")
    if is_out_of_memory(error):
        return RunError(f"memory ran out ({one_line(error)}); {_smaller_batches(setting, settings)}")
    return error


def _smaller_batches(setting: LatencySetting, settings: LatencyConfig) -> str:
    """Return a clause with the option that leaves out this batch size and larger ones."""
    sizes = [size for size in settings.batch_sizes if size < setting.batch_size] or [max(1, setting.batch_size // 2)]
    return f"--set latency.batch_sizes={str(sizes).replace(' ', '')} needs less"


def measure_latency(
    runs: list[RunDir],
    settings: LatencyConfig,
    accelerators: bool,
    log: Log,
    start: Start = start_worker,
    again: bool = False,
) -> None:
    """Measure missing latencies and write each run's latency.json.

    Latencies can be compared only if they were measured in turn, in one session, so if a run joins the others later,
    all are measured again. An interrupted session resumes with its next process. A measurement that fails is left out,
    named at the end, and tried again the next time.

    Args:
        runs: finished runs, one or more.
        settings: batch sizes, number of calls and time.
        accelerators: whether TensorFlow sees a GPU, which is then measured beside the CPU.
        log: the screen.
        start: measures the latencies of one way of calling a model.
        again: measure everything again, even if nothing is missing.

    Raises:
        RunError: a run is not finished.
    """
    subjects = [measured_run(run, settings) for run in runs]
    wanted = latency_settings(subjects, settings, accelerators)
    todo = wanted if again else missing_settings(subjects, wanted)
    if not todo:
        log.line("latency: measured before with the same settings: nothing to do")
        return
    environment = describe_environment([])
    if len(todo) < len(wanted) and all(_same_machine(subject.environment, environment) for subject in subjects):
        session = next(latency.session for subject in subjects for latency in subject.latencies.values())
        log.line(f"latency: resuming the session of {session}")
    else:
        session = environment["time"]
        todo = wanted
        for subject in subjects:
            subject.latencies.clear()
    for subject in subjects:
        subject.environment = dict(environment)
    _measure_in_turn(subjects, todo, settings, session, log, start)


def latency_finished(runs: list[RunDir], settings: LatencyConfig, accelerators: bool = False) -> bool:
    """Return whether every run has every measurement with these settings, all from one session.

    Args:
        runs: finished runs, one or more.
        settings: batch sizes, number of calls and time.
        accelerators: whether a GPU should have been measured too.

    Raises:
        RunError: a run is not finished.
    """
    subjects = [measured_run(run, settings) for run in runs]
    return not missing_settings(subjects, latency_settings(subjects, settings, accelerators))


def _same_machine(before: Mapping[str, object], now: Mapping[str, object]) -> bool:
    return all(before.get(key) == now[key] for key in MACHINE)


def _measure_in_turn(
    subjects: list[MeasuredRun],
    todo: list[LatencySetting],
    settings: LatencyConfig,
    session: str,
    log: Log,
    start: Start,
) -> None:
    """Measure all runs in one way of calling them before the next, and write latency.json of all runs after each."""
    ways = [list(batches) for _, batches in groupby(todo, key=lambda setting: (setting.call, setting.device))]
    turns = [(batches, [subject for subject in subjects if batches[0].call in subject.files]) for batches in ways]
    count = sum(len(batches) * len(called) for batches, called in turns)
    log.line(_announcement(turns, count, settings))
    failed = []
    with log.progress("latency", count, "measurements") as advance:
        for batches, called in turns:
            for subject in called:
                result = start(subject.files[batches[0].call], batches, settings)
                _keep(subject, batches, result, session)
                missing = batches[len(result.measurements) :]
                failed += [f"{subject.run.label} {setting}" for setting in missing]
                if missing:
                    larger = "; larger batches were not tried" if missing[1:] else ""
                    log.warn(
                        f"latency of {subject.run.label} {missing[0]} could not be measured: {result.error}{larger}"
                    )
                advance(len(batches))
            for subject in subjects:
                subject.write(log)
    if failed:
        log.warn(f"latency is missing for {'; '.join(failed)}; the same command tries again")


def _announcement(
    turns: Sequence[tuple[list[LatencySetting], list[MeasuredRun]]], count: int, settings: LatencyConfig
) -> str:
    """Return the line that says what will be measured, and how long that takes."""
    processes = sum(len(called) for _, called in turns)
    runs = max(len(called) for _, called in turns)
    in_turn = f", the {runs} runs in turn" if runs > 1 else ""
    longest = (1 + WARM_UP_SHARE) * settings.seconds
    usual, most = (
        duration(processes * START_SECONDS + count * seconds) for seconds in (min(USUAL_SECONDS, longest), longest)
    )
    return (
        f"latency: {count} measurements in {processes} fresh processes{in_turn}; each ends when its median is known "
        f"to 2 %, at the latest after {settings.calls} calls or {settings.seconds:g} s: about {usual} on an idle "
        f"machine, at most about {most}"
    )


def _keep(subject: MeasuredRun, batches: Sequence[LatencySetting], result: WorkerResult, session: str) -> None:
    """Add what a process measured to a run's latencies; of what it did not measure, nothing earlier is kept."""
    for setting in batches[len(result.measurements) :]:
        subject.latencies.pop(setting, None)
    for measurement in result.measurements:
        hardware = measurement["accelerator"] or subject.environment["cpu"]
        figures = {key: value for key, value in measurement.items() if key != "accelerator"}
        latency = Latency(**figures, hardware=hardware, session=session)
        subject.latencies[LatencySetting(latency.call, latency.device, latency.batch_size)] = latency


def has_accelerator(run: RunDir) -> bool:
    """Return whether a finished run was trained on a machine with an accelerator."""
    phase = final_phase(run)
    result = run.read_result(phase) if phase else None
    return bool(result and result.environment.get("accelerators"))
