"""The figure of a learning-rate search: record in, matplotlib Figure out, nothing saved."""

from matplotlib.figure import Figure

from keras_bench.lr_find.records import RateSearch
from keras_bench.pages.text import plain
from keras_bench.report.run_figures import BLUE, GREEN, ORANGE


def rate_curve(search: RateSearch, title: str) -> Figure:
    """Draw the loss of single batches and the smoothed loss over the learning rate, and mark the suggested rates.

    The axis ends a little above the highest loss before the minimum, so that a diverging loss does not flatten the
    rest.

    Args:
        search: a search that tried at least one rate.
        title: title of the figure.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(search.rates, search.losses, color="0.75", linewidth=1, label="of single batches")
    axes.plot(search.rates, search.smoothed, color=BLUE, linewidth=2, label="smoothed")
    if search.suggestion:
        marks = (
            (search.suggestion.steepest, GREEN, "-", "falls fastest"),
            (search.suggestion.below_minimum, ORANGE, "--", "a tenth of the minimum's"),
        )
        for rate, color, style, name in marks:
            axes.axvline(rate, color=color, linestyle=style, label=f"{name}: {rate:.2g}")
    lowest = search.smoothed.index(min(search.smoothed))
    bottom, top = min(search.losses), max(search.losses[: lowest + 1])
    axes.set_ylim(bottom - 0.1 * (top - bottom), top + 0.4 * (top - bottom)) if top > bottom else None
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.set_title(plain(title))
    return figure
