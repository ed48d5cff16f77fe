"""What decides among phases, models and sweep points, and whether a difference in it is more than chance.

Top-1 is tested by McNemar's exact test. Balanced accuracy needs a test of its own: two models may differ in it and be
correct equally often. Its difference is Σ w_i (a_i - b_i) over images, a_i and b_i being 1 where a model is correct,
and w_i = 1 / (K · n_k) for an image of class k, one of K classes with images, of n_k images. Where two models are
alike, each image on which they differ is as likely to be won by the one as by the other; so the signs of those images
are flipped at random, and p is how often the difference gets as far from 0 as it is (Good, Permutation, Parametric,
and Bootstrap Tests of Hypotheses, 2005, section 3.7). With equal weights that is McNemar's test.
"""

from collections.abc import Sequence

import numpy as np

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation import statistics
from keras_bench.evaluation.intervals import Interval, PairedTest
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.statistics import holm_corrected, recall_interval, top1_interval

DRAWS = 10_000
DRAWS_PER_TEST = 100  # for each test of a table, so that a p-value times their number can still lie below 0.05
MANY_COINS = 512

LabelledPair = tuple[str, Predictions, str, Predictions]


def score(correct: np.ndarray, labels: np.ndarray, decision: DecisionMetric) -> float:
    """Return top-1 or balanced accuracy, a share, without an interval.

    Args:
        correct: share of correct predictions per image, float or bool, (N,): 0 or 1, or the mean over several seeds.
        labels: int64, (N,).
        decision: which metric.
    """
    if decision is DecisionMetric.TOP1:
        return float(correct.mean())
    return float(np.mean([correct[labels == k].mean() for k in np.unique(labels)]))


def score_interval(correct: np.ndarray, labels: np.ndarray, counts: np.ndarray, decision: DecisionMetric) -> Interval:
    """Return top-1 or balanced accuracy with its 95 % interval: Wilson's for top-1 of one run, else a bootstrap's.

    Args:
        correct: whether each prediction is correct, bool, (N,), or the share of several runs for which it is,
            float, (N,).
        labels: int64, (N,).
        counts: float32, (resamples, N), from `draw_counts`.
        decision: which metric.
    """
    if decision is DecisionMetric.TOP1:
        return top1_interval(correct, counts)
    return recall_interval(correct, labels, np.unique(labels).tolist(), counts)


def compare_pairs(pairs: Sequence[LabelledPair], counts: np.ndarray, decision: DecisionMetric) -> list[PairedTest]:
    """Test every pair on the same images in the metric that decides, with Holm's correction over all of them.

    Args:
        pairs: label and predictions of the one, label and predictions of the other; equal ids in equal order.
        counts: float32, (resamples, N), from `draw_counts`.
        decision: which metric.
    """
    tests = [
        paired_decision_test((name, one.correct), (other_name, other.correct), one.labels, counts, decision, len(pairs))
        for name, one, other_name, other in pairs
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
    """Test two models on the same images, without a correction.

    Args:
        first: label of the one, and whether each of its predictions is correct, bool, (N,).
        second: the same of the other.
        labels: int64, (N,).
        counts: float32, (resamples, N), from `draw_counts`.
        decision: which metric.
        tests: how many tests the table has.
    """
    (name, correct), (other_name, other_correct) = first, second
    test = statistics.paired_top1_test(name, correct, other_name, other_correct, counts)
    if decision is DecisionMetric.TOP1:
        return test
    difference = correct.astype(np.float64) - other_correct
    classes, of_image, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    p_value = sign_flip(difference, 1 / (len(classes) * sizes[of_image]), max(DRAWS, DRAWS_PER_TEST * tests))
    # Recall of the one less recall of the other is the mean difference over the images of a class.
    spread = recall_interval(difference, labels, classes.tolist(), counts)
    return PairedTest(name, other_name, test.only_first, test.only_second, spread, p_value, p_value)


def sign_flip(difference: np.ndarray, weights: np.ndarray, draws: int = DRAWS, seed: int = 0) -> float:
    """Return the two-sided p-value of a weighted sum of paired differences under random signs.

    Random signs of m images of one weight sum to that weight times 2 B - m, B binomial of m fair coins, so a draw
    takes a number for each different weight. The differences as they are count as one draw more (Phipson and Smyth,
    2010): p is at least 1 / (1 + draws).

    Args:
        difference: -1, 0 or 1 for each image, float, (N,).
        weights: above 0, float, (N,).
        draws: random draws of all signs.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    of_group, group = np.unique(weights, return_inverse=True)
    differing = np.bincount(group, np.abs(difference), len(of_group)).astype(int)
    sums = np.zeros(draws)
    for weight, images in zip(of_group, differing, strict=True):
        sums += weight * (2 * _heads(generator, int(images), draws) - images)
    rounding = 1e-9 * float(of_group @ differing)  # a draw equal to what was seen counts, however it was added up
    beyond = np.abs(sums) >= abs(float(difference @ weights)) - rounding
    return float((1 + beyond.sum()) / (1 + draws))


def _heads(generator: np.random.Generator, coins: int, draws: int) -> np.ndarray:
    """Return how many of some fair coins show heads in each draw, int64, (draws,).

    A random bit for each of few coins is ten times as fast as NumPy's binomial numbers (12 ns against 150 ns for 120
    coins); a table of many models needs a hundred million of them.
    """
    if coins > MANY_COINS:
        return generator.binomial(coins, 0.5, draws)
    heads = np.zeros(draws, dtype=np.int64)
    for start in range(0, coins, 64):
        words = generator.integers(0, 2**64, draws, dtype=np.uint64)
        unused = max(0, start + 64 - coins)
        heads += np.bitwise_count(words >> np.uint64(unused))
    return heads
