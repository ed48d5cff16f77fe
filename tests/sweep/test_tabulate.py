"""The table of a sweep, computed by hand for a few made-up predictions."""

from dataclasses import replace

import numpy as np
import pytest

from keras_bench.errors import RunError
from keras_bench.evaluation.statistics import draw_counts, percentile_interval, share_interval
from keras_bench.sweep.records import PointRun, SweepPoint, settings_text, short_keys, value_text
from keras_bench.sweep.tabulate import tabulate

LABELS = np.array([0] * 10 + [1] * 6 + [2] * 4)
HEADING = ("dropout", "dropout of the head", "made")


def point(label="", named=False, **settings):
    settings = {key.replace("__", "."): value for key, value in settings.items()}
    return SweepPoint(label or settings_text(settings, short_keys(settings)), settings, named)


def run(number, wrong, val, seed=0, model="MobileNet", train=(50, 50, 50), seconds=10.0, test="t"):
    """A run that gets the images at some positions wrong."""
    correct = np.ones(len(LABELS), bool)
    correct[list(wrong)] = False
    names = ("a", "b", "c")
    images = dict(zip(names, train, strict=True))
    folder = f"runs/made@{number}/{model}/seed{seed}"
    return PointRun(number, model, seed, "tl", val, LABELS, correct, test, names, images, seconds, folder, 0)


DROPOUT = [point(model__dropout=value) for value in (0.2, 0.4, 0.6)]
WRONG = {0: (0, 1, 16, 17), 1: (0, 16), 2: (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 16, 17)}


def test_rows_contain_the_figures_of_the_predictions():
    runs = [run(0, WRONG[0], 0.8), run(1, WRONG[1], 0.9), run(2, WRONG[2], 0.3)]
    table = tabulate(HEADING, DROPOUT, runs, 0)
    assert [row.point.label for row in table.rows] == ["dropout=0.2", "dropout=0.4", "dropout=0.6"]
    assert [row.top1.value for row in table.rows] == [16 / 20, 18 / 20, 6 / 20]
    # recalls of the classes with 10, 6 and 4 images
    expected = [(0.8 + 1 + 0.5) / 3, (0.9 + 1 + 0.75) / 3, (0.1 + 0.5 + 0.5) / 3]
    assert [row.balanced_accuracy.value for row in table.rows] == pytest.approx(expected)
    assert table.rows[0].top1 == share_interval(16, 20)
    assert [row.is_best for row in table.rows] == [False, True, False]
    assert [row.is_baseline for row in table.rows] == [True, False, False]
    assert table.rows[0].paired is None
    assert (table.test_images, table.seed, table.notes) == (20, {"MobileNet": 0}, ())


def test_every_point_is_tested_against_the_baseline_with_holms_correction():
    table = tabulate(HEADING, DROPOUT, [run(0, WRONG[0], 0.8), run(1, WRONG[1], 0.9), run(2, WRONG[2], 0.3)], 0)
    better, worse = table.rows[1].paired, table.rows[2].paired
    assert (better.first, better.second) == ("dropout=0.2", "dropout=0.4")
    assert (better.only_first, better.only_second) == (0, 2)  # images 1 and 17
    assert (worse.only_first, worse.only_second) == (10, 0)
    assert better.difference.value == pytest.approx(-0.1)
    # Exact McNemar: 2 · 0.5^2 and 2 · 0.5^10; Holm doubles only the smaller one.
    assert (better.p_value, worse.p_value) == pytest.approx((0.5, 2 / 1024))
    assert (better.p_holm, worse.p_holm) == pytest.approx((0.5, 4 / 1024))
    assert (better.verdict(), worse.verdict()) == ("no difference shown", "worse")


def test_the_best_point_is_chosen_on_val_and_not_on_test():
    table = tabulate(HEADING, DROPOUT, [run(0, (), 0.5), run(1, WRONG[2], 0.9), run(2, (), 0.9)], 0)
    assert [row.is_best for row in table.rows] == [False, True, False]  # of equal scores, the first
    assert table.verdict[0].startswith(
        "MobileNet: best on val is dropout=0.4 (val top-1 90.0 %). On test images that no"
    )
    assert "its top-1 is 30.0 % (" in table.verdict[0]
    assert table.verdict[1].startswith(
        "Compared with the baseline dropout=0.2: worse on test, -70.0 points (95 % interval -9"
    )
    assert table.verdict[1].endswith("p < 0.001).")
    assert table.verdict[2] == (
        "The other points compared with the baseline on test: 0 better, 0 worse, 1 with no difference shown."
    )


def test_the_verdict_says_if_the_baseline_is_best():
    table = tabulate(HEADING, DROPOUT[:2], [run(0, WRONG[0], 0.9), run(1, WRONG[1], 0.8)], 0)
    assert table.verdict[0].endswith("It is the baseline.")
    assert len(table.verdict) == 2


def test_several_seeds_are_averaged_and_the_paired_test_uses_one_of_them():
    runs = [
        run(0, (0, 1, 2, 3), 0.8, seed=1), run(0, (0, 1), 0.6, seed=2), run(0, (), 0.7, seed=3),
        run(1, (0,), 0.9, seed=2), run(1, (0, 1, 2), 0.7, seed=1),
    ]  # fmt: skip
    table = tabulate(HEADING, DROPOUT[:2], runs, 0)
    first, second = table.rows
    assert (first.seeds, second.seeds) == ((1, 2, 3), (1, 2))
    assert first.val_score == pytest.approx(0.7)
    assert first.top1.value == pytest.approx((16 + 18 + 20) / 60)
    assert first.scores_of_seeds == (0.8, 0.9, 1.0)
    # Of the class of ten images, 0 and 1 are correct with one of three seeds, 2 and 3 with two, the others with all.
    assert first.balanced_accuracy.value == pytest.approx(((2 / 3 + 4 / 3 + 6) / 10 + 2) / 3)
    assert table.seed == {"MobileNet": 1}
    assert (second.paired.only_first, second.paired.only_second) == (0, 1)  # image 3, of seed 1
    assert "(val top-1 80.0 %, mean of 2 seeds)" in table.verdict[0]


def test_without_a_shared_seed_or_a_baseline_a_note_explains_why_there_are_no_tests():
    table = tabulate(HEADING, DROPOUT[:2], [run(0, (), 0.8, seed=0), run(1, (), 0.7, seed=1)], 0)
    assert table.notes == ("MobileNet: no paired tests, since no seed is finished for all points",)
    table = tabulate(HEADING, DROPOUT, [run(1, (), 0.8), run(2, (), 0.7)], 0)
    assert table.notes == ("MobileNet: no paired tests, since the baseline is missing",)
    assert [row.paired for row in table.rows] == [None, None]
    assert len(table.verdict) == 1


def test_points_tested_on_other_images_are_not_paired():
    other = replace(run(1, (), 0.8), correct=np.ones(12, bool), labels=LABELS[:12], test="other")
    table = tabulate(HEADING, DROPOUT, [run(0, (), 0.7), other, run(2, (3,), 0.6)], 0)
    assert [row.paired is None for row in table.rows] == [True, True, False]
    assert table.notes == (
        "MobileNet, dropout=0.4: no paired test, since it was tested on other images than the baseline",
    )
    with pytest.raises(RunError, match="the seeds of one point of MobileNet were tested on different images"):
        tabulate(HEADING, DROPOUT, [run(0, (), 0.7), run(0, (), 0.7, seed=1, test="other")], 0)


def test_the_minority_is_the_classes_with_the_fewest_training_images():
    def table(train):
        return tabulate(HEADING, DROPOUT[:1], [run(0, (0, 10, 16, 17, 18), 0.8, train=train)], 0)

    assert table((30, 80, 50)).minority == ("a",)
    assert table((30, 80, 50)).rows[0].minority_recall.value == 0.9
    assert table((80, 30, 30)).minority == ("b", "c")
    assert table((80, 30, 30)).rows[0].minority_recall.value == pytest.approx((5 / 6 + 1 / 4) / 2)
    assert table((110, 100, 105)).minority == ()  # within 10 %
    assert table((110, 100, 105)).rows[0].minority_recall is None
    assert table((111, 100, 105)).minority == ("b",)


@pytest.mark.parametrize(
    ("train", "minority"),
    [
        ((10, 20, 30, 40, 50, 60, 70, 80, 90, 100), "ab"),  # a fifth of ten
        ((100, 20, 20, 20, 100, 100, 100, 100, 100, 100), "bcd"),  # and classes of the same size
        ((100, 20, 100, 95, 100, 100, 100, 100, 100, 100), "b"),  # but no class within 10 % of the largest
    ],
)
def test_the_minority_is_a_fifth_of_the_classes(train, minority):
    names = tuple("abcdefghij")
    ten_classes = replace(run(0, (), 0.8), class_names=names, train_images=dict(zip(names, train, strict=True)))
    assert tabulate(HEADING, DROPOUT[:1], [ten_classes], 0).minority == tuple(minority)


def test_each_model_has_a_baseline_and_a_best_point_and_all_share_one_correction():
    runs = [run(k, WRONG[k], 0.9 - k / 10, model=model) for model in ("VGG16", "MobileNet") for k in (0, 2)]
    table = tabulate(HEADING, DROPOUT, runs, 0)
    assert table.models == ["VGG16", "MobileNet"]
    assert [row.is_best for row in table.rows] == [True, False, True, False]
    tests = [row.paired for row in table.rows if row.paired]
    assert [test.p_holm for test in tests] == pytest.approx([4 / 1024, 4 / 1024])
    assert [line.label for line in table.factors[0].lines] == ["VGG16", "MobileNet"]


def grid():
    points = [point(tl__optimizer=name, model__dropout=value) for name in ("sgd", "adam") for value in (0.4, 0.2)]
    wrong = [(0, 1), (0,), (0, 1, 2, 3), ()]
    return points, [run(k, wrong[k], 0.5) for k in range(4)]


def test_a_factor_has_a_line_per_combination_of_other_settings_and_their_mean():
    table = tabulate(HEADING, *grid(), 0)
    optimizer, dropout = table.factors
    assert (optimizer.key, optimizer.values, optimizer.is_numeric) == ("tl.optimizer", ("sgd", "adam"), False)
    assert (dropout.key, dropout.values, dropout.is_numeric) == ("model.dropout", (0.2, 0.4), True)  # sorted
    assert [(line.label, [score.value for score in line.values]) for line in dropout.lines] == [
        ("optimizer=sgd", [0.95, 0.9]), ("optimizer=adam", [1.0, 0.8]),
    ]  # fmt: skip
    assert [score.value for score in dropout.mean] == pytest.approx([(0.95 + 1) / 2, (0.9 + 0.8) / 2])
    # With dropout 0.2, image 0 counts half, since one of the two runs gets it correct.
    correct = np.array([0.5] + [1.0] * 19)
    assert dropout.mean[0] == percentile_interval(0.975, draw_counts(20) @ correct / 20)


def test_the_mean_is_over_lines_that_have_all_values():
    points, runs = grid()
    table = tabulate(HEADING, points, runs[:3], 0)
    dropout = next(factor for factor in table.factors if factor.key == "model.dropout")
    assert dropout.lines[1].values[0] is None
    assert dropout.mean is None  # one complete line is not a mean


def test_a_single_line_has_no_mean_and_a_key_that_does_not_vary_is_not_a_factor():
    points = [point(tl__optimizer="sgd", model__dropout=value) for value in (0.2, 0.4)]
    table = tabulate(HEADING, points, [run(0, (), 0.5), run(1, (0,), 0.5)], 0)
    assert [factor.key for factor in table.factors] == ["model.dropout"]
    assert table.factors[0].mean is None
    assert [line.label for line in table.factors[0].lines] == ["optimizer=sgd"]


def test_points_with_names_or_different_keys_form_one_factor():
    named = [point("none", named=True), point("flip", named=True, augmentation__horizontal_flip=True)]
    table = tabulate(HEADING, named, [run(0, (), 0.5), run(1, (0,), 0.5)], 0)
    assert [(factor.key, factor.values) for factor in table.factors] == [("point", ("none", "flip"))]
    mixed = [point(tl__epochs=3), point(tl__optimizer="sgd")]
    table = tabulate(HEADING, mixed, [run(0, (), 0.5), run(1, (0,), 0.5)], 0)
    assert table.factors[0].values == ("epochs=3", "optimizer=sgd")


def test_keys_and_values_are_shortened_for_people():
    assert short_keys(["tl.optimizer", "ft.optimizer", "model.l2"]) == {
        "tl.optimizer": "tl.optimizer", "ft.optimizer": "ft.optimizer", "model.l2": "l2",
    }  # fmt: skip
    assert [value_text(value) for value in (1e-5, 0.1 + 0.2, True, None, [0, 0.5], "adam", 3)] == [
        "1e-05", "0.3", "true", "null", "[0, 0.5]", "adam", "3",
    ]  # fmt: skip
    assert settings_text({}, {}) == "unchanged"
