"""Averages the probabilities of several models on the same images."""

from collections.abc import Sequence

import numpy as np
from scipy import optimize

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.calibration import cross_entropy
from keras_bench.evaluation.predictions import Predictions

SMALLEST_WEIGHT = 0.005  # members with less are left out: each costs a whole network and changes next to nothing


def average(members: Sequence[Predictions], weights: Sequence[float]) -> Predictions:
    """Return the weighted mean of the members' probabilities.

    Args:
        members: predictions for the same images in the same order, over the same classes in the same order.
        weights: one weight per member, at least 0, summing to 1.
    """
    mean = sum(
        weight * member.probabilities.astype(np.float64) for weight, member in zip(weights, members, strict=True)
    )
    first = members[0]
    return Predictions(first.ids, first.labels, np.asarray(mean, dtype=np.float32), first.class_names)


def fit_weights(members: Sequence[Predictions], decision: DecisionMetric = DecisionMetric.TOP1) -> list[float]:
    """Return the weights, at least 0 and summing to 1, that minimise the cross-entropy of the mean.

    The problem is convex, so the starting point does not matter. Weights below 0.5 % become 0.

    Args:
        members: predictions on val, as for `average`.
        decision: if balanced accuracy decides, all classes count equally in the cross-entropy.
    """
    labels = members[0].labels
    image_weights = None
    if decision is DecisionMetric.BALANCED_ACCURACY:
        _, class_numbers, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
        image_weights = 1 / class_sizes[class_numbers]
    stacked = np.stack([member.probabilities.astype(np.float64) for member in members])
    optimum = optimize.minimize(
        lambda weights: cross_entropy(labels, np.tensordot(weights, stacked, axes=1), image_weights),
        np.full(len(members), 1 / len(members)),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(members),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
    )
    kept = np.where(optimum.x < SMALLEST_WEIGHT, 0.0, optimum.x)
    return [float(weight) for weight in kept / kept.sum()]
