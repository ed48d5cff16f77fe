"""The report of an experiment as one HTML file that opens offline: no script, style, font or image from outside."""

import base64
import io
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from keras_bench.console import duration
from keras_bench.records.audit import Audit
from keras_bench.records.comparison import Comparison, RunView
from keras_bench.records.cost import CALLS, DEVICES
from keras_bench.records.decision import DecisionMetric
from keras_bench.records.explanations import METHOD_TITLES
from keras_bench.records.statistics import NOT_DEFINED, Interval
from keras_bench.records.study import CLAIMED, FIGURES
from keras_bench.reporting.overlays import COLORMAP, overlay
from keras_bench.reporting.published import beside, not_run, shown_rows, stated_figures
from keras_bench.reporting.svg import inline_svg

MINORITY = 5  # classes with the fewest training images that are listed


def report_page(comparison: Comparison, figures: Mapping[str, Figure], facts: Mapping[str, Any]) -> str:
    """Return the whole page.

    Args:
        comparison: everything gathered.
        figures: by name, as the templates use them.
        facts: what jobs computed besides: `pareto` (model label to cost names), `made` (time), `version`.
    """
    template = environment().get_template("report.html.j2")
    svgs = {name: Markup(inline_svg(figure)) for name, figure in figures.items()}
    return template.render(
        c=comparison,
        titles=comparison.class_titles,
        images=comparison.runs[0].final.result.metrics["test"].images,
        figures=svgs,
        facts=facts,
        calls=CALLS,
        devices=DEVICES,
        methods=METHOD_TITLES,
        columns=filled_columns(comparison),
        **published_figures(comparison),
        batch_sizes=sorted({one.batch_size for run in comparison.runs for one in run.latencies}),
        minority=minority_classes(comparison),
        color_scale=_data_uri(_scale(), "PNG"),
    )


def published_figures(comparison: Comparison) -> dict[str, Any]:
    """Return how the figures of published claims, and those that its rows state, are named and shown."""
    rows = shown_rows(comparison)
    return {
        "claimed": CLAIMED,
        "published_rows": rows,
        "not_run": not_run(comparison),
        "stated": [(name, FIGURES[name][0]) for name in stated_figures(rows)],
        "beside": partial(beside, comparison),
    }


def filled_columns(comparison: Comparison) -> set[str]:
    """Return which columns of the comparison that may be empty are not.

    They are named by a metric of SplitMetrics; "published" means that any of ours has a published figure below it.
    """
    tests = [view.test for run in comparison.runs for view in run.phases.values()]
    filled = {name for test in tests for name, found in test.items() if found is not None}
    stated = {name for row in shown_rows(comparison) for name in row.figures}
    return filled | ({"published"} if stated & {"test_top1", "test_macro_f1", "test_macro_auc"} else set())


def environment() -> Environment:
    """Return the Jinja environment of every page and card: everything is escaped, nothing undefined passes."""
    made = Environment(
        loader=PackageLoader("keras_bench.reporting"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": percent,
        "interval": interval,
        "points": points,
        "number": number,
        "p": lambda value: "< 0.001" if value < 0.001 else f"{value:.3f}",
        "duration": duration,
        "jpeg": lambda data: Markup(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"),
        "picture": lambda pixels: _data_uri(pixels, "JPEG"),
        "overlay": lambda heat, image: _data_uri(overlay(image, heat), "JPEG"),
    }
    made.globals |= {"efficiency": efficiency, "histogram": histogram, "class_totals": class_totals}
    return made


def minority_classes(comparison: Comparison) -> list[tuple[int, int]]:
    """Return (class number, training images) of the five classes with the fewest, fewest first; [] if all are equal."""
    counts = comparison.dataset["images_per_class"]
    train = [counts[name]["train"] for name in comparison.dataset["class_names"]]
    return sorted(enumerate(train), key=lambda item: item[1])[:MINORITY] if min(train) < max(train) else []


def histogram(sides: Mapping[int, int], bins: int = 12) -> list[tuple[str, int]]:
    """Return (range of pixels, images) in at most twelve equal ranges, empty ones left out."""
    low, high = min(sides), max(sides)
    width = max(1, -(-(high - low + 1) // bins))
    counts: dict[int, int] = {}
    for side, count in sides.items():
        counts[(side - low) // width] = counts.get((side - low) // width, 0) + count
    ends = {k: min(high, low + (k + 1) * width - 1) for k in counts}
    return [(f"{low + k * width} to {ends[k]}", counts[k]) for k in sorted(counts)]


def class_totals(audit: Audit) -> list[int]:
    """Return the number of images of each class over all splits."""
    return [sum(row.values()) for row in audit.images_per_class.values()]


def efficiency(run: RunView, decision: DecisionMetric) -> dict[str, float | None]:
    """Return test accuracy in percent for each million parameters, billion multiply-adds, and millisecond an image.

    Args:
        run: its final phase counts.
        decision: which accuracy: top-1, or balanced accuracy where that decides.
    """
    accuracy = 100 * getattr(run.final.result.metrics["test"], decision)
    latency = run.latency("compiled", 1)
    return {
        "parameters": accuracy / (run.final.result.parameters / 1e6),
        "multiply_adds": accuracy / (run.cost.multiply_adds / 1e9) if run.cost else None,
        "milliseconds": accuracy / latency.p50_ms if latency else None,
    }


def percent(share: float | None, digits: int = 1) -> str:
    """Return "72.7 %", or "—" for None."""
    return "—" if share is None else f"{100 * share:.{digits}f} %"


def interval(found: Interval | None, scale: float = 100, digits: int = 1) -> str:
    """Return a value with its ends below it, or "—" for None; in percent unless `scale` says otherwise."""
    if found is None:
        return "—"
    ends = ", ".join(number(scale * end, digits) for end in found.ends) if found.ends else NOT_DEFINED
    return Markup('{} <span class="ends">[{}]</span>').format(number(scale * found.value, digits), ends)


def points(found: Interval) -> str:
    """Return a difference in percentage points, with its sign: "+1.5 [−0.2, +3.1]"."""
    value, ends = (
        text.replace("-", "−") for text in (f"{100 * found.value:+z.1f}", found.ends_text(form="+z.1f", between=", "))
    )
    return Markup('{} <span class="ends">[{}]</span>').format(value, ends)


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many decimals and thousands separated, never "−0", or "—" for None."""
    return "—" if value is None else f"{value:z,.{digits}f}".replace("-", "−")


def _data_uri(pixels: np.ndarray, kind: str) -> Markup:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind, **({"quality": 82} if kind == "JPEG" else {}))
    return Markup(f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}")


def _scale() -> np.ndarray:
    from matplotlib import colormaps

    row = (colormaps[COLORMAP](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    return np.repeat(row[None], 8, axis=0)
