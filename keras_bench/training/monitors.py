"""The metrics that Keras computes in every phase, on train and on val."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import keras

if TYPE_CHECKING:
    import tensorflow as tf


class ClassBalancedMean(keras.metrics.Metric):
    """The mean over classes of the mean of a value over each class's images.

    It keeps a sum and a number of images for each class, so the result over a split does not depend on how the split
    is cut into batches. Classes without images do not count, as in scikit-learn's `balanced_accuracy_score`.

    Args:
        num_classes: K.
        name: name of the metric.
        dtype: dtype of the sums; by default Keras's float type.
    """

    def __init__(self, num_classes: int, name: str, dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        self.sums = self.add_variable((num_classes,), initializer="zeros", name="sums")
        self.images = self.add_variable((num_classes,), initializer="zeros", name="images")

    def values(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the value of each image, (batch,), for one-hot labels and probabilities, both (batch, K)."""
        raise NotImplementedError

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        """Add a batch.

        Args:
            y_true: one-hot labels, (batch, K).
            y_pred: probabilities, (batch, K).
            sample_weight: weight of each image, (batch,); None for equal weights.
        """
        members = keras.ops.cast(y_true, self.dtype)
        if sample_weight is not None:
            members = members * keras.ops.reshape(keras.ops.cast(sample_weight, self.dtype), (-1, 1))
        values = keras.ops.cast(self.values(y_true, y_pred), self.dtype)
        self.sums.assign_add(keras.ops.sum(keras.ops.expand_dims(values, -1) * members, axis=0))
        self.images.assign_add(keras.ops.sum(members, axis=0))

    def result(self) -> tf.Tensor:
        """Return the mean over the classes that have images; 0 before the first image."""
        present = keras.ops.cast(self.images > 0, self.dtype)
        means = keras.ops.divide_no_nan(self.sums, self.images)
        return keras.ops.divide_no_nan(keras.ops.sum(means), keras.ops.sum(present))

    def get_config(self) -> dict[str, object]:
        """Return the arguments, so that an interrupted phase can be continued."""
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable(package="keras_bench")
class BalancedAccuracy(ClassBalancedMean):
    """The mean recall over classes, in [0, 1] (Brodersen et al., ICPR 2010)."""

    def __init__(self, num_classes: int, name: str = "balanced_accuracy", dtype: str | None = None) -> None:
        super().__init__(num_classes, name, dtype)

    def values(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return 1 for each image whose most probable class is its label, else 0; (batch,)."""
        return keras.ops.argmax(y_true, axis=-1) == keras.ops.argmax(y_pred, axis=-1)


@keras.saving.register_keras_serializable(package="keras_bench")
class BalancedCrossentropy(ClassBalancedMean):
    """The mean over classes of the mean cross-entropy of each class's images, in nats.

    It equals the cross-entropy under class weights N / (K · n_k), where n_k of the N images belong to class k.
    """

    def __init__(self, num_classes: int, name: str = "balanced_cross_entropy", dtype: str | None = None) -> None:
        super().__init__(num_classes, name, dtype)

    def values(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the cross-entropy of each image, (batch,), as Keras's own metric computes it.

        Within `fit` and `evaluate` Keras uses the logits of the softmax that `y_pred` comes from, so the value is exact
        however small a probability is; given only probabilities, it clips each to at least 1e-7.
        """
        return keras.losses.categorical_crossentropy(y_true, y_pred)


@dataclass(frozen=True)
class Watched:
    """A metric computed in every phase, on train and, as val_<name>, on val.

    Attributes:
        mode: which direction is better.
        build: function from K, the number of classes, to a new metric.
        more_than: the metric is defined only for more classes than this.
    """

    mode: Literal["min", "max"]
    build: Callable[[int], keras.metrics.Metric]
    more_than: int = 0


# Cross-entropy is plain. `loss` also includes label smoothing and the L2 penalty of the layers that train, so it cannot
# be compared between phases.
WATCHED = {
    "cross_entropy": Watched("min", lambda _: keras.metrics.CategoricalCrossentropy(name="cross_entropy")),
    "top1": Watched("max", lambda _: keras.metrics.CategoricalAccuracy(name="top1")),
    "top5": Watched("max", lambda _: keras.metrics.TopKCategoricalAccuracy(5, name="top5"), more_than=5),
    "balanced_cross_entropy": Watched("min", BalancedCrossentropy),
    "balanced_accuracy": Watched("max", BalancedAccuracy),
}


def build_metrics(num_classes: int) -> list[keras.metrics.Metric]:
    """Return new metrics, for one-hot labels: all that are defined for this number of classes."""
    return [watched.build(num_classes) for watched in WATCHED.values() if num_classes > watched.more_than]


def mode_of(monitor: str) -> str:
    """Return which direction of a monitored metric, e.g. "val_top1", is better: "min" or "max"."""
    return WATCHED[monitor.removeprefix("val_")].mode
