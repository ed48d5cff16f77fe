"""Tables of an experiment's runs, for the terminal and for CSV files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from keras_bench.config.decision import DecisionMetric
from keras_bench.console import duration
from keras_bench.evaluation.metrics import BY_COLUMN, METRICS, PERCENT, Unit
from keras_bench.evaluation.records import ClassScores, Interval
from keras_bench.evaluation.words import share_words, use_of_test_sentence
from keras_bench.frames import frame_of
from keras_bench.phases import Phase
from keras_bench.report.comparison import Comparison, PhaseView, RunView
from keras_bench.report.outlook import FOLLOWS, Absence, ReportPart

if TYPE_CHECKING:
    import pandas as pd

SHOWN_RUNS = 5  # in the short form of the comparison
TERMINAL_METRICS = {name: metric for name, metric in BY_COLUMN.items() if metric.terminal}
TERMINAL_COLUMNS = (
    *(metric.heading for metric in TERMINAL_METRICS.values()),
    *("ECE", "params", "mult-adds", "ms", "s/epoch", "training", "memory"),
)


def comparison_table(comparison: Comparison) -> Table:
    """Return the table of all phases for the terminal, in the order of the ranking on val.

    Columns without any value are left out.
    """
    decision, columns = comparison.decision, _headings(comparison.decision)
    caption = (
        f"* final phase, chosen on val{decision.clause}. {use_of_test_sentence(comparison.shared_with_val)} "
        "[low, high]: 95 % interval over test images."
    )
    table = Table(title=Text(comparison.name), caption=Text(caption))
    rows = [
        (run, phase, _phase_cells(run, phase, view, decision))
        for run in comparison.runs
        for phase, view in run.phases.items()
    ]
    filled = [i for i in range(len(columns)) if any(str(cells[i]) != "—" for *_, cells in rows)]
    for i in filled:
        table.add_column(columns[i], justify="left" if columns[i] in ("model", "phase") else "right")
    for run, phase, cells in rows:
        table.add_row(*(cells[i] for i in filled), end_section=phase == list(run.phases)[-1])
    return table


def _headings(decision: DecisionMetric) -> list[str]:
    """Return the headings of the terminal's table: model, phase and accuracies, then TERMINAL_COLUMNS."""
    return [
        "model",
        "phase",
        f"val {decision.label}",
        *(f"test {metric.label}" for metric in _accuracies(decision)),
        *TERMINAL_COLUMNS,
    ]


def _accuracies(decision: DecisionMetric) -> list[DecisionMetric]:
    """Return the metrics shown for test with their intervals: the deciding metric, and always top-1."""
    return list(dict.fromkeys([decision, DecisionMetric.TOP1]))


def _phase_cells(run: RunView, phase: Phase, view: PhaseView, decision: DecisionMetric) -> list[str | Text]:
    result, test = view.result, view.test
    is_final = phase == run.final_phase
    return [
        Text(run.label),
        phase + (" *" if is_final else ""),
        _value_text(view.val_score, PERCENT),
        *(_value_and_ends(test[metric]) for metric in _accuracies(decision)),
        *(_value_text(test[name], metric.terminal) for name, metric in TERMINAL_METRICS.items()),
        f"{view.calibration.before.error:.1%}",
        f"{result.parameters / 1e6:.2f} M",
        f"{run.cost.multiply_adds / 1e9:.2f} G" if run.cost else "—",
        _milliseconds(run) if is_final else "—",
        f"{result.seconds_per_epoch:.1f}",
        duration(result.seconds),
        f"{result.peak_memory_mb / 1024:.2f} GiB",
    ]


def _milliseconds(run: RunView) -> str:
    latency = run.latency("compiled", 1)
    if latency is not None:
        return f"{latency.p50_ms:.1f}"
    return FOLLOWS if run.absent.get(ReportPart.LATENCY) is Absence.FOLLOWS else "—"


def standing_lines(comparison: Comparison) -> list[str]:
    """Return the comparison in short: the best runs, with the scores of their final phases."""
    label, shown = comparison.decision.label, comparison.runs[:SHOWN_RUNS]
    count = len(comparison.runs)
    lines = [f"{'one run' if count == 1 else f'{count} runs'} so far, by val {label}:"]
    for number, run in enumerate(shown, start=1):
        test = run.final.test[comparison.decision]
        on_test = share_words(test) if test else "not defined"
        val = share_words(run.final.val_score)
        lines.append(f"  {number}. {run.label} ({run.final_phase}): val {val}, test {on_test}")
    return lines + ([f"  and {count - SHOWN_RUNS} more"] if count > SHOWN_RUNS else [])


def classes_frame(scores: Iterable[ClassScores], titles: list[str]) -> pd.DataFrame:
    """Return classes.csv, one row per class: precision, recall and F1, in [0, 1], and number of images."""
    return frame_of(
        {
            "class": score.name,
            "title": title,
            "precision": score.precision,
            "recall": score.recall,
            "f1": score.f1,
            "images": score.support,
        }
        for score, title in zip(scores, titles, strict=True)
    )


def results_frame(comparison: Comparison) -> pd.DataFrame:
    """Return results.csv, one row per phase of each run: all figures, versions, device, commit and fingerprints."""
    ranked_by = {"ranked_by": f"val {comparison.decision}"}
    return frame_of(
        _result_row(run, phase, view) | ranked_by for run in comparison.runs for phase, view in run.phases.items()
    )


def _result_row(run: RunView, phase: Phase, view: PhaseView) -> dict[str, object]:
    result = view.result
    row: dict[str, object] = {"model": run.model, "seed": run.seed, "phase": phase, "final": phase == run.final_phase}
    row["chosen_by"] = f"val {run.chosen_by}"
    for split in ("val", "test"):
        metrics = result.metrics[split]
        row[f"{split}_images"] = metrics.images
        row |= {f"{split}_{name}": getattr(metrics, name) for name in METRICS}
    for name, interval in view.test.items():
        row[f"test_{name}_low"] = interval.low if interval else None
        row[f"test_{name}_high"] = interval.high if interval else None
    row |= {"test_ece": view.calibration.before.error, "test_ece_after_temperature": view.calibration.after.error}
    row["temperature"] = view.calibration.temperature
    for name in ("best_epoch", "epochs", "seconds", "seconds_per_epoch", "images_per_second", "parameters"):
        row[name] = getattr(result, name)
    row |= {"trainable_parameters": result.trainable_parameters, "peak_memory_mb": result.peak_memory_mb}
    row |= _cost_columns(run)
    row |= {"image_size": result.inputs.get("dataset.image_size"), "alpha": result.inputs.get("model.alpha")}
    row |= {"data": result.inputs.get("data"), "weights": result.inputs.get("weights"), **result.resolved}
    environment = result.environment
    row |= {name: environment.get(name) for name in ("commit", "cpu", "cores", "python", "time")}
    row["accelerators"] = " ".join(environment.get("accelerators", [])) or "none"
    return row | {name: environment.get("packages", {}).get(name) for name in ("keras-bench", "tensorflow", "keras")}


def _cost_columns(run: RunView) -> dict[str, object]:
    """Return the columns of the final model's cost; the network is the same in every phase of a run."""
    counted = run.cost.to_json() if run.cost else {}
    names = ("multiply_adds", "flops", "weight_bytes", "file_bytes")
    columns: dict[str, object] = {name: counted.get(name) for name in names}
    for latency in run.latencies:
        columns[f"{latency.call}_{latency.device}_batch{latency.batch_size}_p50_ms"] = latency.p50_ms
    return columns


def _value_and_ends(score: Interval | None) -> str | Text:
    """Return a share in percent with the ends of its interval, or "—" for None."""
    # As Text, because a rich table reads words in brackets as styles.
    return "—" if score is None else Text(f"{score.value:.1%} [{score.ends_text(between=', ')}]")


def _value_text(score: Interval | None, unit: Unit | None) -> str:
    """Return a value without its interval, or "—" for None."""
    if score is None or unit is None:
        return "—"
    return f"{unit.scale * score.value:.{unit.digits}f}{'%' if unit is PERCENT else ''}"
