"""Notes on costs for the report: Pareto fronts, the hardware latency was measured on, and what was not measured."""

import shlex
from collections.abc import Mapping

from keras_bench.config.decision import DecisionMetric
from keras_bench.cost.records import Latency
from keras_bench.report.comparison import RunView
from keras_bench.report.outlook import Absence, ReportPart
from keras_bench.report.pareto import pareto_front


def costs_on_the_front(runs: list[RunView], decision: DecisionMetric) -> dict[str, list[str]]:
    """Return, by run label, the costs for which the run is on the Pareto front of test accuracy against cost."""
    costs: Mapping[str, list[float | None]] = {
        "latency": [latency.p50_ms if (latency := run.latency("compiled", 1)) else None for run in runs],
        "parameters": [float(run.final.result.parameters) for run in runs],
        "multiply-adds": [float(run.cost.multiply_adds) if run.cost else None for run in runs],
    }
    on_front: dict[str, list[str]] = {run.label: [] for run in runs}
    for name, values in costs.items():
        measured = [(run, value) for run, value in zip(runs, values, strict=True) if value is not None]
        accuracies = [getattr(run.final.result.metrics["test"], decision) for run, _ in measured]
        front = pareto_front([value for _, value in measured], accuracies)
        for (run, _), is_on in zip(measured, front, strict=True):
            on_front[run.label] += [name] if is_on else []
    return on_front


def timed_hardware(runs: list[RunView]) -> list[str]:
    """Return one line per device and session that latency was measured in."""
    return sorted({_hardware_line(latency) for run in runs for latency in run.latencies})


def _hardware_line(latency: Latency) -> str:
    return f"{latency.device.upper()}: {latency.hardware}, {latency.threads} threads, session {latency.session}"


def unmeasured_latency(runs: list[RunView], experiment: str) -> list[str]:
    """Return one line per kind of latency that is missing, with the reason, and one if sessions differ.

    Args:
        runs: the runs of one comparison.
        experiment: the name of their folder, for the command that measures them.
    """
    command = shlex.join(["keras-bench", "report", experiment, "--measure"])
    measured = [latency for run in runs for latency in run.latencies]
    why = {
        Absence.FOLLOWS: "latency follows",
        Absence.OFF: f"latency was not measured: turned off (latency.enabled); `{command}` adds it",
        Absence.MISSING: f"latency was not measured; `{command}` adds it",
    }
    lines = [
        f"{run.label}: {why[run.absent.get(ReportPart.LATENCY, Absence.MISSING)]}" for run in runs if not run.latencies
    ]
    if measured and not any(latency.device == "gpu" for latency in measured):
        lines.append("GPU: not measured, since there was none")
    if measured and not any(latency.call == "onnxruntime" for latency in measured):
        lines.append("ONNX Runtime: not measured, since the models were not exported")
    if len({latency.session for latency in measured}) > 1:
        lines.append(
            "The models were measured at different times, so a slow minute may have affected only one of them; "
            f"`{command}` measures them in turn"
        )
    return lines
