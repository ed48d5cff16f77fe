"""The formulas of class-activation maps, from the activations of one layer and the gradients of the explained score.

Tests compare them with tf-keras-vis, which computes each in a pass of its own that cannot be traced.
"""

import tensorflow as tf

AREA = (1, 2)  # height and width


def gradcam(activations: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Return Grad-CAM's maps (Selvaraju et al. 2017): channels weighted by their mean gradients, without negatives.

    Args:
        activations: float32, (batch, height, width, channels).
        gradients: the score's gradients by the activations, of the same shape.

    Returns:
        float32, (batch, height, width).
    """
    weights = tf.reduce_mean(gradients, axis=AREA, keepdims=True)
    return tf.nn.relu(tf.reduce_sum(activations * weights, axis=-1))


def gradcam_plus_plus(activations: tf.Tensor, gradients: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    """Return Grad-CAM++'s maps (Chattopadhay et al. 2018) of exp(score), without negatives.

    A channel's weight is the sum of its positive gradients, each with a coefficient (equation 19 of the paper). As in
    tf-keras-vis, the coefficients of a channel are scaled to a sum of 1.

    Args:
        activations: float32, (batch, height, width, channels).
        gradients: the score's gradients by the activations, of the same shape.
        score: float32, (batch,).

    Returns:
        float32, (batch, height, width).
    """
    first = tf.exp(score)[:, None, None, None] * gradients
    second = first * gradients
    third = second * gradients
    total = tf.reduce_sum(activations, axis=AREA, keepdims=True)
    coefficients = second / _without_zeros(2 * second + third * total, second)
    sums = tf.reduce_sum(coefficients, axis=AREA, keepdims=True)
    coefficients /= _without_zeros(sums, sums)
    weights = tf.reduce_sum(tf.nn.relu(first) * coefficients, axis=AREA, keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1))


def _without_zeros(values: tf.Tensor, numerator: tf.Tensor) -> tf.Tensor:
    """Return a divisor: the values, 1 higher where the numerator is 0."""
    return values + tf.cast(numerator == 0, values.dtype)
