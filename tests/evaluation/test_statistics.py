"""Intervals and paired tests against SciPy, statsmodels and scikit-learn on the same arrays, and by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from keras_bench.evaluation.bootstrap import auc_distribution
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import Interval, PairedTest
from keras_bench.evaluation.statistics import (
    draw_counts,
    holm,
    mcnemar,
    mean_interval,
    metric_intervals,
    paired_top1_test,
    percentile_interval,
    proportion_interval,
    recall_interval,
    share_interval,
    top1_interval,
)


def random_predictions(images=300, classes=7, seed=0, skill=1.5, ties=False):
    """Predictions of a model that is correct more often than not, with every class present."""
    generator = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    logits = generator.normal(size=(images, classes))
    logits[np.arange(images), labels] += skill
    if ties:
        logits = logits.round()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = np.array([f"image{i}" for i in range(images)])
    return Predictions(ids, labels, probabilities.astype(np.float32), np.array([f"class{k}" for k in range(classes)]))


def resample(predictions, counts):
    """The predictions of one resample, each image as often as it was drawn."""
    return predictions.rows(np.repeat(np.arange(len(counts)), counts.astype(int)))


def test_counts_are_resamples_of_all_images_and_depend_only_on_the_seed():
    counts = draw_counts(50, resamples=600, seed=3)
    assert counts.shape == (600, 50)
    assert (counts.sum(axis=1) == 50).all()
    # Each image is drawn Binomial(50, 1/50) times: mean 1, variance 0.98, in each of 600 resamples.
    assert counts.mean() == 1
    assert counts.var() == pytest.approx(0.98, rel=0.05)
    assert np.array_equal(counts, draw_counts(50, resamples=600, seed=3))
    assert not np.array_equal(counts, draw_counts(50, resamples=600, seed=4))


def test_recall_of_several_classes_is_their_mean_and_of_all_classes_balanced_accuracy():
    correct, labels = np.array([1.0, 0.0, 1.0, 0.5, 1.0, 1.0]), np.array([0, 0, 1, 1, 2, 2])  # means over seeds
    assert recall_interval(correct, labels, [0, 1], draw_counts(6)).value == (0.5 + 0.75) / 2
    # With one of two images correct, a resample has a recall of 0, 0.5 or 1, or none if it contains neither.
    assert recall_interval(correct, labels, [0], draw_counts(6)) == Interval(0.5, 0.0, 1.0)
    assert recall_interval(correct, labels, [2], draw_counts(6)) == Interval(1.0)
    # For one run, the recall of one class is a share of its images.
    ends = proportion_confint(1, 2, method="wilson")
    assert recall_interval(correct > 0.5, labels, [1], draw_counts(6)) == Interval(0.5, *map(pytest.approx, ends))
    predictions = random_predictions()
    counts = draw_counts(300)
    expected = metric_intervals(predictions, counts)["balanced_accuracy"]
    recall = recall_interval(predictions.correct.astype(float), predictions.labels, range(7), counts)
    assert (recall.value, recall.low, recall.high) == pytest.approx((expected.value, expected.low, expected.high))


@pytest.mark.parametrize("ties", [False, True])
def test_the_metrics_of_every_resample_agree_with_scikit_learn(ties):
    predictions = random_predictions(ties=ties)
    counts = draw_counts(300, resamples=5, seed=1)
    intervals = metric_intervals(predictions, counts)
    rows = [resample(predictions, row) for row in counts]
    expected = {
        "balanced_accuracy": [sk.balanced_accuracy_score(r.labels, r.predicted) for r in rows],
        "macro_f1": [sk.f1_score(r.labels, r.predicted, average="macro") for r in rows],
        "cross_entropy": [-np.log(r.probabilities[np.arange(300), r.labels].astype(np.float64)).mean() for r in rows],
        "brier_score": [sum(sk.brier_score_loss(r.labels == k, r.probabilities[:, k]) for k in range(7)) for r in rows],
        "macro_auc": [
            np.mean([sk.roc_auc_score(r.labels == k, r.probabilities[:, k]) for k in range(7)]) for r in rows
        ],
    }
    for name, values in expected.items():
        low, high = np.quantile(values, (0.025, 0.975))
        assert (intervals[name].low, intervals[name].high) == pytest.approx((low, high), abs=1e-6), name


def test_the_area_under_the_curve_of_a_resample_skips_classes_it_lacks():
    labels = np.array([0, 0, 1, 1, 2, 2])
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1]] + [[0.2, 0.2, 0.6]] * 2
    )
    without_class_2 = np.array([[1, 2, 1, 2, 0, 0]], dtype=np.float32)
    chosen = np.repeat(np.arange(6), without_class_2[0].astype(int))
    areas = [sk.roc_auc_score(labels[chosen] == k, probabilities[chosen, k]) for k in (0, 1)]
    assert auc_distribution(labels, probabilities, without_class_2)[0] == pytest.approx(np.mean(areas))


def test_resamples_of_only_one_class_have_no_area_and_are_left_out():
    labels = np.array([0, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    areas = auc_distribution(labels, probabilities, np.array([[1, 1, 1], [2, 1, 0], [0, 0, 3]], dtype=np.float32))
    assert areas[0] == 1.0
    assert np.isnan(areas[1:]).all()
    few = Predictions(np.array(list("abc")), labels, probabilities.astype(np.float32), np.array(["x", "y"]))
    assert metric_intervals(few, draw_counts(3, resamples=200))["macro_auc"] == Interval(1.0)


def test_shares_of_images_have_the_wilson_intervals_of_statsmodels():
    predictions = random_predictions(images=400)
    intervals = metric_intervals(predictions, draw_counts(400, resamples=20))
    top1 = sk.accuracy_score(predictions.labels, predictions.predicted, normalize=False)
    top5 = sk.top_k_accuracy_score(predictions.labels, predictions.probabilities, k=5, normalize=False)
    for name, hits in (("top1", top1), ("top5", top5)):
        assert intervals[name].value == hits / 400
        assert intervals[name].ends == pytest.approx(proportion_confint(hits, 400, method="wilson"))


@pytest.mark.parametrize(
    ("hits", "images", "ends"),
    [(89, 89, ("95.9", "100.0")), (0, 89, ("0.0", "4.1")), (1, 1, ("20.7", "100.0")), (45, 89, ("40.4", "60.7"))],
)
def test_a_share_has_an_interval_even_at_0_and_1(hits, images, ends):
    interval = share_interval(hits, images)
    assert interval.ends_text(between=" ").split() == list(ends)
    assert interval.low <= interval.value <= interval.high
    assert interval.ends == pytest.approx(proportion_confint(hits, images, method="wilson"))
    assert proportion_interval(np.arange(images) < hits) == interval


def test_means_over_images_agree_with_scipy_bootstrap():
    values = random_predictions(images=400).confidence.astype(float)
    interval = mean_interval(values)
    scipy = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(9))
    # With 2,000 resamples each, the ends of an interval 3 points wide agree to about a tenth of a point.
    assert interval.value == values.mean()
    assert interval.low == pytest.approx(scipy.confidence_interval.low, abs=0.002)
    assert interval.high == pytest.approx(scipy.confidence_interval.high, abs=0.002)


def test_top1_of_several_runs_is_a_mean_and_of_one_run_a_share():
    correct = np.array([True, False, True, True])
    of_several, of_one = (top1_interval(values, draw_counts(4)) for values in ((correct + 1.0) / 2, correct))
    assert of_one == Interval(0.75, *map(pytest.approx, proportion_confint(3, 4, method="wilson")))
    assert of_several == percentile_interval(0.875, draw_counts(4) @ (correct + 1.0).astype(np.float32) / 8)


@pytest.mark.parametrize("share", [1 / 3, 2 / 3, 0.7])
def test_top1_of_runs_that_are_correct_equally_often_on_every_image_has_no_interval(share):
    assert top1_interval(np.full(300, share), draw_counts(300)) == Interval(pytest.approx(share))


def test_if_all_resamples_are_equal_the_interval_is_not_defined():
    labels = np.arange(20) % 4
    probabilities = np.full((20, 4), 0.01, np.float32)
    probabilities[np.arange(20), labels] = 0.97
    perfect = Predictions(np.arange(20).astype(str), labels, probabilities, np.array(list("abcd")))
    intervals = metric_intervals(perfect, draw_counts(20))
    assert intervals["balanced_accuracy"] == intervals["macro_f1"] == intervals["macro_auc"] == Interval(1.0)
    assert intervals["top1"].ends == pytest.approx(proportion_confint(20, 20, method="wilson"))
    assert intervals["cross_entropy"] == Interval(pytest.approx(-np.log(0.97)))  # the same for every image
    twins = paired_top1_test("a", perfect.correct, "b", perfect.correct, draw_counts(20))
    assert (twins.difference, twins.difference.clear_of_zero, twins.verdict()) == (
        Interval(0.0),
        False,
        "no difference shown",
    )
    assert mean_interval(np.array([0.3])) == Interval(0.3)


def test_an_undefined_interval_can_be_negated_and_is_never_clear_of_zero():
    assert Interval(0.3).negated == Interval(-0.3)
    assert Interval(0.3, 0.1, 0.4).negated == Interval(-0.3, -0.4, -0.1)
    assert [Interval(0.3, *ends).clear_of_zero for ends in ((), (0.1, 0.4), (0.0, 0.4))] == [False, True, False]
    assert Interval(-0.3, -0.4, -0.1).clear_of_zero
    assert (Interval(0.3).ends_text(), Interval(0.3, 0.1, 0.4).ends_text()) == ("not defined", "10.0 to 40.0")


def test_a_metric_that_is_not_defined_has_no_interval():
    intervals = metric_intervals(random_predictions(images=60, classes=4), draw_counts(60, resamples=50))
    assert intervals["top5"] is None
    assert intervals["top1"] is not None


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 9), (40, 17), (200, 260)])
def test_mcnemar_agrees_with_statsmodels(first, second):
    expected = statsmodels_mcnemar([[50, first], [second, 7]], exact=True).pvalue
    assert mcnemar(first, second) == pytest.approx(expected)


def test_mcnemar_by_hand():
    # The models differ on five images and one wins all of them: twice the probability of five heads.
    assert mcnemar(5, 0) == pytest.approx(2 / 2**5)


def test_holm_agrees_with_statsmodels_and_keeps_the_order():
    p_values = [0.04, 0.001, 0.03, 0.5, 0.03]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []


def test_the_verdict_needs_the_corrected_p_value():
    difference = Interval(-0.02, -0.04, 0.0)
    assert PairedTest("a", "b", 10, 30, difference, 0.01, 0.03).verdict() == "better"
    assert PairedTest("a", "b", 10, 30, difference, 0.03, 0.09).verdict() == "no difference shown"
