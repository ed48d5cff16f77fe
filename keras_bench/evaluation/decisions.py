"""The metric that decides among phases, models and sweep points, and tests for differences in it.

Top-1 is tested with McNemar's exact test. Balanced accuracy needs its own test, because two models can differ in it
and still be correct equally often. The difference is Σ w_i (a_i - b_i) over images, where a_i and b_i are 1 if the
model is correct and w_i = 1 / (K · n_k) for an image of class k, with n_k images in class k and K classes that have
images. If two models are equally good, each image on which they differ is equally likely to be won by either. So the
signs of those images are flipped at random, and p is the share of draws in which the difference is at least as far
from 0 as the observed one (Good, Permutation, Parametric, and Bootstrap Tests of Hypotheses, 2005, section 3.7). With
equal weights this is McNemar's test.
"""

from collections.abc import Sequence

import numpy as np

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation import statistics
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import Interval, PairedTest
from keras_bench.evaluation.statistics import holm_corrected, recall_interval, top1_interval

DRAWS = 10_000
DRAWS_PER_TEST = 100  # per test in a table, so that a p-value times the number of tests can still be below 0.05
MAX_EXACT_COINS = 512

LabelledPair = tuple[str, Predictions, str, Predictions]


def score(correct: np.ndarray, labels: np.ndarray, decision: DecisionMetric) -> float:
    """Return top-1 or balanced accuracy, a share, without an interval.

    Args:
        correct: share of correct predictions per image, float or bool, (N,): 0 or 1, or the mean over several seeds.
        labels: int64, (N,).
        decision: the metric.
    """
    if decision is DecisionMetric.TOP1:
        return float(correct.mean())
    return float(np.mean([correct[labels == k].mean() for k in np.unique(labels)]))


def score_interval(correct: np.ndarray, labels: np.ndarray, counts: np.ndarray, decision: DecisionMetric) -> Interval:
    """Return top-1 or balanced accuracy with its 95 % interval: Wilson's for the top-1 of one run, else bootstrap.

    Args:
        correct: whether each prediction is correct, bool, (N,); for several runs, the share of runs in which it is,
            float, (N,).
        labels: int64, (N,).
        counts: float32, (resamples, N), from `draw_counts`.
        decision: the metric.
    """
    if decision is DecisionMetric.TOP1:
        return top1_interval(correct, counts)
    return recall_interval(correct, labels, np.unique(labels).tolist(), counts)


def compare_pairs(pairs: Sequence[LabelledPair], counts: np.ndarray, decision: DecisionMetric) -> list[PairedTest]:
    """Test every pair on the same images in the deciding metric, with Holm's correction over all pairs.

    Args:
        pairs: label and predictions of two models, with the same ids in the same order.
        counts: float32, (resamples, N), from `draw_counts`.
        decision: the metric.
    """
    tests = [
        paired_decision_test(
            (label, first.correct), (other_label, second.correct), first.labels, counts, decision, len(pairs)
        )
        for label, first, other_label, second in pairs
    ]
    return holm_corrected(tests)


def paired_decision_test(
    first: tuple[str, np.ndarray],
    second: tuple[str, np.ndarray],
    labels: np.ndarray,
    counts: np.ndarray,
    decision: DecisionMetric,
    tests: int = 1,
) -> PairedTest:
    """Test two models on the same images, without a correction for multiple tests.

    Args:
        first: label of the first model, and whether each of its predictions is correct, bool, (N,).
        second: the same for the second model.
        labels: int64, (N,).
        counts: float32, (resamples, N), from `draw_counts`.
        decision: the metric.
        tests: number of tests in the table.
    """
    (label, correct), (other_label, other_correct) = first, second
    test = statistics.paired_top1_test(label, correct, other_label, other_correct, counts)
    if decision is DecisionMetric.TOP1:
        return test
    difference = correct.astype(np.float64) - other_correct
    classes, of_image, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    p_value = sign_flip(difference, 1 / (len(classes) * sizes[of_image]), max(DRAWS, DRAWS_PER_TEST * tests))
    # The difference between two recalls of a class is the mean difference over its images.
    interval = recall_interval(difference, labels, classes.tolist(), counts)
    return PairedTest(label, other_label, test.only_first, test.only_second, interval, p_value, p_value)


def sign_flip(difference: np.ndarray, weights: np.ndarray, draws: int = DRAWS, seed: int = 0) -> float:
    """Return the two-sided p-value of a weighted sum of paired differences under random signs.

    With random signs, m images of weight w sum to w (2 B - m), where B is the number of heads in m fair coin tosses,
    so each draw needs one number per distinct weight. The observed differences count as one more draw (Phipson and
    Smyth, 2010), so p is at least 1 / (1 + draws).

    Args:
        difference: -1, 0 or 1 for each image, float, (N,).
        weights: positive, float, (N,).
        draws: number of random draws of all signs.
        seed: seed of the draws.
    """
    generator = np.random.default_rng(seed)
    distinct_weights, group = np.unique(weights, return_inverse=True)
    differing = np.bincount(group, np.abs(difference), len(distinct_weights)).astype(int)
    sums = np.zeros(draws)
    for weight, images in zip(distinct_weights, differing, strict=True):
        sums += weight * (2 * _count_heads(generator, int(images), draws) - images)
    # A draw equal to the observed sum counts, even if rounding makes it slightly smaller.
    rounding = 1e-9 * float(distinct_weights @ differing)
    beyond = np.abs(sums) >= abs(float(difference @ weights)) - rounding
    return float((1 + beyond.sum()) / (1 + draws))


def _count_heads(generator: np.random.Generator, coins: int, draws: int) -> np.ndarray:
    """Return the number of heads among `coins` fair coins in each draw, int64, (draws,).

    For few coins, drawing one random bit per coin is ten times as fast as NumPy's binomial generator (12 ns instead of
    150 ns for 120 coins), and a table of many models needs a hundred million of these numbers.
    """
    if coins > MAX_EXACT_COINS:
        return generator.binomial(coins, 0.5, draws)
    heads = np.zeros(draws, dtype=np.int64)
    for start in range(0, coins, 64):
        words = generator.integers(0, 2**64, draws, dtype=np.uint64)
        unused = max(0, start + 64 - coins)
        heads += np.bitwise_count(words >> np.uint64(unused))
    return heads
