"""The Pareto front of accuracy against cost."""

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> list[bool]:
    """Return for each model whether it is on the front: no other is at least as good in both and better in one.

    Args:
        costs: lower is better.
        accuracies: higher is better.
    """
    points = list(zip(costs, accuracies, strict=True))
    return [
        not any(
            other_cost <= cost and other_accuracy >= accuracy and (other_cost, other_accuracy) != (cost, accuracy)
            for other_cost, other_accuracy in points
        )
        for cost, accuracy in points
    ]
