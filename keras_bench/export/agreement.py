"""Compares an exported model's probabilities with Keras's, and decides whether they agree well enough."""

import numpy as np

from keras_bench.evaluation.records import Interval
from keras_bench.export.records import Agreement

MAX_DIFFERENCE = 1e-3  # of any probability
TIE = 1e-4  # Keras's two highest probabilities differ by less: either class is accepted
EXAMPLE_IDS = 10


def compare_probabilities(
    keras: np.ndarray, onnx: np.ndarray, ids: np.ndarray, keras_top1: Interval, onnx_top1: Interval
) -> Agreement:
    """Return how well two models' predictions on the same images agree.

    Args:
        keras: probabilities of the original model, float32, (N, K).
        onnx: probabilities of the exported model, float32, (N, K).
        ids: ids of the images, str, (N,).
        keras_top1: accuracy of the original model with its interval.
        onnx_top1: accuracy of the exported model with its interval.
    """
    two_highest = np.sort(keras, axis=1)[:, -2:]
    differing = keras.argmax(axis=1) != onnx.argmax(axis=1)
    ties = differing & (two_highest[:, 1] - two_highest[:, 0] <= TIE)
    differences = np.abs(keras.astype(np.float64) - onnx)
    return Agreement(
        images=len(ids),
        differing=int(differing.sum()),
        ties=int(ties.sum()),
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        keras_top1=keras_top1,
        onnx_top1=onnx_top1,
        examples=tuple(map(str, ids[differing & ~ties][:EXAMPLE_IDS])),
    )


def refusal(agreement: Agreement) -> str | None:
    """Return why the exported model is refused, or None if it agrees with Keras."""
    if agreement.differing > agreement.ties:
        return (
            f"it predicts differently from Keras on {agreement.differing - agreement.ties} of {agreement.images:,} "
            f"images, e.g. {agreement.examples[0]}"
        )
    # Written so that NaN fails.
    if not agreement.max_difference <= MAX_DIFFERENCE:
        return f"a probability differs from Keras's by {agreement.max_difference:.2g}, more than {MAX_DIFFERENCE:g}"
    return None
