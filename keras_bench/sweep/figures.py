"""Draws the effect of one key of a sweep on top-1 or balanced accuracy on test; returns a Figure, saves nothing."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.records import Interval
from keras_bench.pages.text import cut, plain
from keras_bench.report.experiment_figures import COLORS, MARKERS, error_bars
from keras_bench.sweep.records import Factor, FactorLine, value_text

LOG_RATIO = 20  # the axis is logarithmic where the largest number is more than this many times the smallest
NAMED_LINES = 8  # at most this many lines are named in the legend
TICKED_VALUES = 10  # up to this many numbers have a tick each
LONG_LABELS = 45  # characters of all labels together that fit horizontally
LONG_LABEL = 32  # characters of one label


def factor_figure(factor: Factor, title: str, decision: DecisionMetric = DecisionMetric.TOP1) -> Figure:
    """Draw the test score over a factor's values: one line per setting of the other keys, faint if there is a mean.

    Intervals are drawn on the mean, or on the lines where there is none. Points are not joined where each setting of
    the other keys occurs once, as in a search, nor on an axis of names, unless lines are needed to show which points
    belong together.

    Args:
        factor: the key that varies, with its scores.
        title: title of the figure.
        decision: the metric of the scores.
    """
    width = 6.4 if factor.is_numeric else max(6.4, 2 + 0.7 * len(factor.values))
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    axes = figure.subplots()
    positions = _set_up_axis(axes, factor)
    are_single = all(len(_measured(positions, line.values)) == 1 for line in factor.lines)
    unjoined = are_single if len(factor.lines) > 1 else not factor.is_numeric
    for number, line in enumerate(factor.lines):
        if unjoined:
            _draw_factor(axes, positions, line.values, "o", COLORS[0], None)
        elif factor.mean:
            _draw_faint(axes, positions, line, number)
        else:
            label = plain(line.label) if line.label and number < NAMED_LINES else None
            style = MARKERS[number % len(MARKERS)] + "-"
            _draw_factor(axes, positions, line.values, style, COLORS[number % len(COLORS)], label)
    if factor.mean:
        complete = sum(None not in line.values for line in factor.lines)
        _draw_factor(axes, positions, factor.mean, "o-", "black", f"mean of {complete}")
    axes.set_xlabel(plain(factor.key))
    axes.set_ylabel(f"test {decision.label}, %, with 95 % interval")
    axes.set_title(plain(title), fontsize=10)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False)
    return figure


def _set_up_axis(axes: Axes, factor: Factor) -> list[float]:
    """Scale and label the axis of the factor, and return the position of each of its values on it."""
    if not factor.is_numeric:
        labels = [cut(value_text(value), LONG_LABEL) for value in factor.values]
        axes.set_xticks(range(len(labels)), labels)
        if sum(map(len, labels)) > LONG_LABELS:
            axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
        axes.margins(x=0.08)
        return [float(position) for position in range(len(labels))]
    values = [float(value) for value in factor.values]
    positive = [value for value in values if value > 0]
    if positive and min(values) >= 0 and max(positive) > LOG_RATIO * min(positive):
        if min(values) > 0:
            axes.set_xscale("log")
        else:  # zero has no logarithm: it gets a linear stretch below the smallest value
            axes.set_xscale("symlog", linthresh=min(positive))
        axes.xaxis.set_minor_locator(NullLocator())
    if len(values) <= TICKED_VALUES:
        axes.set_xticks(values, [value_text(value) for value in factor.values])
    return values


def _measured(positions: Sequence[float], values: Sequence[Interval | None]) -> list[tuple[float, Interval]]:
    """Return the positions that have a value, with it."""
    return [(position, value) for position, value in zip(positions, values, strict=True) if value is not None]


def _draw_factor(
    axes: Axes,
    positions: Sequence[float],
    values: Sequence[Interval | None],
    style: str,
    color: str,
    label: str | None,
) -> None:
    measured = _measured(positions, values)
    x = [position for position, _ in measured]
    y = [100 * value.value for _, value in measured]
    bars = error_bars([value for _, value in measured])
    axes.errorbar(x, y, yerr=bars, fmt=style, color=color, capsize=3, markersize=5, label=label)


def _draw_faint(axes: Axes, positions: Sequence[float], line: FactorLine, number: int) -> None:
    measured = _measured(positions, line.values)
    x, y = [position for position, _ in measured], [100 * value.value for _, value in measured]
    label = plain(line.label) if number < NAMED_LINES else None
    color = COLORS[number % len(COLORS)]
    axes.plot(x, y, "o-", color=color, alpha=0.45, linewidth=1, markersize=3, label=label)
