"""Balanced accuracy as the deciding metric: by hand, against scikit-learn and SciPy, and where top-1 disagrees."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation import statistics
from keras_bench.evaluation.decisions import (
    DRAWS,
    compare_pairs,
    paired_decision_test,
    score,
    score_interval,
    sign_flip,
)
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import Interval, PairedTest
from keras_bench.evaluation.statistics import draw_counts
from keras_bench.report.verdict import verdict_lines
from keras_bench.runs.results import best_phase
from tests.evaluation.test_statistics import random_predictions

TOP1, BALANCED = DecisionMetric.TOP1, DecisionMetric.BALANCED_ACCURACY
LABELS = np.repeat([0, 1, 3], [90, 20, 10])  # class 2 has no image
GENERATOR = np.random.default_rng(7)
# The first is good at the large class, the second at the small ones.
LARGE = GENERATOR.random(120) < np.where(LABELS == 0, 0.95, 0.3)
SMALL = GENERATOR.random(120) < np.where(LABELS == 0, 0.7, 0.9)


def predictions(correct):
    """Predictions that are correct where `correct` is true and another class with images elsewhere."""
    predicted = np.where(correct, LABELS, np.array([1, 3, 0, 0])[LABELS])
    ids = np.array([f"{i}.jpg" for i in range(len(correct))])
    return Predictions(ids, LABELS, np.eye(4, dtype=np.float32)[predicted] * 0.7 + 0.075, np.array(list("abcd")))


def test_scores_agree_with_scikit_learn_and_have_the_same_intervals_as_the_metrics():
    for correct in (LARGE, SMALL):
        run = predictions(correct)
        expected = balanced_accuracy_score(run.labels, run.predicted)
        assert score(correct, LABELS, BALANCED) == pytest.approx(expected)
        assert score(correct, LABELS, TOP1) == correct.mean()
        counts = draw_counts(120)
        metrics = statistics.metric_intervals(run, counts)
        for decision in (TOP1, BALANCED):
            interval = score_interval(correct, LABELS, counts, decision)
            metric = metrics[decision]
            assert (interval.value, interval.low, interval.high) == pytest.approx(
                (metric.value, metric.low, metric.high)
            )
    assert score(LARGE, LABELS, TOP1) > score(SMALL, LABELS, TOP1)
    assert score(LARGE, LABELS, BALANCED) < score(SMALL, LABELS, BALANCED)


@pytest.mark.parametrize(("first", "second"), [(1, 0), (5, 5), (3, 9), (12, 3), (40, 17), (200, 260)])
def test_with_equal_weights_the_sign_flip_test_equals_mcnemars(first, second):
    difference = np.r_[np.ones(first), -np.ones(second), np.zeros(30)]
    exact = stats.binomtest(first, first + second).pvalue
    error = np.sqrt(exact * (1 - exact) / DRAWS)
    assert sign_flip(difference, np.full(len(difference), 0.3)) == pytest.approx(exact, abs=4 * error + 2 / DRAWS)


def test_with_unequal_weights_the_p_value_is_a_share_of_all_sign_patterns():
    difference = np.array([1, 1, -1, 1, 0, 1, -1, 1])
    weights = np.array([0.1, 0.1, 0.1, 0.5, 9.0, 0.5, 0.5, 0.7])
    observed = difference @ weights
    sums = [np.abs(difference) * weights @ signs for signs in product((1, -1), repeat=8)]
    exact = np.mean(np.abs(sums) >= abs(observed) - 1e-12)
    p_value = sign_flip(difference, weights, draws=100_000)
    assert p_value == pytest.approx(exact, abs=4 * np.sqrt(exact / 100_000))
    scipy_test = stats.permutation_test(
        (difference * weights, np.zeros(8)), lambda a, b, axis: (a - b).sum(axis=axis),
        permutation_type="samples", vectorized=True, n_resamples=np.inf,
    )  # fmt: skip
    assert exact == pytest.approx(scipy_test.pvalue)


def test_p_is_1_where_nothing_differs_and_the_smallest_where_everything_does():
    assert sign_flip(np.zeros(5), np.ones(5)) == 1
    assert sign_flip(np.ones(60), np.ones(60)) == 1 / (1 + DRAWS)


def test_the_paired_test_is_of_the_deciding_metric():
    counts = draw_counts(120)
    by_top1 = paired_decision_test(("large", LARGE), ("small", SMALL), LABELS, counts, TOP1)
    assert by_top1 == statistics.paired_top1_test("large", LARGE, "small", SMALL, counts)
    balanced = paired_decision_test(("large", LARGE), ("small", SMALL), LABELS, counts, BALANCED)
    assert (balanced.only_first, balanced.only_second) == (by_top1.only_first, by_top1.only_second)
    difference = score(LARGE, LABELS, BALANCED) - score(SMALL, LABELS, BALANCED)
    assert balanced.difference.value == pytest.approx(difference)
    assert by_top1.difference.value > 0 > balanced.difference.value
    assert (balanced.p_value, balanced.verdict()) == (pytest.approx(0, abs=0.01), "better")

    def resampled(correct, multiplicity):
        return np.mean([np.average(correct[k == LABELS], weights=multiplicity[k == LABELS]) for k in (0, 1, 3)])

    differences = [resampled(LARGE, row) - resampled(SMALL, row) for row in counts]
    ends = np.quantile(differences, (0.025, 0.975))
    assert (balanced.difference.low, balanced.difference.high) == pytest.approx(tuple(ends))


def test_if_all_classes_are_equally_large_both_tests_agree():
    labels = np.arange(120) % 4
    counts = draw_counts(120)
    by_top1, balanced = (
        paired_decision_test(("a", LARGE), ("b", SMALL), labels, counts, decision) for decision in (TOP1, BALANCED)
    )
    assert balanced.difference.value == pytest.approx(by_top1.difference.value)
    assert balanced.p_value == pytest.approx(by_top1.p_value, abs=4 * np.sqrt(by_top1.p_value / DRAWS))


def test_holm_corrects_over_the_whole_table_and_more_tests_use_more_draws():
    good, poor = predictions(SMALL), predictions(LARGE)
    counts = draw_counts(120, resamples=20)
    few = compare_pairs([("a", good, "b", poor), ("a", good, "twin", good)], counts, BALANCED)
    assert few[0].p_holm == pytest.approx(2 * few[0].p_value)
    assert few[1].p_holm == 1
    everything, nothing = predictions(np.ones(120, bool)), predictions(np.zeros(120, bool))
    many = compare_pairs([("all", everything, "none", nothing)] * 600, counts, BALANCED)
    assert many[0].p_value == pytest.approx(1 / 60_001)
    assert many[0].verdict() == "worse"  # with 10,000 draws, 600 tests could never show anything
    by_top1 = compare_pairs([("a", good, "b", poor)], counts, TOP1)
    assert by_top1 == [statistics.paired_top1_test("a", good.correct, "b", poor.correct, counts)]


def test_models_are_compared_on_the_same_images():
    good, poor = random_predictions(skill=2.0), random_predictions(skill=0.4, seed=1)
    counts = draw_counts(300)
    (pair, twins) = compare_pairs([("good", good, "poor", poor), ("good", good, "twin", good)], counts, TOP1)
    assert pair.only_first == int((good.correct & ~poor.correct).sum())
    assert pair.difference.value == pytest.approx(good.correct.mean() - poor.correct.mean())
    differences = good.correct.astype(float) - poor.correct
    bootstrap = stats.bootstrap(
        (differences,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(1)
    )
    assert pair.difference.low == pytest.approx(bootstrap.confidence_interval.low, abs=0.01)
    assert pair.p_holm == pytest.approx(min(1, 2 * pair.p_value))
    assert pair.verdict() == "worse"
    assert (twins.only_first, twins.p_holm, twins.verdict()) == (0, 1.0, "no difference shown")


def test_the_metric_chooses_the_best_phase_and_ties_go_to_the_first():
    def result(top1, balanced):
        return SimpleNamespace(metrics={"val": SimpleNamespace(top1=top1, balanced_accuracy=balanced)})

    results = {"tl": result(0.8, 0.7), "ft": result(0.9, 0.6)}
    assert (best_phase(results, TOP1), best_phase(results, BALANCED)) == ("ft", "tl")
    assert best_phase({"tl": result(0.8, 0.7), "ft": result(0.8, 0.7)}, BALANCED) == "tl"


def view(label, chosen_by):
    test = {"top1": Interval(0.8, 0.78, 0.82), "balanced_accuracy": Interval(0.6, 0.5, 0.7)}
    metrics = {"test": SimpleNamespace(images=2000)}
    final = SimpleNamespace(test=test, val_score=Interval(0.65, 0.6, 0.7), result=SimpleNamespace(metrics=metrics))
    return SimpleNamespace(name=label, label=label, final=final, final_phase="ft", chosen_by=chosen_by, cost=None)


def test_the_verdict_names_the_deciding_metric_and_says_if_runs_used_another():
    pair = PairedTest("A", "B", 5, 9, Interval(0.04, 0.01, 0.07), 0.01, 0.01)
    lines = verdict_lines([view("A", BALANCED), view("B", TOP1)], [pair], [pair], BALANCED)
    assert lines[0].startswith("Best: A (ft), chosen on val with balanced accuracy 65.0 % (60.0 to 70.0). On 2,000 ")
    assert lines[0].endswith("its balanced accuracy is 60.0 % (50.0 to 70.0).")
    assert lines[1] == (
        "The runs used different metrics on val: balanced accuracy ranks them all here, but the final phase of B was "
        "chosen by top-1."
    )
    assert lines[2].startswith("B: worse than the best. Its test balanced accuracy is 4.0 points lower")
    same = verdict_lines([view("A", BALANCED), view("B", BALANCED)], [pair], [pair], BALANCED)
    assert not any("used different metrics" in line for line in same)
