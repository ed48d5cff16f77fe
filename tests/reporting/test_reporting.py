import csv
import io

import numpy as np
import pytest
from rich.console import Console

from keras_bench.console import Log
from keras_bench.records.predictions import Predictions
from keras_bench.records.results import PhaseResult, SplitMetrics
from keras_bench.reporting.comparison import Row, comparison_table, ranked, results_csv
from keras_bench.reporting.figures import confusion_matrix, learning_curves, sample_predictions, shorten


def history(*values):
    return [{"cross_entropy": v, "val_cross_entropy": v + 0.1, "top1": 1 - v, "val_top1": 0.9 - v} for v in values]


def predictions(labels, probabilities):
    names = np.array([f"c{k}" for k in range(len(probabilities[0]))])
    return Predictions(np.arange(len(labels)).astype(str), np.array(labels), np.array(probabilities, np.float32), names)


def metrics(top1):
    return SplitMetrics(10, 0.5, top1, None, top1, top1, 0.9)


def result(phase, val, test=0.5):
    return PhaseResult(
        phase, 1, 2, 20.0, 10.0, 100.0, 4_000_000, 300_000, 2048.0, {"val": metrics(val), "test": metrics(test)},
        {"data": "abc", "weights": "none"}, {"xla": False}, {"commit": "123", "packages": {"keras": "3"}},
    )  # fmt: skip


def test_learning_curves_run_on_through_the_phases_with_a_border_between():
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


def test_the_confusion_matrix_holds_shares_of_the_true_class():
    given = predictions([0, 0, 0, 1, 2], [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]])
    figure = confusion_matrix(given, ["cat, Felis", "dog", "<b>$x_1"], "test")
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[2 / 3, 1 / 3, 0], [0, 1, 0], [1, 0, 0]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", r"<b>\$x_1"]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "1", "1", "2"]
    figure.savefig(io.BytesIO())


def test_the_confusion_matrix_stays_drawable_at_200_classes():
    labels = np.arange(200)
    figure = confusion_matrix(predictions(labels, np.eye(200)), [f"class {k}" for k in labels], "many")
    assert len(figure.axes[0].texts) == 0
    assert figure.get_size_inches().max() <= 15
    figure.savefig(io.BytesIO(), dpi=50)


def test_sample_predictions_say_what_is_wrong():
    images = [np.zeros((4, 5, 3), np.uint8)] * 2
    figure = sample_predictions(images, predictions([0, 1], [[0.75, 0.25], [0.6, 0.4]]), ["cat", "dog"], "test")
    assert [axes.get_title() for axes in figure.axes] == ["cat (75%)", "cat (60%)\ntrue: dog"]
    figure.savefig(io.BytesIO())


def test_long_names_are_cut():
    assert shorten("goldfish, Carassius auratus") == "goldfish"
    assert shorten("a" * 200) == "a" * 21 + "…"


@pytest.fixture
def rows():
    return [
        Row("A", 0, result("tl", 0.6), False),
        Row("A", 0, result("ft", 0.7, test=0.1), True),
        Row("B", 0, result("tl", 0.9, test=0.2), True),
        Row("B", 0, result("ft", 0.8), False),
    ]


def test_runs_are_ranked_by_val_of_their_final_phase_never_by_test(rows):
    assert [(row.model, row.result.phase) for row in ranked(rows)] == [
        ("B", "tl"),
        ("B", "ft"),
        ("A", "tl"),
        ("A", "ft"),
    ]


def test_the_table_rounds_and_marks_the_final_phase_and_shows_names_as_they_are(rows):
    table = comparison_table([*rows, Row("[red]C[/red]", 1, result("tl", 0.1), True)], "demo [bold]")
    console = Console(width=200, file=io.StringIO(), record=True)
    log = Log(console)
    log.table(table)
    text = console.export_text()
    assert "tl *" in text
    assert "90.0%" in text
    assert "—" in text  # top-5 of five classes
    assert "[red]C[/red] seed 1" in text
    assert "demo [bold]" in text


def test_results_csv_is_unrounded_and_carries_provenance(rows):
    lines = list(csv.DictReader(io.StringIO(results_csv(rows))))
    assert len(lines) == 4
    assert lines[0]["model"] == "B"
    assert lines[0]["test_top1"] == "0.2"
    assert lines[0]["test_top5"] == ""
    assert (lines[0]["commit"], lines[0]["data"], lines[0]["keras"], lines[0]["xla"]) == ("123", "abc", "3", "False")


def test_a_result_survives_json():
    import json

    given = result("tl", 0.6)
    assert PhaseResult.from_json(json.loads(json.dumps(given.to_json()))) == given
