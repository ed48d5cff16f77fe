"""What is measured of each run, and the latencies that it has already."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_bench.bundle.sums import FLOAT_MODEL
from keras_bench.config.schema import LatencyConfig
from keras_bench.console import Log
from keras_bench.cost.cost_file import model_identity
from keras_bench.cost.records import CALLS, Latency, latencies_from_json, latencies_to_json
from keras_bench.files import write_record
from keras_bench.phases import Phase
from keras_bench.reading import read_json, read_record
from keras_bench.runs.damage import is_unreadable
from keras_bench.runs.folders import RunDir
from keras_bench.runs.weights import require_final_phase

# Written to latency.json, so that figures of different ways of measuring are told apart. 1, which was not written: a
# process per batch size, always `calls` or `seconds`. 2: a process per way of calling, until the median is precise.
PROTOCOL = 2


@dataclass(frozen=True)
class LatencySetting:
    """One way of calling a model with one batch size, whose latency is measured.

    Settings that differ only in batch size are measured in one process. All runs are measured in one way of calling
    them before the next, so that a slow minute of the machine affects all runs alike.

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


def _model_files(run: RunDir, phase: Phase) -> dict[str, Path]:
    """Return the model file of each way of calling a run's model."""
    model = run.model(phase)
    files = {"predict": model, "compiled": model}
    exported = None if is_unreadable(run.export(phase)) else run.read_export(phase)
    onnx = run.root / exported["bundle"] / FLOAT_MODEL if exported else None
    return {**files, "onnxruntime": onnx} if onnx is not None and onnx.is_file() else files


def measured_run(run: RunDir, settings: LatencyConfig) -> MeasuredRun:
    """Return a run with the latencies it has already, if they were measured with the same settings."""
    identity = model_identity(run)
    effort = {"calls": settings.calls, "seconds": settings.seconds, "warm_up": settings.warm_up, "protocol": PROTOCOL}
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


def latency_settings(subjects: list[MeasuredRun], settings: LatencyConfig, accelerators: bool) -> list[LatencySetting]:
    """Return the settings to measure, batch sizes ascending within each way of calling a model."""
    calls = [call for call in CALLS if any(call in subject.files for subject in subjects)]
    devices = ("cpu", "gpu") if accelerators else ("cpu",)
    # We depend on ONNX Runtime's package for the CPU.
    kinds = [(call, device) for call in calls for device in devices if (call, device) != ("onnxruntime", "gpu")]
    return [LatencySetting(call, device, size) for call, device in kinds for size in sorted(set(settings.batch_sizes))]


def missing_settings(subjects: list[MeasuredRun], wanted: list[LatencySetting]) -> list[LatencySetting]:
    """Return the settings that some run lacks; all of them if the existing latencies come from several sessions."""
    if len({latency.session for subject in subjects for latency in subject.latencies.values()}) > 1:
        return wanted
    return [
        setting
        for setting in wanted
        if any(setting.call in subject.files and setting not in subject.latencies for subject in subjects)
    ]
