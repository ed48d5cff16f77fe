"""The comparison of all runs of an experiment, for the terminal and for results.csv."""

import csv
import io
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from keras_bench.console import duration
from keras_bench.records.results import PhaseResult

METRICS = ("cross_entropy", "top1", "top5", "balanced_accuracy", "macro_f1", "macro_auc")


@dataclass(frozen=True)
class Row:
    """One phase of one run.

    Attributes:
        model: the backbone's name.
        seed: the run's seed.
        result: the phase's result.
        is_final: whether the run's final phase, chosen on val, is this one.
    """

    model: str
    seed: int
    result: PhaseResult
    is_final: bool


def comparison_table(rows: list[Row], title: str) -> Table:
    """Return a table for the terminal, best final phase by val top-1 first; val chose, test only reports."""
    table = Table(title=Text(title), caption="* the run's final phase, chosen on val. No decision used test.")
    for name in ("model", "phase"):
        table.add_column(name)
    for name in ("val top-1", "test top-1", "top-5", "macro-F1", "AUC", "cross-entropy", "params", "trained"):
        table.add_column(name, justify="right")
    for name in ("s/epoch", "phase", "images/s", "memory"):
        table.add_column(name, justify="right")
    ordered = ranked(rows)
    for number, row in enumerate(ordered):
        result, test = row.result, row.result.metrics["test"]
        last_of_run = number + 1 == len(ordered) or _run(ordered[number + 1]) != _run(row)
        table.add_row(
            Text(row.model + (f" seed {row.seed}" if row.seed else "")),
            result.phase + (" *" if row.is_final else ""),
            _percent(result.metrics["val"].top1),
            _percent(test.top1),
            _percent(test.top5),
            _three(test.macro_f1),
            _three(test.macro_auc),
            _three(test.cross_entropy),
            f"{result.parameters / 1e6:.2f} M",
            f"{result.trainable_parameters / 1e6:.2f} M",
            f"{result.seconds_per_epoch:.1f}",
            duration(result.seconds),
            f"{result.images_per_second:.0f}",
            f"{result.peak_memory_mb / 1024:.2f} GB",
            end_section=last_of_run,
        )
    return table


def ranked(rows: list[Row]) -> list[Row]:
    """Return the rows run by run, runs ordered by val top-1 of their final phase, phases in order of training."""
    best = {_run(row): row.result.metrics["val"].top1 for row in rows if row.is_final}
    order = {"scratch": 0, "tl": 1, "ft": 2}
    return sorted(rows, key=lambda row: (-best.get(_run(row), -1.0), _run(row), order[row.result.phase]))


def results_csv(rows: list[Row]) -> str:
    """Return results.csv: every figure of every phase, unrounded, with versions, device, commit and fingerprints."""
    table = [_flat(row) for row in ranked(rows)]
    columns = list(dict.fromkeys(name for line in table for name in line))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return stream.getvalue()


def _flat(row: Row) -> dict[str, object]:
    result = row.result
    line: dict[str, object] = {
        "model": row.model,
        "seed": row.seed,
        "phase": result.phase,
        "final": row.is_final,
    }
    for split in ("val", "test"):
        metrics = result.metrics[split]
        line[f"{split}_images"] = metrics.images
        line |= {f"{split}_{name}": getattr(metrics, name) for name in METRICS}
    for name in ("best_epoch", "epochs", "seconds", "seconds_per_epoch", "images_per_second", "parameters"):
        line[name] = getattr(result, name)
    line |= {"trainable_parameters": result.trainable_parameters, "peak_memory_mb": result.peak_memory_mb}
    line |= {"image_size": result.inputs.get("dataset.image_size"), "alpha": result.inputs.get("model.alpha")}
    line |= {"data": result.inputs.get("data"), "weights": result.inputs.get("weights"), **result.resolved}
    environment = result.environment
    line |= {name: environment.get(name) for name in ("commit", "cpu", "cores", "python", "time")}
    line["accelerators"] = " ".join(environment.get("accelerators", [])) or "none"
    line |= {name: environment.get("packages", {}).get(name) for name in ("keras-bench", "tensorflow", "keras")}
    return line


def _run(row: Row) -> tuple[str, int]:
    return row.model, row.seed


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{share:.1%}"


def _three(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"
