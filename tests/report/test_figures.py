import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from keras_bench.console import Log
from keras_bench.evaluation.classes import confusion_counts
from keras_bench.evaluation.metrics import METRICS, SplitMetrics
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import Interval
from keras_bench.explain.records import METHOD_TITLES
from keras_bench.frames import frame_csv, frame_of
from keras_bench.pages.html import interval_html, points
from keras_bench.pages.provenance import Provenance
from keras_bench.pages.svg import inline_svg
from keras_bench.pages.text import plain, shorten
from keras_bench.report.experiment_figures import accuracy_for_cost, all_learning_curves
from keras_bench.report.model_card import model_card
from keras_bench.report.overlays import explanation_grid, overlay
from keras_bench.report.page import filled_columns, report_page
from keras_bench.report.pareto import pareto_front
from keras_bench.report.read import read_comparison
from keras_bench.report.run_figures import confusion_matrix, learning_curves, sample_predictions
from keras_bench.report.tables import comparison_table, results_frame
from keras_bench.runs.folders import experiment_folder
from keras_bench.runs.results import PhaseResult
from tests.made import make_run


def history(*values):
    rows = [{"cross_entropy": v, "val_cross_entropy": v + 0.1, "top1": 1 - v, "val_top1": 0.9 - v} for v in values]
    return frame_of(rows)


def predictions(labels, probabilities):
    names = np.array([f"c{k}" for k in range(len(probabilities[0]))])
    return Predictions(np.arange(len(labels)).astype(str), np.array(labels), np.array(probabilities, np.float32), names)


def metrics(top1):
    return SplitMetrics(images=10, cross_entropy=0.5, top1=top1, balanced_accuracy=top1, macro_f1=top1, macro_auc=0.9)


def result(phase, val, test=0.5):
    return PhaseResult(
        phase, 1, 2, 20.0, 10.0, 100.0, 4_000_000, 300_000, 2048.0, {"val": metrics(val), "test": metrics(test)},
        {"data": "abc", "weights": "none"}, {"xla": False}, {"commit": "123", "packages": {"keras": "3"}},
    )  # fmt: skip


def test_learning_curves_continue_through_the_phases_with_a_line_between_them():
    figure = learning_curves({"tl": history(0.5, 0.4, 0.3), "ft": history(0.2, 0.1)}, "VGG16, $money$")
    left, right = figure.axes
    assert [line.get_xdata().tolist() for line in left.lines[:2]] == [[1, 2, 3], [1, 2, 3]]
    np.testing.assert_allclose(left.lines[3].get_ydata(), [0.3, 0.2])
    border = next(line for line in left.lines if line.get_linestyle() == "--")
    assert border.get_xdata() == [3.5, 3.5]
    assert [text.get_text() for text in left.texts] == ["tl", "ft"]
    assert right.get_ylabel() == "top-1"
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["train", "val"]
    figure.savefig(io.BytesIO())


def test_the_confusion_matrix_shows_shares_of_the_true_class():
    test = predictions([0, 0, 0, 1, 2], [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]])
    figure = confusion_matrix(confusion_counts(test), np.arange(3), ["cat, Felis", "dog", "<b>$x_1"], "test")
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[2 / 3, 1 / 3, 0], [0, 1, 0], [1, 0, 0]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", r"<b>\$x_1"]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "1", "1", "2"]
    figure.savefig(io.BytesIO())


def test_the_confusion_matrix_shows_the_classes_in_the_given_order():
    counts = np.array([[5, 0, 1], [0, 6, 0], [2, 0, 4]])
    figure = confusion_matrix(counts, np.array([1, 0, 2]), ["a", "b", "c"], "test")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["b", "a", "c"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[1, 0, 0], [0, 5 / 6, 1 / 6], [0, 1 / 3, 2 / 3]])


def test_the_confusion_matrix_has_room_for_200_names_and_a_small_form():
    counts, order = np.eye(200, dtype=int), np.arange(200)
    titles = [f"class {k}" for k in order]
    figure = confusion_matrix(counts, order, titles, "many")
    axes = figure.axes[0]
    assert len(axes.texts) == 0
    assert len(axes.get_yticklabels()) == 200
    # Labels of 7 points are 72 · height / 200 points apart and must not overlap.
    assert 72 * figure.get_size_inches()[1] * 0.8 / 200 > 7
    small = confusion_matrix(counts, order, titles, "many", labelled=False)
    assert small.get_size_inches().max() <= 8
    assert len(small.axes[0].get_yticklabels()) == 0
    small.savefig(io.BytesIO(), dpi=50)


def test_sample_predictions_name_the_true_class_of_wrong_ones():
    images = [np.zeros((4, 5, 3), np.uint8)] * 2
    figure = sample_predictions(images, predictions([0, 1], [[0.75, 0.25], [0.6, 0.4]]), ["cat", "dog"], "test")
    assert [axes.get_title() for axes in figure.axes] == ["cat (75%)", "cat (60%)\ntrue: dog"]
    figure.savefig(io.BytesIO())


def test_long_names_are_shortened():
    assert shorten("goldfish, Carassius auratus") == "goldfish"
    assert shorten("a" * 200) == "a" * 21 + "…"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """Two models, one with a single phase, one of seed 1."""
    out = tmp_path_factory.mktemp("runs")
    runs = [make_run(out, "MobileNet", skills=(("tl", 3.0),)), make_run(out, "VGG16", seed=1, images=200)]
    return read_comparison(experiment_folder(out, "made"), runs, Log(Console(file=io.StringIO())))


def test_runs_are_ranked_by_the_val_score_of_their_final_phase(comparison):
    assert [run.final.val_score.value for run in comparison.runs] == sorted(
        (run.final.result.metrics["val"].top1 for run in comparison.runs), reverse=True
    )


def test_the_table_rounds_marks_the_final_phase_and_shows_names_as_they_are(comparison):
    console = Console(width=250, file=io.StringIO(), record=True)
    Log(console).table(comparison_table(replace(comparison, name="made [bold]")))
    text = console.export_text()
    assert "tl *" in text
    assert "ft *" in text
    assert "VGG16 seed 1" in text
    assert "made [bold]" in text
    best = comparison.runs[0].final
    assert f"{best.test['top1'].value:.1%} [{100 * best.test['top1'].low:.1f}" in text


def results_text(comparison):
    return frame_csv(results_frame(comparison))


def test_results_csv_is_unrounded_and_states_provenance(comparison):
    rows = list(csv.DictReader(io.StringIO(results_text(comparison))))
    assert len(rows) == 3
    run = comparison.runs[0]
    assert rows[0]["model"] == run.model
    assert float(rows[0]["test_top1"]) == next(iter(run.phases.values())).result.metrics["test"].top1
    assert (rows[0]["commit"], rows[0]["data"], rows[0]["keras"], rows[0]["xla"]) == (
        "0123456789ab", "f" * 32, "3.15.1", "False",
    )  # fmt: skip


def test_the_scatter_draws_every_model_with_its_interval_and_the_front(comparison):
    figure = accuracy_for_cost(comparison.runs, pareto_front)
    for axes in figure.axes:
        assert len(axes.containers) == 2
        assert {text.get_text() for text in axes.texts} == {run.label for run in comparison.runs}
    parameters = figure.axes[1].containers[0].lines[0].get_xdata()
    assert parameters == [4.0]
    without = accuracy_for_cost([replace(run, cost=None, latencies=[]) for run in comparison.runs], pareto_front)
    assert [axes.texts[0].get_text() for axes in without.axes] == ["not measured", "MobileNet", "not measured"]


def test_models_that_cost_about_the_same_are_drawn_inside_the_scatter(comparison):
    alike = [
        replace(run, cost=replace(run.cost, multiply_adds=10**9 + number)) for number, run in enumerate(comparison.runs)
    ]
    assert accuracy_for_cost(alike, pareto_front).axes[2].get_xlim() == (0, pytest.approx(1.1))


def test_an_undefined_interval_is_reported_everywhere_and_drawn_without_a_bar(comparison):
    run = comparison.runs[0]
    view = run.final
    test = {**view.test, "top1": Interval(1.0), "macro_f1": Interval(1.0)}
    bare = replace(run, phases={**run.phases, run.final_phase: replace(view, test=test)})
    changed = replace(comparison, runs=[bare, *comparison.runs[1:]])
    figure = accuracy_for_cost(changed.runs, pareto_front)
    bar_ends = {len(container.lines[2][0].get_segments()[0]) for container in figure.axes[1].containers}
    assert bar_ends == {0, 2}  # the changed run has no bar, the other run's has two ends
    figure.savefig(io.BytesIO())
    console = Console(width=250, file=io.StringIO(), record=True)
    Log(console).table(comparison_table(changed))
    assert "100.0% [not defined]" in console.export_text()
    rows = csv.DictReader(io.StringIO(results_text(changed)))
    row = next(row for row in rows if row["model"] == run.model and row["final"] == "True")
    assert (row["test_top1_low"], row["test_top1_high"], row["test_macro_f1_low"]) == ("", "", "")
    card = model_card(changed, bare, Provenance("now", "0"))
    assert "| macro-F1 | 100.0 % | not defined |" in card
    assert "Wilson" in card
    assert interval_html(Interval(1.0)) == '100.0 <span class="ends">[not defined]</span>'
    assert points(Interval(0.0)) == '+0.0 <span class="ends">[not defined]</span>'


@pytest.mark.parametrize("name", METRICS)
def test_every_entry_of_metrics_is_shown_everywhere(comparison, name):
    metric, run = METRICS[name], comparison.runs[0]
    score, unit = run.final.test[name], metric.unit
    low, value, high = (f"{unit.scale * number:.{unit.digits}f}" for number in (score.low, score.value, score.high))
    rows = csv.DictReader(io.StringIO(results_text(comparison)))
    (final,) = [row for row in rows if (row["model"], row["final"]) == (run.model, "True")]
    assert float(final[f"val_{name}"]) == getattr(run.final.result.metrics["val"], name)
    assert [float(final[f"test_{name}{end}"]) for end in ("", "_low", "_high")] == [score.value, score.low, score.high]
    card = model_card(comparison, run, Provenance("now", "0"))
    shown = f"| {metric.title} | {value}{' ' * bool(unit.name)}{unit.name} | {low} to {high}"
    assert card.count(shown) == 1
    figures = [
        "learning_curves",
        "accuracy_for_cost",
        "epoch_seconds",
        "reliability",
        "coverage",
        "accuracy_for_latency",
    ]
    figures += [f"confusion_{number}" for number in range(len(comparison.runs))]
    page = report_page(comparison, dict.fromkeys(figures, "<svg></svg>"), Provenance("now", "0"))
    assert re.search(rf"<th[^>]*>(test )?{metric.heading}(, {unit.name})?</th>", page)
    assert f'<td data-sort="{score.value}">{value} <span class="ends">[{low}, {high}]</span></td>' in page
    if metric.terminal:
        (column,) = [column for column in comparison_table(comparison).columns if column.header == metric.heading]
        written = f"{metric.terminal.scale * score.value:.{metric.terminal.digits}f}{metric.terminal.name}"
        assert list(column.cells)[list(run.phases).index(run.final_phase)] == written


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_was_not_computed_is_an_error(comparison, name):
    run = comparison.runs[0]
    without = {metric: interval for metric, interval in run.final.test.items() if metric != name}
    bare = replace(run, phases={**run.phases, run.final_phase: replace(run.final, test=without)})
    with pytest.raises(KeyError, match=name):
        filled_columns(replace(comparison, runs=[bare]))


def test_a_metric_that_an_earlier_version_did_not_compute_is_computed_from_its_predictions(tmp_path):
    run = make_run(tmp_path, "MobileNet")
    now = results_text(read_comparison(experiment_folder(tmp_path, "made"), [run], Log()))
    tree = json.loads(run.result("ft").read_text())
    for split in ("val", "test"):
        assert tree["metrics"][split].pop("top5") > 0
    run.result("ft").write_text(json.dumps(tree))
    assert results_text(read_comparison(experiment_folder(tmp_path, "made"), [run], Log())) == now


def test_all_learning_curves_continue_through_the_phases(comparison):
    figure = all_learning_curves(comparison.runs)
    ends = {float(np.max(line.get_xdata())) for line in figure.axes[0].lines}
    assert ends >= {4.0, 8.0}
    figure.savefig(io.BytesIO())


def test_an_overlay_is_gray_where_there_is_no_evidence_and_coloured_where_there_is():
    image = np.full((8, 8, 3), (200, 0, 0), np.uint8)
    heat = np.zeros((4, 4), np.uint8)
    heat[:, 2:] = 255
    blended = overlay(image, heat).astype(int)
    assert np.ptp(blended[:, 0], axis=-1).max() <= 3  # inferno begins at black
    assert (blended[:, 7, 0] > blended[:, 7, 2]).all()  # and ends in light yellow
    assert blended[:, 7].mean() > blended[:, 0].mean() + 60


def test_the_grid_of_maps_uses_the_common_names_of_the_methods(comparison):
    figure = explanation_grid(comparison.explained, METHOD_TITLES, comparison.class_titles)
    titles = [axes.get_title(loc="left").split("\n")[-1] for axes in figure.axes[1:5]]
    assert titles == ["Saliency", "SmoothGrad", "Grad-CAM", "Grad-CAM++"]


def test_columns_without_any_value_are_left_out(comparison):
    shown = [column.header for column in comparison_table(comparison).columns]
    assert {"top-5", "AUC", "ms"} <= set(shown)
    bare = [
        replace(run, latencies=[], phases={p: replace(v, test={**v.test, "top5": None}) for p, v in run.phases.items()})
        for run in comparison.runs
    ]
    fewer = replace(comparison, runs=bare)
    assert [column.header for column in comparison_table(fewer).columns] == [
        name for name in shown if name not in ("top-5", "ms")
    ]
    assert filled_columns(comparison) - filled_columns(fewer) == {"top5"}


def test_a_figure_in_a_page_uses_the_page_colours_and_has_no_outside_references(comparison):
    svg = inline_svg(all_learning_curves(comparison.runs))
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "<metadata" not in svg
    assert not re.findall(r'href="(?!#|data:)', svg)


def test_characters_missing_from_the_font_become_boxes_and_formulas_stay_text():
    assert plain("$x_1$ 🦔") == r"\$x_1\$ □"


def test_a_result_is_read_from_json_as_written():
    written = result("tl", 0.6)
    assert PhaseResult.from_json(json.loads(json.dumps(written.to_json()))) == written
