"""The loss of every phase, and the ways it can correct for class imbalance."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_bench.config import TrainingConfig

SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)  # 1.2e-38, float32's smallest normal number


def build_loss(training: TrainingConfig, class_counts: Sequence[int]) -> keras.losses.Loss:
    """Return the loss from one-hot labels and probabilities, both float32 (batch, K).

    Args:
        training: settings that choose the loss and its label smoothing.
        class_counts: number of training images of each class, K numbers.
    """
    if training.imbalance == "focal":
        return FocalCrossentropy(training.focal_gamma, training.label_smoothing)
    if training.imbalance == "logit_adjustment":
        total = sum(class_counts)
        return LogitAdjustedCrossentropy([count / total for count in class_counts], training.label_smoothing)
    # Keras computes it from the input of the softmax, so it has a gradient however wrong a prediction is.
    return keras.losses.CategoricalCrossentropy(label_smoothing=training.label_smoothing)


def class_weights(training: TrainingConfig, class_counts: Sequence[int]) -> dict[int, float] | None:
    """Return N / (K · n_k) for each class k with n_k training images, or None unless class weights were chosen."""
    if training.imbalance != "class_weights":
        return None
    return {k: sum(class_counts) / (len(class_counts) * count) for k, count in enumerate(class_counts)}


def log_probabilities(probabilities: tf.Tensor) -> tf.Tensor:
    """Return log p, with a gradient however small p is, so that the worst predictions count most.

    Keras's softmax attaches its input to its output, where Keras's own cross-entropy reads it. Without it, as on any
    tensor that does not come straight from a softmax, p below 1.2e-38 counts as 1.2e-38 and has no gradient.

    Args:
        probabilities: p, float32 (batch, K), rows summing to 1.

    Returns:
        float32, (batch, K), at most 0.
    """
    logits = getattr(probabilities, "_keras_logits", None)
    if logits is not None:
        return keras.ops.log_softmax(logits)
    return keras.ops.log(keras.ops.maximum(keras.ops.cast(probabilities, "float32"), SMALLEST_NORMAL))


@keras.saving.register_keras_serializable(package="keras_bench")
class FocalCrossentropy(keras.losses.Loss):
    """Cross-entropy in which an image counts less the more probable its true class already is: -Σ y (1 - p)^γ log p.

    Lin et al., arXiv:1708.02002, equation 4. Its α_t is left out: one α for all classes would only scale the loss.
    Keras's CategoricalFocalCrossentropy clips p at 1e-7, below which it has no gradient.

    Args:
        gamma: γ, at least 0; 0 is plain cross-entropy.
        label_smoothing: share of the target y spread evenly over the classes.
        name: of the loss.
    """

    def __init__(self, gamma: float, label_smoothing: float = 0.0, name: str = "focal") -> None:
        super().__init__(name=name)
        self.gamma = gamma
        self.label_smoothing = label_smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the loss of each image, (batch,), for one-hot labels and probabilities (batch, K)."""
        log_p = log_probabilities(y_pred)
        targets = y_true * (1.0 - self.label_smoothing) + self.label_smoothing / y_pred.shape[-1]
        # Never exactly 0, even if p rounds to 1: a power below 1 has no finite gradient at 0.
        one_minus_p = keras.ops.maximum(-keras.ops.expm1(log_p), SMALLEST_NORMAL)
        return -keras.ops.sum(targets * keras.ops.power(one_minus_p, self.gamma) * log_p, axis=-1)

    def get_config(self) -> dict[str, object]:
        """Return the arguments, so that an interrupted phase can be continued."""
        return {"gamma": self.gamma, "label_smoothing": self.label_smoothing, "name": self.name}


@keras.saving.register_keras_serializable(package="keras_bench")
class LogitAdjustedCrossentropy(keras.losses.Loss):
    """Cross-entropy of softmax(log p + log π), where p is the prediction and π the share of each class in training.

    A model trained with it predicts as if all classes were equally frequent, without any change at inference (Menon et
    al., arXiv:2007.07314, equation 10 with τ = 1).

    Args:
        shares: π, K numbers above 0 that sum to 1.
        label_smoothing: share of the target spread evenly over the classes.
        name: of the loss.
    """

    def __init__(self, shares: Sequence[float], label_smoothing: float = 0.0, name: str = "logit_adjusted") -> None:
        super().__init__(name=name)
        self.shares = list(shares)
        self.label_smoothing = label_smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the loss of each image, (batch,), for one-hot labels and probabilities (batch, K)."""
        adjusted = log_probabilities(y_pred) + np.log(self.shares).astype(np.float32)
        return keras.losses.categorical_crossentropy(
            y_true, adjusted, from_logits=True, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, object]:
        """Return the arguments, so that an interrupted phase can be continued."""
        return {"shares": self.shares, "label_smoothing": self.label_smoothing, "name": self.name}
