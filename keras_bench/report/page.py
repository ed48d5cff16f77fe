"""The report of an experiment as one HTML file that opens offline: no script, style, font or image from outside."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from markupsafe import Markup

from keras_bench.audit.findings import class_totals
from keras_bench.config.decision import DecisionMetric
from keras_bench.cost.records import CALLS, DEVICES
from keras_bench.evaluation.metrics import BY_COLUMN, METRICS
from keras_bench.explain.records import METHOD_TITLES
from keras_bench.pages.html import data_uri, jinja_environment
from keras_bench.pages.provenance import Provenance
from keras_bench.report.comparison import Comparison, RunView
from keras_bench.report.cost_notes import costs_on_the_front, timed_hardware, unmeasured_latency
from keras_bench.report.explained import passes_checks, shown_method
from keras_bench.report.outlook import FOLLOWS, Absence, ReportPart
from keras_bench.report.overlays import COLORMAP, overlay
from keras_bench.report.published import figure_pair, shown_rows, stated_figures, untrained_line
from keras_bench.report.study import CLAIMED, FIGURES

PICTURED = 4  # number of runs, best first, whose thumbnails and maps the page holds: it stays below 3 MB
MINORITY = 5  # number of classes listed as having the fewest training images


def report_page(comparison: Comparison, figures: Mapping[str, str], provenance: Provenance) -> str:
    """Return the whole page.

    Args:
        comparison: everything the page shows.
        figures: figures as inline SVG, by the names that the templates use.
        provenance: provenance of the page.
    """
    pages = jinja_environment()
    method = shown_method(comparison.runs[0].explanations)
    pages.filters["overlay"] = lambda heat, image: data_uri(overlay(image, heat), "JPEG")
    pages.globals |= {"absent_word": absent_word, "efficiency": efficiency, "class_totals": class_totals}
    template = pages.get_template("report.html.j2")
    return template.render(
        c=comparison,
        titles=comparison.class_titles,
        images=comparison.runs[0].final.result.metrics["test"].images,
        figures={name: Markup(svg) for name, svg in figures.items()},
        provenance=provenance,
        pareto=costs_on_the_front(comparison.runs, comparison.decision),
        hardware=timed_hardware(comparison.runs),
        not_measured=unmeasured_latency(comparison.runs, comparison.name),
        calls=CALLS,
        devices=DEVICES,
        methods=METHOD_TITLES,
        shown_method=method,
        map_is_checked=any(passes_checks(v) for v in comparison.runs[0].explanations if v.method == method),
        pictured=PICTURED,
        has=filled_parts(comparison.runs),
        columns=filled_columns(comparison),
        metrics=BY_COLUMN,
        **published_figures(comparison),
        batch_sizes=sorted({latency.batch_size for run in comparison.runs for latency in run.latencies}),
        minority=minority_classes(comparison),
        color_scale=data_uri(_color_scale(), "PNG"),
    )


def published_figures(comparison: Comparison) -> dict[str, object]:
    """Return what the template of the published figures needs besides the comparison."""
    rows = shown_rows(comparison)
    return {
        "claimed": CLAIMED,
        "published_rows": rows,
        "untrained": untrained_line(comparison),
        "stated": [(name, FIGURES[name][0]) for name in stated_figures(rows)],
        "figure_pair": partial(figure_pair, comparison),
    }


def filled_columns(comparison: Comparison) -> set[str]:
    """Return the names of the optional columns of the comparison that have a value.

    They are names of METRICS, and "published" if any metric has a published figure below it.
    """
    tests = [view.test for run in comparison.runs for view in run.phases.values()]
    filled = {name for name in METRICS if any([test[name] is not None for test in tests])}
    stated = {name for row in shown_rows(comparison) for name in row.figures}
    return filled | ({"published"} if stated & {f"test_{name}" for name in METRICS} else set())


def absent_word(run: RunView, part: str) -> str:
    """Return what stands for a part that a run lacks: "follows", "not measured: turned off" or "not measured"."""
    why = run.absent.get(ReportPart(part), Absence.MISSING)
    measured = {ReportPart.LATENCY: "not measured", ReportPart.EXPORT: "not exported"}.get(ReportPart(part), "none")
    return {Absence.FOLLOWS: FOLLOWS, Absence.OFF: f"{measured}: turned off", Absence.MISSING: measured}[why]


def filled_parts(runs: list[RunView]) -> dict[str, bool]:
    """Return which optional columns of the tables after the first have a value for any run."""
    verdicts = [verdict for run in runs for verdict in run.explanations]
    bundles = [bundle for run in runs for bundle in run.exports.values()]
    return {
        "boxes": any(verdict.hits is not None or verdict.box_share is not None for verdict in verdicts),
        "head": any(verdict.similarity_head is not None for verdict in verdicts),
        "backbone": any(verdict.similarity_backbone is not None for verdict in verdicts),
        "int8": any(bundle.int8.test_top1 is not None for bundle in bundles),
        "milliseconds": any(run.latency("compiled", 1) is not None for run in runs),
    }


def minority_classes(comparison: Comparison) -> list[tuple[int, int]]:
    """Return (class number, training images) of the five classes with the fewest, ascending; [] if all are equal."""
    counts = comparison.dataset["images_per_class"]
    train = [counts[name]["train"] for name in comparison.dataset["class_names"]]
    return sorted(enumerate(train), key=lambda item: item[1])[:MINORITY] if min(train) < max(train) else []


def efficiency(run: RunView, decision: DecisionMetric) -> dict[str, float | None]:
    """Return test accuracy in percent per million parameters, per billion multiply-adds and per millisecond.

    Args:
        run: the run, of which the final phase is used.
        decision: the accuracy: top-1, or balanced accuracy where that decides.
    """
    accuracy = 100 * getattr(run.final.result.metrics["test"], decision)
    latency = run.latency("compiled", 1)
    return {
        "parameters": accuracy / (run.final.result.parameters / 1e6),
        "multiply_adds": accuracy / (run.cost.multiply_adds / 1e9) if run.cost else None,
        "milliseconds": accuracy / latency.p50_ms if latency else None,
    }


def _color_scale() -> np.ndarray:
    from matplotlib import colormaps

    row = (colormaps[COLORMAP](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    return np.repeat(row[None], 8, axis=0)
