"""The table, CSV, page and figures of a sweep show the content of its records."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from keras_bench.console import Log
from keras_bench.evaluation.records import Interval
from keras_bench.frames import frame_csv
from keras_bench.pages.provenance import Provenance
from keras_bench.sweep.figures import factor_figure
from keras_bench.sweep.page import captions, difference, sweep_frame, sweep_page, sweep_table
from keras_bench.sweep.records import Factor, FactorLine, PointRun, SweepPoint
from keras_bench.sweep.tabulate import tabulate

NAMES = ("a", "b")
PROVENANCE = Provenance("2026-01-01 00:00 UTC", "0")
SETTINGS = "experiment made, tl.epochs=3"


def run(number, correct_images, val, train=(40, 80), seed=0):
    correct = np.arange(20) < correct_images
    images = dict(zip(NAMES, train, strict=True))
    folder = f"runs/made@{number}/VGG16/seed{seed}"
    return PointRun(number, "VGG16", seed, "tl", val, np.arange(20) % 2, correct, "t", NAMES, images, 90.0, folder, 0)


POINTS = [SweepPoint(f"l2={value}", {"model.l2": value}, False) for value in (0, 1e-3)]


@pytest.fixture(scope="module")
def table():
    return tabulate(("l2", "L2 of the head", "made"), POINTS, [run(0, 18, 0.75), run(1, 8, 0.5)], 0)


def interval(value):
    return Interval(value, value - 0.1, value + 0.05)


def test_the_table_marks_baseline_and_best_and_gives_the_test_results(table):
    console = Console(width=250, file=io.StringIO(), record=True)
    Log(console).table(sweep_table(table))
    lines = console.export_text().splitlines()
    first = next(line for line in lines if "l2=0 * (baseline)" in line)
    assert "75.0%" in first
    assert "90.0% [69.9, 97.2]" in first  # Wilson, 18 of 20
    assert "1 min 30 s" in first
    second = next(line for line in lines if "l2=0.001" in line)
    assert "-50.0 [" in second
    assert "0.002" in second  # 2 · 0.5^10
    assert second.rstrip(" │").endswith("worse")


def test_the_verdict_does_not_hide_images_that_val_and_test_share(table):
    assert "On test images that no decision has used" in table.verdict[0]
    runs = [replace(run(0, 18, 0.75), shared_with_val=3), run(1, 8, 0.5)]
    shared = tabulate(("l2", "", "made"), POINTS, runs, 0)
    assert "On test images that share 3 images with val" in shared.verdict[0]
    kinds = "exact duplicates, near-duplicates or look-alikes"
    sentence = f"Decisions used val, which shares 3 images with test ({kinds})."
    assert sentence in captions(shared)[0]
    assert "No decision used test" not in captions(shared)[0]
    figures = {factor.key: factor_figure(factor, "l2") for factor in shared.factors}
    footer = " ".join(sweep_page(shared, figures, SETTINGS, PROVENANCE).partition("<footer>")[2].split())
    assert f"once per phase. {sentence} Top-1" in footer
    assert "only to report the results" not in footer
    assert "only to report the results" in sweep_page(table, figures, SETTINGS, PROVENANCE)
    unknown = tabulate(("l2", "", "made"), POINTS, [runs[0], replace(runs[1], shared_with_val=None)], 0)
    assert "It is unknown whether decisions used some of the test images." in captions(unknown)[0]


def test_captions_explain_the_choice_the_tests_and_minority_recall(table):
    lines = captions(table)
    assert "time for features that points share counts for each" in " ".join(lines)
    assert lines[0].startswith("* marks the best point, chosen on val. No decision used test.")
    assert lines[-1] == "Minority recall: mean recall of the fifth of classes with the fewest training images (a)."
    balanced = tabulate(("l2", "", "made"), POINTS, [run(0, 18, 0.75, (80, 80)), run(0, 18, 0.7, (80, 80), seed=2)], 0)
    assert captions(balanced)[-1] == ("Minority recall: —, since class sizes in train differ by no more than 10 %.")
    assert captions(balanced)[2].startswith(
        "Figures are means over seeds 0, 2; the paired tests and their differences use"
    )


def test_the_csv_is_unrounded_and_has_a_column_for_each_key(table):
    rows = list(csv.DictReader(io.StringIO(frame_csv(sweep_frame(table)))))
    assert [row["model.l2"] for row in rows] == ["0", "0.001"]
    assert [float(row["test_top1"]) for row in rows] == [0.9, 0.4]
    # Class a has images 0, 2, …, 18, of which those below 18 and those below 8 are correct.
    assert [float(row["test_minority_recall"]) for row in rows] == [0.9, 0.4]
    assert float(rows[1]["difference"]) == pytest.approx(-0.5)
    assert float(rows[1]["difference_low"]) == -table.rows[1].paired.difference.high
    assert float(rows[1]["p_value"]) == pytest.approx(2 / 1024)
    assert (rows[0]["p_value"], rows[0]["test_says"], rows[1]["test_says"]) == ("", "", "worse")
    assert rows[1]["runs"] == "runs/made@1/VGG16/seed0"


def test_a_difference_is_the_point_minus_the_baseline(table):
    baseline_minus_point = table.rows[1].paired.difference
    assert difference(table.rows[1].paired) == baseline_minus_point.negated
    assert difference(None) is None


def test_the_page_shows_table_figures_and_verdict(table):
    figures = {factor.key: factor_figure(factor, "l2") for factor in table.factors}
    page = sweep_page(table, figures, SETTINGS, PROVENANCE)
    assert page.count("<svg") == 1
    assert "VGG16: best on val is l2=0 (val top-1 75.0 %)" in page
    assert '<td data-sort="0.9">90.0 <span class="ends">[' in page
    assert "experiment made, tl.epochs=3" in page
    assert "test top-1 of each seed" not in page
    assert page.count("<tr") == 3


def factor(values, *lines, key="model.l2", mean=None):
    return Factor(
        key,
        tuple(values),
        tuple(
            FactorLine(label, tuple(None if value is None else interval(value) for value in line))
            for label, line in lines
        ),
        None if mean is None else tuple(map(interval, mean)),
    )


def test_one_line_has_intervals_on_a_numeric_axis():
    axes = factor_figure(factor([0.2, 0.4], ("", [0.5, 0.75])), "title").axes[0]
    bars = axes.containers[0]
    np.testing.assert_allclose(bars.lines[0].get_xydata(), [[0.2, 50], [0.4, 75]])
    np.testing.assert_allclose(bars.lines[2][0].get_segments()[0], [[0.2, 40], [0.2, 55]])
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_title()) == ("linear", "model.l2", "title")
    assert axes.get_legend() is None


def test_a_point_without_an_interval_has_no_error_bar():
    line = FactorLine("", (Interval(0.5, 0.4, 0.55), Interval(1.0)))
    figure = factor_figure(Factor("model.l2", (0.2, 0.4), (line,), None), "")
    bars = figure.axes[0].containers[0]
    np.testing.assert_allclose(bars.lines[0].get_xydata(), [[0.2, 50], [0.4, 100]])
    first, second = bars.lines[2][0].get_segments()
    np.testing.assert_allclose(first, [[0.2, 40], [0.2, 55]])
    assert len(second) == 0 or np.isnan(second[:, 1]).all()
    figure.savefig(io.BytesIO())


def test_undefined_intervals_are_named_in_the_table_and_empty_in_the_csv(table):
    rows = (
        replace(table.rows[0], balanced_accuracy=Interval(1.0), minority_recall=Interval(1.0)),
        replace(table.rows[1], paired=replace(table.rows[1].paired, difference=Interval(0.0))),
    )
    bare = replace(table, rows=rows)
    console = Console(width=250, file=io.StringIO(), record=True)
    Log(console).table(sweep_table(bare))
    shown = console.export_text()
    assert "+0.0 [not defined]" in shown
    assert "100.0% [not defined]" in shown
    first, second = csv.DictReader(io.StringIO(frame_csv(sweep_frame(bare))))
    assert (first["test_balanced_accuracy"], first["test_balanced_accuracy_low"]) == ("1.0", "")
    assert (second["difference"], second["difference_low"], second["difference_high"]) == ("0.0", "", "")
    page = sweep_page(replace(bare, factors=()), {}, "", PROVENANCE)
    assert '100.0 <span class="ends">[not defined]</span>' in page
    assert '+0.0 <span class="ends">[not defined]</span>' in page


def test_an_axis_is_logarithmic_if_the_largest_number_is_over_twenty_times_the_smallest():
    def scale(*values):
        figure = factor_figure(factor(values, ("", [0.5] * len(values))), "")
        figure.savefig(io.BytesIO())
        return figure.axes[0].get_xscale()

    assert scale(1, 20) == "linear"
    assert scale(1, 21) == "log"
    assert scale(0, 1e-4, 1e-2) == "symlog"
    assert scale(-1, 1e-4, 1e-2) == "linear"


def test_values_that_are_not_numbers_are_drawn_side_by_side_in_their_order():
    axes = factor_figure(factor(["sgd", "adam", True], ("", [0.5, 0.6, 0.7]), key="$x$"), "").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["sgd", "adam", "true"]
    assert axes.containers[0].lines[0].get_xdata().tolist() == [0, 1, 2]
    assert axes.get_xlabel() == r"\$x\$"
    long = factor_figure(factor(["x" * 40, [0, 0.1], "a=1, b=2"], ("", [0.5, 0.6, 0.7])), "").axes[0]
    assert [label.get_text() for label in long.get_xticklabels()] == ["x" * 31 + "…", "[0, 0.1]", "a=1, b=2"]
    assert long.get_xticklabels()[0].get_rotation() == 30


def test_lines_are_faint_if_there_is_a_mean():
    lines = (("adam", [0.5, 0.7]), ("sgd", [0.7, 0.9]), ("rmsprop", [0.1, None]))
    axes = factor_figure(factor([1, 2], *lines, mean=[0.6, 0.8]), "").axes[0]
    faint = [line for line in axes.lines if line.get_alpha()]
    assert [line.get_ydata().tolist() for line in faint] == [[50, 70], [70, 90], [10]]
    assert axes.containers[0].lines[0].get_ydata().tolist() == [60, 80]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["adam", "sgd", "rmsprop", "mean of 2"]


def test_points_of_a_search_are_not_joined_by_lines():
    lines = (("a", [0.5, None, None]), ("b", [None, 0.6, None]), ("c", [None, None, 0.4]))
    axes = factor_figure(factor([0.1, 0.2, 0.3], *lines), "").axes[0]
    assert [container.lines[0].get_xydata().tolist() for container in axes.containers] == [
        [[0.1, 50]], [[0.2, 60]], [[0.3, 40]],
    ]  # fmt: skip
    assert {container.lines[0].get_linestyle() for container in axes.containers} == {"None"}
    assert axes.get_legend() is None
