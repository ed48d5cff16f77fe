"""Averages the probabilities of several models on the same images."""

from collections.abc import Sequence

import numpy as np
from scipy import optimize

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.calibration import cross_entropy
from keras_bench.evaluation.predictions import Predictions

SMALLEST_WEIGHT = 0.005  # below that a member is left out: it costs a whole network and changes nothing


def average(members: Sequence[Predictions], weights: Sequence[float]) -> Predictions:
    """Return the weighted mean of the members' probabilities.

    Args:
        members: predictions of the same images in the same order, over the same classes in the same order.
        weights: one a member, at least 0, summing to 1.
    """
    mean = sum(weight * one.probabilities.astype(np.float64) for weight, one in zip(weights, members, strict=True))
    first = members[0]
    return Predictions(first.ids, first.labels, np.asarray(mean, dtype=np.float32), first.class_names)


def fit_weights(members: Sequence[Predictions], decision: DecisionMetric = DecisionMetric.TOP1) -> list[float]:
    """Return the weights that minimise the mean's cross-entropy, at least 0 and summing to 1.

    The problem is convex, so that the start does not matter. Weights below 0.5 % become 0.

    Args:
        members: predictions on val, as `average` takes them.
        decision: where balanced accuracy decides, each class counts alike in the cross-entropy.
    """
    labels = members[0].labels
    of_image = None
    if decision is DecisionMetric.BALANCED_ACCURACY:
        _, of_class, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        of_image = 1 / sizes[of_class]
    stacked = np.stack([one.probabilities.astype(np.float64) for one in members])
    found = optimize.minimize(
        lambda weights: cross_entropy(labels, np.tensordot(weights, stacked, axes=1), of_image),
        np.full(len(members), 1 / len(members)),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(members),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
    )
    kept = np.where(found.x < SMALLEST_WEIGHT, 0.0, found.x)
    return [float(weight) for weight in kept / kept.sum()]
