"""A study's published figures beside those measured here, for the terminal and the page."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from keras_bench.console import table_text
from keras_bench.phases import Phase
from keras_bench.report.comparison import Comparison, RunView
from keras_bench.report.study import CLAIMED, FIGURES, Published

MEBIBYTE = 1 << 20  # the sources' "MB": they give 98 for ResNet50, whose 25.6 M parameters of 4 bytes are 97.7 MiB


def shown_rows(comparison: Comparison) -> list[Published]:
    """Return the published rows whose model and phase were also trained here."""
    trained = {(run.model, phase) for run in comparison.runs for phase in run.phases}
    return [row for row in (comparison.study.rows if comparison.study else []) if (row.model, row.phase) in trained]


def untrained_line(comparison: Comparison) -> str:
    """Return one line that names the published models and phases that were not trained here, or ""."""
    shown = shown_rows(comparison)
    untrained: dict[str, list[str]] = {}
    for row in comparison.study.rows if comparison.study else []:
        if row not in shown:
            untrained.setdefault(row.model, []).append(row.phase)
    trained_models = {run.model for run in comparison.runs}
    names = [
        f"{model} ({' and '.join(phases)})" if model in trained_models else model for model, phases in untrained.items()
    ]
    return f"Also published, but not trained here: {', '.join(names)}." if names else ""


def stated_figures(rows: Sequence[Published]) -> list[str]:
    """Return the names of FIGURES that at least one of the published rows states."""
    return [name for name in FIGURES if any(name in row.figures for row in rows)]


def figure_pair(comparison: Comparison, row: Published, name: str) -> str:
    """Return one figure as "published | here", with a dagger if the data differs; "—" if it was not published."""
    if name not in row.figures:
        return "—"
    runs = [run for run in comparison.runs if run.model == row.model and row.phase in run.phases]
    measured = measured_figure(runs[0], row.phase, name) if runs else None
    dagger = "" if comparison.study and comparison.study.comparable else " †"
    return f"{_figure_text(row.figures[name], FIGURES[name])}{dagger} | {_figure_text(measured, FIGURES[name])}"


def measured_figure(run: RunView, phase: Phase, name: str) -> float | None:
    """Return our value for one of FIGURES, in the unit of the published one; None where it was not measured.

    val_loss is the cross-entropy without penalties. Latencies are the median of `predict()` on one image, and only of
    the final phase. There is never a value for seconds of inference, since no source says for how many images.
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
    """Return the published figures beside ours as lines for the terminal; [] where there is no study."""
    study = comparison.study
    if study is None:
        return []
    lines = [f"Published: {study.source}."]
    if not study.comparable:
        lines.append(f"Other data here, so published figures (†) are not comparable: {study.difference}.")
    rows = shown_rows(comparison)
    if rows:
        lines.append(table_text(_figures_table(comparison, rows)))
    lines += [line] if (line := untrained_line(comparison)) else []
    return lines + _claim_lines(comparison)


def _figures_table(comparison: Comparison, rows: Sequence[Published]) -> Table:
    table, names = Table(caption=Text("published | here")), stated_figures(rows)
    for heading in ("model", "phase", *(FIGURES[name][0] for name in names)):
        table.add_column(heading, justify="left" if heading in ("model", "phase") else "right")
    for row in rows:
        table.add_row(row.model, row.phase, *(figure_pair(comparison, row, name) for name in names))
    return table


def _claim_lines(comparison: Comparison) -> list[str]:
    """Return one line per published claim: the claim, whether the runs here confirm it, and the two figures."""
    lines = []
    for check in comparison.claims:
        form = CLAIMED[check.claim.figure]
        sides = [
            f"{model} {_figure_text(value, form)}"
            for model, value in ((check.claim.more, check.more), (check.claim.less, check.less))
        ]
        lines.append(f"- {check.claim.text}: {check.verdict} ({form[0]}: {', '.join(sides)})")
    return lines


def _figure_text(value: float | None, form: tuple[str, float, int]) -> str:
    """Return a figure formatted by its entry of FIGURES or CLAIMED, or "—" for None."""
    _, scale, digits = form
    return "—" if value is None else f"{value * scale:,.{digits}f}"
