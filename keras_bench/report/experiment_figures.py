"""Figures that show all runs of an experiment; each function takes records and returns a matplotlib Figure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_bench.backbones.table import BACKBONES
from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.records import Interval
from keras_bench.pages.text import plain
from keras_bench.report.comparison import RunView
from keras_bench.report.outlook import FOLLOWS, Absence

# Okabe and Ito's palette without its yellow, which is hard to see on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDE = 10  # if there are many runs, ratio of largest to smallest cost above which the axis is logarithmic
LATENCY_CALL, LATENCY_BATCH = "compiled", 1  # the call and batch size that the latency axis shows
LATENCY_TITLE = "milliseconds per image (compiled call, batch 1, CPU, median)"

Front = Callable[[Sequence[float], Sequence[float]], list[bool]]


@dataclass(frozen=True)
class Style:
    """How one run is drawn in every figure.

    Attributes:
        color: colour of its lines and points.
        marker: marker of its points.
        fill: fill of its points: the colour, or white for a run from scratch if other runs were transferred.
    """

    color: str
    marker: str
    fill: str


def styles(runs: Sequence[RunView]) -> list[Style]:
    """Return a style per run: a colour of its own, or one colour per family if there are not enough colours."""
    if len(runs) <= len(COLORS):
        looks = [(number, number) for number in range(len(runs))]
    else:
        families = families_of(runs)
        family_numbers = [families.index(_family(run)) for run in runs]
        looks = [(family, family_numbers[:number].count(family)) for number, family in enumerate(family_numbers)]
    run_styles = []
    for run, (hue, shape) in zip(runs, looks, strict=True):
        color = COLORS[hue % len(COLORS)]
        fill = "white" if run.is_marked_scratch else color
        run_styles.append(Style(color, MARKERS[shape % len(MARKERS)], fill))
    return run_styles


def families_of(runs: Sequence[RunView]) -> list[str]:
    """Return the names of the runs' architecture families, without repetition, sorted."""
    return sorted({_family(run) for run in runs})


def _family(run: RunView) -> str:
    return BACKBONES[run.model].family.name


def all_learning_curves(runs: Sequence[RunView]) -> Figure:
    """Draw cross-entropy and top-1 of every run by epoch: val solid, train dashed, a dotted line where ft begins."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, metric, label in zip(panels, ("cross_entropy", "top1"), ("cross-entropy (nats)", "top-1"), strict=True):
        for run, style in zip(runs, styles(runs), strict=True):
            color = style.color
            start = 0
            name: str | None = plain(run.label)
            for view in run.phases.values():
                if view.history is None:
                    start += view.result.epochs
                    continue
                epochs = np.arange(len(view.history)) + start + 1
                axes.plot(epochs, view.history[metric], "--", color=color, linewidth=1, alpha=0.7)
                val = view.history[f"val_{metric}"]
                axes.plot(
                    epochs, val, "-", color=color, marker=style.marker, mfc=style.fill, markersize=3.5, label=name
                )
                if start:
                    axes.axvline(start + 0.5, color=color, linestyle=":", linewidth=1)
                name = None  # one entry per run in the legend
                start += len(view.history)
        axes.set_xlabel("epoch (dotted line: fine-tuning begins)")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    if panels[0].lines:
        _legend(panels[0], runs, title="val solid, train dashed")
    return figure


def accuracy_for_cost(
    runs: Sequence[RunView], pareto_front: Front, decision: DecisionMetric = DecisionMetric.TOP1
) -> Figure:
    """Draw test accuracy with its interval against latency, parameters and multiply-adds, each with its Pareto front.

    If there are many runs, each family has a colour and a thin line. Marked runs from scratch are hollow.

    Args:
        runs: the runs, of which the final phases are drawn.
        pareto_front: function from costs and accuracies to whether each point is on the front.
        decision: the accuracy: top-1, or balanced accuracy where that decides.
    """
    many = len(runs) > len(COLORS)
    figure = Figure(figsize=(13, 6.5) if many else (11, 4.2), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    costs = (
        (LATENCY_TITLE, _milliseconds),
        ("parameters, millions", lambda run: run.final.result.parameters / 1e6),
        ("multiply-adds per image, billions", lambda run: run.cost.multiply_adds / 1e9 if run.cost else None),
    )
    for axes, (label, cost_of) in zip(panels, costs, strict=True):
        points = _scatter(axes, runs, [cost_of(run) for run in runs], pareto_front, decision)
        if many:
            _join_families(axes, points)
        axes.set_xlabel(label, fontsize=8)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"test {decision.label}, %, with 95 % interval")
    _keep_labels_apart(figure)
    return figure


def accuracy_for_latency(
    runs: Sequence[RunView], pareto_front: Front, decision: DecisionMetric = DecisionMetric.TOP1
) -> Figure:
    """Draw the first panel of `accuracy_for_cost` alone, for the top of the page."""
    figure = Figure(figsize=(5.2, 3.3), layout="constrained")
    axes = figure.subplots()
    _scatter(axes, runs, [_milliseconds(run) for run in runs], pareto_front, decision)
    axes.set_xlabel(LATENCY_TITLE, fontsize=8)
    axes.set_ylabel(f"test {decision.label}, %, with 95 % interval", fontsize=8)
    axes.grid(alpha=0.3)
    _keep_labels_apart(figure)
    return figure


def _keep_labels_apart(figure: Figure) -> None:
    """Move the labels of points until none overlaps another."""
    figure.draw_without_rendering()  # computes the final layout, which the positions of labels depend on
    for axes in figure.axes:
        spread_labels(axes)


def _scatter(
    axes: Axes, runs: Sequence[RunView], costs: list[float | None], pareto_front: Front, decision: DecisionMetric
) -> list[tuple[RunView, float, float]]:
    """Draw the runs whose cost is known and return them with cost and accuracy."""
    points = []
    font_size = 6 if len(runs) > len(COLORS) else 8
    known_costs = [cost for cost in costs if cost is not None] or [1.0]
    is_wide = len(runs) > len(COLORS) and max(known_costs) > WIDE * min(known_costs)
    middle = math.sqrt(max(known_costs) * min(known_costs)) if is_wide else max(known_costs) / 2
    for run, style, cost in zip(runs, styles(runs), costs, strict=True):
        test = run.final.test[decision]
        if cost is None or test is None:
            continue
        value = 100 * test.value
        points.append((run, cost, value))
        bars = error_bars([test])
        axes.errorbar(cost, value, yerr=bars, fmt=style.marker, color=style.color, mfc=style.fill, capsize=3)
        side = "left" if cost <= middle else "right"
        offset = (7 if side == "left" else -7, 5)
        axes.annotate(plain(run.label), (cost, value), offset, textcoords="offset points", fontsize=font_size, ha=side)
    if not points:
        follows = any(Absence.FOLLOWS in run.absent.values() for run in runs)
        axes.text(0.5, 0.5, FOLLOWS if follows else "not measured", transform=axes.transAxes, ha="center")
        return points
    on_front = pareto_front([cost for _, cost, _ in points], [value for *_, value in points])
    front = sorted((cost, value) for (_, cost, value), is_on in zip(points, on_front, strict=True) if is_on)
    axes.step(*zip(*front, strict=True), where="post", color="0.5", linewidth=1, zorder=0)
    axes.margins(x=0.12, y=0.15)
    if is_wide:
        axes.set_xscale("log")
    else:  # not `left=0` alone: if costs are alike, the margin that Matplotlib computes from them cuts off the dearest
        axes.set_xlim(0, 1.1 * max(cost for _, cost, _ in points) or 1.0)
    return points


def error_bars(intervals: Sequence[Interval]) -> np.ndarray:
    """Return how far each interval extends below and above its value, in points, (2, N); NaN (no bar) without one."""
    ends = [interval.ends or (math.nan, math.nan) for interval in intervals]
    return np.array(
        [
            [100 * (interval.value - low) for interval, (low, _) in zip(intervals, ends, strict=True)],
            [100 * (high - interval.value) for interval, (_, high) in zip(intervals, ends, strict=True)],
        ]
    )


def _join_families(axes: Axes, points: list[tuple[RunView, float, float]]) -> None:
    """Join the points of each family in order of cost, leaving out marked runs from scratch."""
    for number, family in enumerate(families_of([run for run, *_ in points])):
        line = sorted(
            (cost, value) for run, cost, value in points if _family(run) == family and not run.is_marked_scratch
        )
        if line:
            color = COLORS[number % len(COLORS)]
            axes.plot(*zip(*line, strict=True), color=color, linewidth=1, alpha=0.5, label=family, zorder=1)
    if points:
        axes.legend(frameon=False, fontsize=8, loc="lower right")


def spread_labels(axes: Axes) -> None:
    """Move labels of points up or down, as little as possible, until none overlaps another."""
    pixels_per_point = axes.figure.dpi / 72
    taken: list[tuple[float, float, float, float]] = []
    labels = [text for text in axes.texts if hasattr(text, "xyann")]
    for label in sorted(labels, key=lambda text: text.get_window_extent().y0):
        box = label.get_window_extent()
        height = box.height + 1  # a pixel apart
        for step in range(2 * len(labels)):
            move = height * ((step + 1) // 2) * (1 if step % 2 else -1)
            low, high = box.y0 + move, box.y1 + move
            if not any(box.x0 < x1 and x0 < box.x1 and low < y1 and y0 < high for x0, y0, x1, y1 in taken):
                break
        taken.append((box.x0, low, box.x1, high))
        label.xyann = (label.xyann[0], label.xyann[1] + move / pixels_per_point)


def _milliseconds(run: RunView) -> float | None:
    latency = run.latency(LATENCY_CALL, LATENCY_BATCH)
    return latency.p50_ms if latency else None


def epoch_seconds(runs: Sequence[RunView]) -> Figure:
    """Draw the seconds per epoch of each phase of each run, including validation."""
    bars = [
        (f"{run.label} {phase}", view.result.seconds_per_epoch) for run in runs for phase, view in run.phases.items()
    ]
    figure = Figure(figsize=(7, 0.9 + 0.32 * len(bars)), layout="constrained")
    axes = figure.subplots()
    colors = [style.color for run, style in zip(runs, styles(runs), strict=True) for _ in run.phases]
    drawn_bars = axes.barh(range(len(bars)), [seconds for _, seconds in bars], color=colors)
    axes.bar_label(drawn_bars, [f"{seconds:,.1f} s" for _, seconds in bars], padding=3, fontsize=8)
    axes.set_yticks(range(len(bars)), [plain(name) for name, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("seconds per epoch")
    return figure


def reliability(runs: Sequence[RunView]) -> Figure:
    """Draw accuracy against confidence on test, before and after temperature scaling; the diagonal is perfect."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, when in zip(panels, ("before", "after"), strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        for run, style in zip(runs, styles(runs), strict=True):
            bins = getattr(run.final.calibration, when)
            label = f"{plain(run.label)} (ECE {100 * bins.error:.1f} %)"
            points = {"marker": style.marker, "mfc": style.fill, "markersize": 4}
            axes.plot(bins.confidence, bins.accuracy, color=style.color, label=label, **points)
        axes.set_title(f"{when} temperature scaling", fontsize=10)
        axes.set_xlabel("confidence")
        axes.grid(alpha=0.3)
        _legend(axes, runs)
    panels[0].set_ylabel("accuracy")
    return figure


def coverage(runs: Sequence[RunView]) -> Figure:
    """Draw test top-1 against the share of the images classified, most confident first."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for run, style in zip(runs, styles(runs), strict=True):
        curve = run.final.calibration
        axes.plot(100 * curve.coverage, 100 * curve.covered_accuracy, color=style.color, label=plain(run.label))
    axes.set_xlabel("share of the images classified, most confident first, %")
    axes.set_ylabel("test top-1 among them, %")
    axes.grid(alpha=0.3)
    _legend(axes, runs)
    return figure


def _legend(axes: Axes, runs: Sequence[RunView], title: str | None = None) -> None:
    size = 6 if len(runs) > len(COLORS) else 8
    axes.legend(frameon=False, title=title, fontsize=size, title_fontsize=size, ncols=2 if size == 6 else 1)
