"""Figures that set all runs of an experiment side by side; records in, matplotlib Figure out, nothing saved."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_bench.records.comparison import RunView
from keras_bench.reporting.text import plain

# Okabe and Ito's palette without its yellow, which is hard to see on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LATENCY_CALL, LATENCY_BATCH = "compiled", 1  # what "latency" means in one figure

Front = Callable[[Sequence[float], Sequence[float]], list[bool]]


def all_learning_curves(runs: Sequence[RunView]) -> Figure:
    """Draw cross-entropy and top-1 of every run over its epochs: val solid, train dashed, a bar where ft begins."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, metric, label in zip(panels, ("cross_entropy", "top1"), ("cross-entropy (nats)", "top-1"), strict=True):
        for number, run in enumerate(runs):
            color = COLORS[number % len(COLORS)]
            start = 0
            for view in run.phases.values():
                epochs = np.arange(len(view.history)) + start + 1
                first = start == 0
                axes.plot(epochs, [row[metric] for row in view.history], "--", color=color, linewidth=1, alpha=0.7)
                val = [row[f"val_{metric}"] for row in view.history]
                name = plain(run.label) if first else None
                axes.plot(epochs, val, "-", color=color, marker=_marker(number), markersize=3.5, label=name)
                if not first:
                    axes.axvline(start + 0.5, color=color, linestyle=":", linewidth=1)
                start += len(view.history)
        axes.set_xlabel("epoch (dotted line: fine-tuning begins)")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False, title="val solid, train dashed", fontsize=8, title_fontsize=8)
    return figure


def accuracy_for_cost(runs: Sequence[RunView], pareto_front: Front) -> Figure:
    """Draw test top-1 with its interval over latency, parameters and multiply-adds, and the Pareto front of each.

    Args:
        runs: the final phase of each is drawn.
        pareto_front: from costs and accuracies to which points are on the front.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    kinds = (
        ("milliseconds an image (compiled call, batch 1, CPU, median)", _milliseconds),
        ("parameters, millions", lambda run: run.final.result.parameters / 1e6),
        ("multiply-adds an image, billions", lambda run: run.cost.multiply_adds / 1e9 if run.cost else None),
    )
    for axes, (label, cost_of) in zip(panels, kinds, strict=True):
        _scatter(axes, runs, [cost_of(run) for run in runs], pareto_front)
        axes.set_xlabel(label, fontsize=8)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("test top-1, %, with 95 % interval")
    return figure


def _scatter(axes: Axes, runs: Sequence[RunView], costs: list[float | None], pareto_front: Front) -> None:
    points = []
    for number, (run, cost) in enumerate(zip(runs, costs, strict=True)):
        test = run.final.test["top1"]
        if cost is None or test is None:
            continue
        value, low, high = (100 * share for share in (test.value, test.low, test.high))
        points.append((cost, value))
        spread = [[value - low], [high - value]]
        color = COLORS[number % len(COLORS)]
        axes.errorbar(cost, value, yerr=spread, fmt=_marker(number), color=color, capsize=3)
        side = "left" if cost <= max(c for c in costs if c is not None) / 2 else "right"
        offset = (7 if side == "left" else -7, 5)
        axes.annotate(plain(run.label), (cost, value), offset, textcoords="offset points", fontsize=8, ha=side)
    if not points:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
        return
    on_front = pareto_front([cost for cost, _ in points], [value for _, value in points])
    front = sorted(point for point, is_on in zip(points, on_front, strict=True) if is_on)
    axes.step(*zip(*front, strict=True), where="post", color="0.5", linewidth=1, zorder=0)
    axes.set_xlim(left=0)
    axes.margins(x=0.12, y=0.15)


def _milliseconds(run: RunView) -> float | None:
    found = run.latency(LATENCY_CALL, LATENCY_BATCH)
    return found.p50_ms if found else None


def epoch_seconds(runs: Sequence[RunView]) -> Figure:
    """Draw how long an epoch of each phase of each run took, validation included."""
    bars = [
        (f"{run.label} {phase}", view.result.seconds_per_epoch) for run in runs for phase, view in run.phases.items()
    ]
    figure = Figure(figsize=(7, 0.9 + 0.32 * len(bars)), layout="constrained")
    axes = figure.subplots()
    colors = [COLORS[number % len(COLORS)] for number, run in enumerate(runs) for _ in run.phases]
    drawn = axes.barh(range(len(bars)), [seconds for _, seconds in bars], color=colors)
    axes.bar_label(drawn, [f"{seconds:,.1f} s" for _, seconds in bars], padding=3, fontsize=8)
    axes.set_yticks(range(len(bars)), [plain(name) for name, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("seconds an epoch")
    return figure


def reliability(runs: Sequence[RunView]) -> Figure:
    """Draw accuracy over confidence on test, before and after temperature scaling; the diagonal is perfect."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, when in zip(panels, ("before", "after"), strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        for number, run in enumerate(runs):
            bins = getattr(run.final.calibration, when)
            label = f"{plain(run.label)} (ECE {100 * bins.error:.1f} %)"
            color = COLORS[number % len(COLORS)]
            axes.plot(bins.confidence, bins.accuracy, marker=_marker(number), markersize=4, color=color, label=label)
        axes.set_title(f"{when} temperature scaling", fontsize=10)
        axes.set_xlabel("confidence")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    panels[0].set_ylabel("accuracy")
    return figure


def coverage(runs: Sequence[RunView]) -> Figure:
    """Draw test top-1 if only the most confident share of the images is answered."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for number, run in enumerate(runs):
        curve = run.final.calibration
        color = COLORS[number % len(COLORS)]
        axes.plot(100 * curve.coverage, 100 * curve.covered_accuracy, color=color, label=plain(run.label))
    axes.set_xlabel("share of the images answered, most confident first, %")
    axes.set_ylabel("test top-1 among them, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return figure


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]
