"""The metrics every phase is watched by."""

import keras


def build_metrics(num_classes: int) -> list[keras.metrics.Metric]:
    """Return new cross-entropy and top-1 metrics (and top-5 above five classes) for one-hot labels.

    Cross-entropy is plain: `loss` also holds the L2 penalty over whatever trains, and label smoothing, so it does
    not compare between phases.
    """
    metrics = [
        keras.metrics.CategoricalCrossentropy(name="cross_entropy"),
        keras.metrics.CategoricalAccuracy(name="top1"),
    ]
    if num_classes > 5:
        metrics.append(keras.metrics.TopKCategoricalAccuracy(5, name="top5"))
    return metrics


def mode_of(monitor: str) -> str:
    """Return "min" or "max": which direction of a monitored metric is better."""
    return "max" if monitor.endswith("top1") else "min"
