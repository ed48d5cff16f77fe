"""What one key of a sweep does to top-1 or balanced accuracy on test; records in, a Figure out, nothing saved."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.intervals import Interval
from keras_bench.pages.text import cut, plain
from keras_bench.report.figures import COLORS, MARKERS, error_bars
from keras_bench.sweep.records import Factor, FactorLine, value_text

LOG_RATIO = 20  # numbers that span more than this lie on a logarithmic axis
NAMED_LINES = 8  # so many lines have a name of their own in the legend
TICKED_VALUES = 10  # so many numbers have a tick of their own
LONG_LABELS = 45  # characters of all labels together that fit side by side
LONG_LABEL = 32  # characters of one label


def factor_figure(factor: Factor, title: str, decision: DecisionMetric = DecisionMetric.TOP1) -> Figure:
    """Draw the test score over a factor's values: a line for each setting of all else, faint where there is a mean.

    Intervals are drawn on the mean, or on the lines where there is none. Where every setting of all else occurs
    once, as in a search, its points stand alone; so do those of names, which have nothing between them, unless a line
    is needed to tell which points belong together.

    Args:
        factor: what varies.
        title: heads the figure.
        decision: what the scores are.
    """
    wide = 6.4 if factor.is_numeric else max(6.4, 2 + 0.7 * len(factor.values))
    figure = Figure(figsize=(wide, 4.4), layout="constrained")
    axes = figure.subplots()
    places = _axis(axes, factor)
    one_each = all(len(_known(places, line.values)) == 1 for line in factor.lines)
    alone = one_each if len(factor.lines) > 1 else not factor.is_numeric
    for number, line in enumerate(factor.lines):
        if alone:
            _draw(axes, places, line.values, "o", COLORS[0], None)
        elif factor.mean:
            _draw_faint(axes, places, line, number)
        else:
            label = plain(line.label) if line.label and number < NAMED_LINES else None
            _draw(axes, places, line.values, MARKERS[number % len(MARKERS)] + "-", COLORS[number % len(COLORS)], label)
    if factor.mean:
        whole = sum(None not in line.values for line in factor.lines)
        _draw(axes, places, factor.mean, "o-", "black", f"mean of {whole}")
    axes.set_xlabel(plain(factor.key))
    axes.set_ylabel(f"test {decision.label}, %, with 95 % interval")
    axes.set_title(plain(title), fontsize=10)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False)
    return figure


def _axis(axes: Axes, factor: Factor) -> list[float]:
    """Scale and label the axis of the factor, and return where each of its values lies."""
    if not factor.is_numeric:
        labels = [cut(value_text(value), LONG_LABEL) for value in factor.values]
        axes.set_xticks(range(len(labels)), labels)
        if sum(map(len, labels)) > LONG_LABELS:
            axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
        axes.margins(x=0.08)
        return [float(place) for place in range(len(labels))]
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


def _known(places: Sequence[float], values: Sequence[Interval | None]) -> list[tuple[float, Interval]]:
    return [(place, value) for place, value in zip(places, values, strict=True) if value is not None]


def _draw(
    axes: Axes,
    places: Sequence[float],
    values: Sequence[Interval | None],
    style: str,
    color: str,
    label: str | None,
) -> None:
    known = _known(places, values)
    heights = [100 * value.value for _, value in known]
    where = [place for place, _ in known]
    spread = error_bars([value for _, value in known])
    axes.errorbar(where, heights, yerr=spread, fmt=style, color=color, capsize=3, markersize=5, label=label)


def _draw_faint(axes: Axes, places: Sequence[float], line: FactorLine, number: int) -> None:
    known = _known(places, line.values)
    where, heights = [place for place, _ in known], [100 * value.value for _, value in known]
    label = plain(line.label) if number < NAMED_LINES else None
    color = COLORS[number % len(COLORS)]
    axes.plot(where, heights, "o-", color=color, alpha=0.45, linewidth=1, markersize=3, label=label)
