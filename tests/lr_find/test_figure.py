"""The figure of a learning-rate search shows the record's values, and stays readable when the loss explodes."""

import pytest

from keras_bench.lr_find.figure import rate_curve
from keras_bench.lr_find.records import RateSearch, RateSuggestion

RATES = (1e-4, 1e-3, 1e-2, 1e-1)
LOSSES = (2.0, 2.1, 1.0, 5000.0)
SMOOTHED = (2.0, 1.9, 1.2, 80.0)


def search(suggestion):
    return RateSearch("tl", 1e-4, 1.0, 5, RATES, LOSSES, SMOOTHED, "the loss diverged", suggestion)


def test_curves_and_marks_show_the_record():
    figure = rate_curve(search(RateSuggestion(1e-3, 1e-2, True)), "a $title$ & more")
    (axes,) = figure.axes
    single, smoothed, steepest, tenth = axes.get_lines()
    assert list(single.get_xdata()) == list(smoothed.get_xdata()) == list(RATES)
    assert (list(single.get_ydata()), list(smoothed.get_ydata())) == (list(LOSSES), list(SMOOTHED))
    assert list(steepest.get_xdata()) == [1e-3, 1e-3]
    assert list(tenth.get_xdata()) == pytest.approx([1e-3, 1e-3])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["of single batches", "smoothed", "falls fastest: 0.001", "a tenth of the minimum's: 0.001"]
    assert axes.get_xscale() == "log"
    assert axes.get_title() == r"a \$title\$ & more"
    bottom, top = axes.get_ylim()
    # Up to the minimum the losses lie between 1 and 2.1; the explosion leaves the axes.
    assert (bottom, top) == pytest.approx((1.0 - 0.11, 2.1 + 0.44))


def test_without_a_suggestion_only_the_curves_are_drawn():
    figure = rate_curve(search(None), "no suggestion")
    assert len(figure.axes[0].get_lines()) == 2
    flat = RateSearch("tl", 1e-4, 1.0, 5, (1e-4,), (2.0,), (2.0,), "the loss became nan", None)
    rate_curve(flat, "one point").canvas.draw()
