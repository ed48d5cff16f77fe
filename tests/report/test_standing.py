"""The line after each phase: its scores with intervals, and its rank among the finished runs of the same images."""

import json

import pytest

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.statistics import share_interval
from keras_bench.evaluation.words import share_words
from keras_bench.report.standing import Rival, ordinal, rank_words, standing_line
from keras_bench.runs.folders import ExperimentDir, RunDir
from tests.made import make_run, make_training

TOP1 = DecisionMetric.TOP1
RIVALS = [Rival("A", 0.9), Rival("B", 0.7), Rival("C", 0.5)]


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (0.95, "1st of 4 by val top-1, ahead of A"),
        (0.8, "2nd of 4 by val top-1, behind A"),
        (0.7, "2nd of 4 by val top-1, level with B"),
        (0.1, "4th of 4 by val top-1, behind C"),
    ],
)
def test_the_rank_counts_the_better_ones_and_names_the_next(score, words):
    assert rank_words(score, RIVALS, TOP1) == words
    assert rank_words(score, [], TOP1) == ""


def test_ordinals():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th")
    ]


@pytest.fixture
def folder(tmp_path):
    return ExperimentDir(tmp_path / "made")


def scores(run, phase):
    """Return the start of the line, from the saved predictions."""
    texts = []
    for split in ("val", "test"):
        correct = Predictions.from_npz(run.predictions(phase, split)).correct
        texts.append(f"{split} top-1 {share_words(share_interval(int(correct.sum()), len(correct)))}")
    return f"{phase}: {', '.join(texts)}"


def test_the_first_phase_has_scores_with_intervals_and_no_rank(folder):
    run = RunDir(folder.root / "MobileNet" / "seed0")
    make_training(run, (("tl", 1.5),))  # no run.json: the run goes on
    assert standing_line(folder, run, "tl", TOP1) == scores(run, "tl")


def test_a_phase_is_ranked_among_the_final_phases_of_the_finished_runs(folder, tmp_path):
    make_run(tmp_path, "VGG16", skills=(("tl", 0.5), ("ft", 4.0)))
    make_run(tmp_path, "ResNet50", seed=1, skills=(("tl", 0.5),))
    run = make_run(tmp_path, "MobileNet", skills=(("tl", 2.0),))
    other = make_run(tmp_path, "MobileNetV2", skills=(("tl", 9.0),))
    result = json.loads(other.result("tl").read_text())
    other.result("tl").write_text(json.dumps({**result, "inputs": {**result["inputs"], "data": "other images"}}))
    line = standing_line(folder, run, "tl", TOP1)
    assert line == f"{scores(run, 'tl')}; 2nd of 3 by val top-1, behind VGG16"
    assert standing_line(folder, run, "tl", DecisionMetric.BALANCED_ACCURACY).endswith(
        "2nd of 3 by val balanced accuracy, behind VGG16"
    )


def test_damaged_and_unfinished_runs_are_not_counted(folder, tmp_path):
    run = make_run(tmp_path, "MobileNet", skills=(("tl", 2.0),))
    damaged = make_run(tmp_path, "VGG16", skills=(("tl", 4.0),))
    damaged.result("tl").write_text("{")
    unfinished = make_run(tmp_path, "ResNet50", skills=(("tl", 4.0),))
    unfinished.run.unlink()
    choice = make_run(tmp_path, "Xception", skills=(("tl", 4.0),))
    choice.run.write_text("[")
    assert standing_line(folder, run, "tl", TOP1) == scores(run, "tl")
