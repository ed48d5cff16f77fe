"""What the report says of costs: who is on which Pareto front, on what latency was timed, and what was not."""

from collections.abc import Mapping

from keras_bench.config.decision import DecisionMetric
from keras_bench.cost.records import Latency
from keras_bench.report.comparison import RunView
from keras_bench.report.pareto import pareto_front


def costs_on_the_front(runs: list[RunView], decision: DecisionMetric) -> dict[str, list[str]]:
    """Return for each run the costs for which no other is both cheaper and better on test."""
    costs: Mapping[str, list[float | None]] = {
        "latency": [one.p50_ms if (one := run.latency("compiled", 1)) else None for run in runs],
        "parameters": [float(run.final.result.parameters) for run in runs],
        "multiply-adds": [float(run.cost.multiply_adds) if run.cost else None for run in runs],
    }
    found: dict[str, list[str]] = {run.label: [] for run in runs}
    for name, values in costs.items():
        known = [(run, value) for run, value in zip(runs, values, strict=True) if value is not None]
        accuracies = [getattr(run.final.result.metrics["test"], decision) for run, _ in known]
        front = pareto_front([value for _, value in known], accuracies)
        for (run, _), is_on in zip(known, front, strict=True):
            found[run.label] += [name] if is_on else []
    return found


def timed_hardware(runs: list[RunView]) -> list[str]:
    """Return a line for each device, and each session on it, that latency was measured in."""
    return sorted({_hardware(latency) for run in runs for latency in run.latencies})


def _hardware(one: Latency) -> str:
    return f"{one.device.upper()}: {one.hardware}, {one.threads} threads, session {one.session}"


def unmeasured_latency(runs: list[RunView]) -> list[str]:
    """Return a line for each kind of latency that is missing, and why."""
    measured = [one for run in runs for one in run.latencies]
    lines = [
        f"{run.label}: latency was not measured (latency.enabled is off, or the run is older); "
        "`keras-bench report --measure` adds it"
        for run in runs
        if not run.latencies
    ]
    if measured and not any(one.device == "gpu" for one in measured):
        lines.append("GPU: not measured, there was none")
    if measured and not any(one.call == "onnxruntime" for one in measured):
        lines.append("ONNX Runtime: not measured, the models are not exported yet")
    if len({one.session for one in measured}) > 1:
        lines.append(
            "The models were timed at different times, so a slow minute may have hit one of them only; "
            "`keras-bench report --measure` times them in turn"
        )
    return lines
