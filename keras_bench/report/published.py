"""What a study's source published beside what was measured here, for the terminal and the page."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from keras_bench.console import table_text
from keras_bench.phases import Phase
from keras_bench.report.comparison import Comparison, RunView
from keras_bench.report.study import CLAIMED, FIGURES, Published

MEBIBYTE = 1 << 20  # what the sources' "MB" are: ResNet50's 25.6 M parameters of 4 bytes are 97.7 of them, they say 98


def shown_rows(comparison: Comparison) -> list[Published]:
    """Return the published rows that something here stands beside: those whose model and phase were trained."""
    trained = {(run.model, phase) for run in comparison.runs for phase in run.phases}
    return [row for row in (comparison.study.rows if comparison.study else []) if (row.model, row.phase) in trained]


def not_run(comparison: Comparison) -> str:
    """Return one line on the published rows of what was not trained here, or "" where there are none."""
    shown = shown_rows(comparison)
    absent: dict[str, list[str]] = {}
    for row in comparison.study.rows if comparison.study else []:
        if row not in shown:
            absent.setdefault(row.model, []).append(row.phase)
    here = {run.model for run in comparison.runs}
    names = [f"{model} ({' and '.join(phases)})" if model in here else model for model, phases in absent.items()]
    if not names:
        return ""
    return f"Published too, with nothing here to compare, since it was not trained: {', '.join(names)}."


def stated_figures(rows: Sequence[Published]) -> list[str]:
    """Return the names of FIGURES that any of some published rows states."""
    return [name for name in FIGURES if any(name in row.figures for row in rows)]


def beside(comparison: Comparison, row: Published, name: str) -> str:
    """Return one figure as "published | here", with a dagger where the data is another; "—" where not stated."""
    if name not in row.figures:
        return "—"
    runs = [run for run in comparison.runs if run.model == row.model and row.phase in run.phases]
    here = measured(runs[0], row.phase, name) if runs else None
    dagger = "" if comparison.study and comparison.study.comparable else " †"
    return f"{_figure_text(row.figures[name], FIGURES[name])}{dagger} | {_figure_text(here, FIGURES[name])}"


def measured(run: RunView, phase: Phase, name: str) -> float | None:
    """Return our figure for one of FIGURES, in the unit of the published one; None where it was not measured.

    val_loss is the cross-entropy without penalties; latencies are the median of `predict()` on one image, of the final
    phase only. Seconds of inference are never ours: no source says of how many images.
    """
    result = run.phases[phase].result
    if name == "val_loss":
        return result.metrics["val"].cross_entropy
    split, _, metric = name.partition("_")
    if split in ("val", "test"):
        return getattr(result.metrics[split], metric)
    if name.endswith("_ms"):
        latency = run.latency("predict", 1, name.removesuffix("_ms")) if phase == run.final_phase else None
        return latency.p50_ms if latency else None
    return {
        "parameters_millions": result.parameters / 1e6,
        "megabytes": run.cost.weight_bytes / MEBIBYTE if run.cost else None,
        "training_seconds": result.seconds,
    }.get(name)


def published_text(comparison: Comparison) -> list[str]:
    """Return what was published beside ours as lines for the terminal; [] where no study is held against."""
    study = comparison.study
    if study is None:
        return []
    lines = [f"Published: {study.source}."]
    if not study.comparable:
        lines.append(f"Other data here, so published figures (†) do not compare: {study.difference}.")
    rows = shown_rows(comparison)
    if rows:
        lines.append(table_text(_rows(comparison, rows)))
    lines += [line] if (line := not_run(comparison)) else []
    return lines + _claims(comparison)


def _rows(comparison: Comparison, rows: Sequence[Published]) -> Table:
    table, names = Table(caption=Text("published | here")), stated_figures(rows)
    for heading in ("model", "phase", *(FIGURES[name][0] for name in names)):
        table.add_column(heading, justify="left" if heading in ("model", "phase") else "right")
    for row in rows:
        table.add_row(row.model, row.phase, *(beside(comparison, row, name) for name in names))
    return table


def _claims(comparison: Comparison) -> list[str]:
    """Return a line for each published claim: what it says, whether our two figures bear it out, and these."""
    lines = []
    for check in comparison.claims:
        form = CLAIMED[check.claim.figure]
        sides = [
            f"{model} {_figure_text(value, form)}"
            for model, value in ((check.claim.more, check.more), (check.claim.less, check.less))
        ]
        lines.append(f"- {check.claim.text}: {check.words} ({form[0]}: {', '.join(sides)})")
    return lines


def _figure_text(value: float | None, form: tuple[str, float, int]) -> str:
    """Return a figure as its entry of FIGURES or CLAIMED says, or "—" where there is none."""
    _, scale, digits = form
    return "—" if value is None else f"{value * scale:,.{digits}f}"
