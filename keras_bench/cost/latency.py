"""Measures the latencies of finished runs in turn, each in a fresh process, and saves it in their folders."""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_bench.bundle.sums import FLOAT_MODEL
from keras_bench.config.schema import LatencyConfig
from keras_bench.console import Log, duration
from keras_bench.cost.cost_file import model_identity
from keras_bench.cost.latency_worker import WARM_UP_SHARE
from keras_bench.cost.records import CALLS, Latency, latencies_from_json, latencies_to_json
from keras_bench.environment import describe_environment
from keras_bench.errors import RunError, is_out_of_memory, one_line
from keras_bench.files import write_record
from keras_bench.phases import Phase
from keras_bench.processes import run_child
from keras_bench.reading import read_json, read_record
from keras_bench.runs.damage import is_unreadable
from keras_bench.runs.folders import RunDir
from keras_bench.runs.weights import final_phase, require_final_phase

# Importing TensorFlow, loading and tracing MobileNet 0.75 took 7 to 8 s on two cores of an AMD EPYC.
START_SECONDS = 8.0
MACHINE = ("platform", "cpu", "cores", "packages")  # must be equal for latencies to be comparable
LATENCY = "latency"  # key in timing.json for the time of all these measurements, those of bundles included


@dataclass(frozen=True)
class LatencySetting:
    """One way of calling a model, whose latency is measured.

    All runs are measured in one setting before the next, so that a slow minute of the machine affects all runs alike.

    Attributes:
        call: an entry of `CALLS`.
        device: "cpu" or "gpu".
        batch_size: images per call.
    """

    call: str
    device: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.call} on {self.device}, batch size {self.batch_size}"


@dataclass
class MeasuredRun:
    """A finished run and its latencies.

    Attributes:
        run: its folder.
        files: the model file of each way of calling it.
        settings: the model's identity and the settings of the measurement; `latencies` holds no others.
        latencies: the measurements so far.
        environment: environment of the measurements; empty before the first.
    """

    run: RunDir
    files: dict[str, Path]
    settings: dict[str, object]
    latencies: dict[LatencySetting, Latency]
    environment: dict[str, Any]

    def write(self, log: Log) -> None:
        """Write latency.json."""
        content = latencies_to_json(self.settings, list(self.latencies.values()))
        with self.run.lock_latency(log):
            write_record(self.run.latency, {**content, "environment": self.environment})


Start = Callable[[Path, LatencySetting, LatencyConfig], dict[str, Any]]


def start_worker(file: Path, setting: LatencySetting, settings: LatencyConfig) -> dict[str, Any]:
    """Measure one latency in a fresh process and return its output (see `keras_bench.cost.latency_worker`).

    Raises:
        RunError: the process failed; the message is its last line, or the signal that ended it.
    """
    command = [sys.executable, "-m", "keras_bench.cost.latency_worker", str(file)]
    command += ["--call", setting.call, "--device", setting.device, "--batch-size", str(setting.batch_size)]
    command += ["--calls", str(settings.calls), "--seconds", str(settings.seconds), "--warm-up", str(settings.warm_up)]
    done = run_child(command, capture=True)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        memory = f", as when memory runs out; {_smaller_batches(setting, settings)}" if name == "SIGKILL" else ""
        raise RunError(f"the process was ended by {name}{memory}")
    if done.returncode > 0:
        lines = done.stderr.strip().splitlines()
        error = RunError(lines[-1].strip() if lines else f"the process ended with exit code {done.returncode}")
        if is_out_of_memory(error):
            raise RunError(f"memory ran out ({one_line(error)}); {_smaller_batches(setting, settings)}")
        raise error
    measurement: dict[str, Any] = json.loads(done.stdout)
    return measurement


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
    all are measured again. An interrupted session resumes with its next measurement. A measurement that fails is left
    out, named at the end, and tried again the next time.

    Args:
        runs: finished runs, one or more.
        settings: batch sizes, number of calls and time.
        accelerators: whether TensorFlow sees a GPU, which is then measured beside the CPU.
        log: the screen.
        start: measures the latency in one setting.
        again: measure everything again, even if nothing is missing.

    Raises:
        RunError: a run is not finished.
    """
    subjects = [_subject(run, settings) for run in runs]
    latency_settings = _latency_settings(subjects, settings, accelerators)
    todo = latency_settings if again else _missing_settings(subjects, latency_settings)
    if not todo:
        log.line("latency: measured before with the same settings: nothing to do")
        return
    environment = describe_environment([])
    if len(todo) < len(latency_settings) and all(
        _same_machine(subject.environment, environment) for subject in subjects
    ):
        session = next(latency.session for subject in subjects for latency in subject.latencies.values())
        log.line(f"latency: resuming the session of {session}")
    else:
        session = environment["time"]
        todo = latency_settings
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
    subjects = [_subject(run, settings) for run in runs]
    return not _missing_settings(subjects, _latency_settings(subjects, settings, accelerators))


def _model_files(run: RunDir, phase: Phase) -> dict[str, Path]:
    """Return the model file of each way of calling a run's model."""
    model = run.model(phase)
    files = {"predict": model, "compiled": model}
    exported = None if is_unreadable(run.export(phase)) else run.read_export(phase)
    onnx = run.root / exported["bundle"] / FLOAT_MODEL if exported else None
    return {**files, "onnxruntime": onnx} if onnx is not None and onnx.is_file() else files


def _subject(run: RunDir, settings: LatencyConfig) -> MeasuredRun:
    """Return a run with the latencies it has already, if they were measured with the same settings."""
    identity = model_identity(run)
    effort = {"calls": settings.calls, "seconds": settings.seconds, "warm_up": settings.warm_up}
    subject = MeasuredRun(run, _model_files(run, require_final_phase(run)), {**identity, **effort}, {}, {})
    if run.latency.is_file() and not is_unreadable(run.latency):
        content = read_json(run.latency)
        if content.get("settings") == subject.settings:
            latencies = read_record(run.latency, latencies_from_json)
            subject.latencies = {
                LatencySetting(latency.call, latency.device, latency.batch_size): latency for latency in latencies
            }
            subject.environment = content.get("environment", {})
    return subject


def _latency_settings(subjects: list[MeasuredRun], settings: LatencyConfig, accelerators: bool) -> list[LatencySetting]:
    calls = [call for call in CALLS if any(call in subject.files for subject in subjects)]
    devices = ("cpu", "gpu") if accelerators else ("cpu",)
    # We depend on ONNX Runtime's package for the CPU.
    kinds = [(call, device) for call in calls for device in devices if (call, device) != ("onnxruntime", "gpu")]
    return [LatencySetting(call, device, size) for call, device in kinds for size in settings.batch_sizes]


def _missing_settings(subjects: list[MeasuredRun], latency_settings: list[LatencySetting]) -> list[LatencySetting]:
    """Return the settings that some run lacks; all of them if the existing latencies come from several sessions."""
    if len({latency.session for subject in subjects for latency in subject.latencies.values()}) > 1:
        return latency_settings
    return [
        setting
        for setting in latency_settings
        if any(setting.call in subject.files and setting not in subject.latencies for subject in subjects)
    ]


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
    """Measure all runs in one setting before the next, and write latency.json of all runs after each setting."""
    count = sum(setting.call in subject.files for setting in todo for subject in subjects)
    turns = f"{len(subjects)} runs in turn, " if len(subjects) > 1 else ""
    seconds = START_SECONDS + (1 + WARM_UP_SHARE) * settings.seconds
    log.line(
        f"latency: {count} measurements, {turns}each in a fresh process; {settings.calls} calls or "
        f"{settings.seconds:g} s are timed: at most about {duration(count * seconds)}"
    )
    failed = []
    with log.progress("latency", count, "measurements") as advance:
        for setting in todo:
            for subject in [subject for subject in subjects if setting.call in subject.files]:
                try:
                    subject.latencies[setting] = _measure_latency(subject, setting, settings, session, start)
                except RunError as error:
                    subject.latencies.pop(setting, None)
                    failed.append(f"{subject.run.label} {setting}")
                    log.warn(f"latency of {failed[-1]} could not be measured: {error}")
                advance(1)
            for subject in subjects:
                subject.write(log)
    if failed:
        log.warn(f"latency is missing for {'; '.join(failed)}; the same command tries again")


def _measure_latency(
    subject: MeasuredRun, setting: LatencySetting, settings: LatencyConfig, session: str, start: Start
) -> Latency:
    measurement = start(subject.files[setting.call], setting, settings)
    hardware = measurement.pop("accelerator") or subject.environment["cpu"]
    return Latency(**measurement, hardware=hardware, session=session)


def has_accelerator(run: RunDir) -> bool:
    """Return whether a finished run was trained on a machine with an accelerator."""
    phase = final_phase(run)
    result = run.read_result(phase) if phase else None
    return bool(result and result.environment.get("accelerators"))
