"""The loss of every phase, and the ways it can make up for classes of different sizes."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_bench.config import TrainingConfig


def build_loss(training: TrainingConfig, class_counts: Sequence[int]) -> keras.losses.Loss:
    """Return the loss from one-hot labels and probabilities, both float32 (batch, K).

    Args:
        training: which loss, and label smoothing.
        class_counts: training images of each class, K numbers.
    """
    if training.imbalance == "focal":
        # Lin et al., arXiv:1708.02002, equation 4. Its α_t would only scale the loss here: one α for all classes.
        return keras.losses.CategoricalFocalCrossentropy(
            alpha=1.0, gamma=training.focal_gamma, label_smoothing=training.label_smoothing
        )
    if training.imbalance == "logit_adjustment":
        total = sum(class_counts)
        return LogitAdjustedCrossentropy([count / total for count in class_counts], training.label_smoothing)
    return keras.losses.CategoricalCrossentropy(label_smoothing=training.label_smoothing)


def class_weights(training: TrainingConfig, class_counts: Sequence[int]) -> dict[int, float] | None:
    """Return N / (K · n_k) for each class k of n_k training images, or None where another way was chosen."""
    if training.imbalance != "class_weights":
        return None
    return {k: sum(class_counts) / (len(class_counts) * count) for k, count in enumerate(class_counts)}


@keras.saving.register_keras_serializable(package="keras_bench")
class LogitAdjustedCrossentropy(keras.losses.Loss):
    """Cross-entropy of softmax(log p + log π), p the model's answer and π the share of each class in training.

    A model trained so answers as if all classes were equally frequent, with no change at inference (Menon et al.,
    arXiv:2007.07314, equation 10 with τ = 1).

    Args:
        shares: π, K numbers above 0 that sum to 1.
        label_smoothing: share of the target spread evenly over the classes.
        name: of the loss.
    """

    def __init__(self, shares: Sequence[float], label_smoothing: float = 0.0, name: str = "logit_adjusted") -> None:
        super().__init__(name=name)
        self.shares = list(shares)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each image, (batch,), for one-hot labels and probabilities (batch, K)."""
        smallest = keras.config.epsilon()
        logits = keras.ops.log(keras.ops.maximum(y_pred, smallest)) + keras.ops.log(
            keras.ops.convert_to_tensor(self.shares, dtype=y_pred.dtype)
        )
        return keras.losses.categorical_crossentropy(
            y_true, logits, from_logits=True, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, so that an interrupted phase can be continued."""
        return {"shares": self.shares, "label_smoothing": self.label_smoothing, "name": self.name}
