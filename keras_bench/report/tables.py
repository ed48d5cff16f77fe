"""The comparison of all runs of an experiment, for the terminal and for CSV files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from keras_bench.config.decision import DecisionMetric
from keras_bench.console import duration
from keras_bench.evaluation.intervals import ClassScores, Interval
from keras_bench.evaluation.metrics import BY_COLUMN, METRICS, PERCENT, Unit
from keras_bench.evaluation.words import decisions_words
from keras_bench.frames import frame_of
from keras_bench.phases import Phase
from keras_bench.report.comparison import Comparison, PhaseView, RunView

if TYPE_CHECKING:
    import pandas as pd

TERMINAL_METRICS = {name: metric for name, metric in BY_COLUMN.items() if metric.terminal}
TERMINAL_COLUMNS = (
    *(metric.heading for metric in TERMINAL_METRICS.values()),
    *("ECE", "params", "mult-adds", "ms", "s/epoch", "training", "memory"),
)


def comparison_table(comparison: Comparison) -> Table:
    """Return a table for the terminal, best final phase on val first; val chose, test only reports.

    Columns without any value are left out.
    """
    decision, columns = comparison.decision, _headings(comparison.decision)
    caption = (
        f"* final phase, chosen on val{decision.clause}. {decisions_words(comparison.shared_with_val)} "
        "[low, high]: 95 % interval over test images."
    )
    table = Table(title=Text(comparison.name), caption=Text(caption))
    rows = [
        (run, phase, _phase_cells(run, phase, view, decision))
        for run in comparison.runs
        for phase, view in run.phases.items()
    ]
    kept = [place for place in range(len(columns)) if any(str(cells[place]) != "—" for *_, cells in rows)]
    for place in kept:
        table.add_column(columns[place], justify="left" if columns[place] in ("model", "phase") else "right")
    for run, phase, cells in rows:
        table.add_row(*(cells[place] for place in kept), end_section=phase == list(run.phases)[-1])
    return table


def _headings(decision: DecisionMetric) -> list[str]:
    """Return the headings of the table: those of what decides, then COLUMNS."""
    return [
        "model",
        "phase",
        f"val {decision.label}",
        *(f"test {one.label}" for one in _shown_metrics(decision)),
        *TERMINAL_COLUMNS,
    ]


def _shown_metrics(decision: DecisionMetric) -> list[DecisionMetric]:
    """Return what the table shows of test with its interval: what decides, and top-1 in any case."""
    return list(dict.fromkeys([decision, DecisionMetric.TOP1]))


def _phase_cells(run: RunView, phase: Phase, view: PhaseView, decision: DecisionMetric) -> list[str | Text]:
    result, test = view.result, view.test
    latency = run.latency("compiled", 1)
    is_final = phase == run.final_phase
    return [
        Text(run.label),
        phase + (" *" if is_final else ""),
        _value(view.val_score, PERCENT),
        *(_with_ends(test[metric]) for metric in _shown_metrics(decision)),
        *(_value(test[name], metric.terminal) for name, metric in TERMINAL_METRICS.items()),
        f"{view.calibration.before.error:.1%}",
        f"{result.parameters / 1e6:.2f} M",
        f"{run.cost.multiply_adds / 1e9:.2f} G" if run.cost else "—",
        f"{latency.p50_ms:.1f}" if latency and is_final else "—",
        f"{result.seconds_per_epoch:.1f}",
        duration(result.seconds),
        f"{result.peak_memory_mb / 1024:.2f} GiB",
    ]


def classes_frame(scores: Iterable[ClassScores], titles: list[str]) -> pd.DataFrame:
    """Return classes.csv, one row per class: its precision, recall, F1 and number of images, in [0, 1] but the last."""
    return frame_of(
        {
            "class": row.name,
            "title": title,
            "precision": row.precision,
            "recall": row.recall,
            "f1": row.f1,
            "images": row.support,
        }
        for row, title in zip(scores, titles, strict=True)
    )


def results_frame(comparison: Comparison) -> pd.DataFrame:
    """Return results.csv, one row per phase of every run: all figures, versions, device, commit and fingerprints."""
    ranked_by = {"ranked_by": f"val {comparison.decision}"}
    return frame_of(
        _result_row(run, phase, view) | ranked_by for run in comparison.runs for phase, view in run.phases.items()
    )


def _result_row(run: RunView, phase: Phase, view: PhaseView) -> dict[str, Any]:
    result = view.result
    line: dict[str, Any] = {"model": run.model, "seed": run.seed, "phase": phase, "final": phase == run.final_phase}
    line["chosen_by"] = f"val {run.chosen_by}"
    for split in ("val", "test"):
        metrics = result.metrics[split]
        line[f"{split}_images"] = metrics.images
        line |= {f"{split}_{name}": getattr(metrics, name) for name in METRICS}
    for name, found in view.test.items():
        line[f"test_{name}_low"] = found.low if found else None
        line[f"test_{name}_high"] = found.high if found else None
    line |= {"test_ece": view.calibration.before.error, "test_ece_after_temperature": view.calibration.after.error}
    line["temperature"] = view.calibration.temperature
    for name in ("best_epoch", "epochs", "seconds", "seconds_per_epoch", "images_per_second", "parameters"):
        line[name] = getattr(result, name)
    line |= {"trainable_parameters": result.trainable_parameters, "peak_memory_mb": result.peak_memory_mb}
    line |= _cost(run)
    line |= {"image_size": result.inputs.get("dataset.image_size"), "alpha": result.inputs.get("model.alpha")}
    line |= {"data": result.inputs.get("data"), "weights": result.inputs.get("weights"), **result.resolved}
    environment = result.environment
    line |= {name: environment.get(name) for name in ("commit", "cpu", "cores", "python", "time")}
    line["accelerators"] = " ".join(environment.get("accelerators", [])) or "none"
    return line | {name: environment.get("packages", {}).get(name) for name in ("keras-bench", "tensorflow", "keras")}


def _cost(run: RunView) -> dict[str, Any]:
    """Return what the final model costs; every phase of a run has the same network."""
    counted = run.cost.to_json() if run.cost else {}
    names = ("multiply_adds", "flops", "weight_bytes", "file_bytes")
    line: dict[str, Any] = {name: counted.get(name) for name in names}
    for one in run.latencies:
        line[f"{one.call}_{one.device}_batch{one.batch_size}_p50_ms"] = one.p50_ms
    return line


def _with_ends(score: Interval | None) -> str | Text:
    """Return a share in percent with the ends of its interval, or "—" for None."""
    # As Text, since a table takes words in brackets for styles.
    return "—" if score is None else Text(f"{score.value:.1%} [{score.ends_text(between=', ')}]")


def _value(score: Interval | None, unit: Unit | None) -> str:
    """Return a value without its interval, or "—" for None."""
    if score is None or unit is None:
        return "—"
    return f"{unit.scale * score.value:.{unit.digits}f}{'%' if unit is PERCENT else ''}"
