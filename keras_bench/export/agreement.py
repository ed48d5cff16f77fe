"""Compares an exported model's probabilities with Keras's, and says whether it may be exported."""

import numpy as np

from keras_bench.evaluation.intervals import Interval
from keras_bench.export.records import Agreement

MAX_DIFFERENCE = 1e-3  # of any probability
TIE = 1e-4  # between Keras's two best predictions, below which either is accepted
EXAMPLE_IDS = 10


def compare_probabilities(
    keras: np.ndarray, onnx: np.ndarray, ids: np.ndarray, keras_top1: Interval, onnx_top1: Interval
) -> Agreement:
    """Return how far two models' predictions on the same images are apart.

    Args:
        keras: float32, (N, K), probabilities of the original.
        onnx: float32, (N, K), of the exported model.
        ids: str, (N,).
        keras_top1: accuracy of the original with its interval.
        onnx_top1: the same of the exported model.
    """
    best_two = np.sort(keras, axis=1)[:, -2:]
    differing = keras.argmax(axis=1) != onnx.argmax(axis=1)
    ties = differing & (best_two[:, 1] - best_two[:, 0] <= TIE)
    gaps = np.abs(keras.astype(np.float64) - onnx)
    return Agreement(
        images=len(ids),
        differing=int(differing.sum()),
        ties=int(ties.sum()),
        max_difference=float(gaps.max()),
        mean_difference=float(gaps.mean()),
        keras_top1=keras_top1,
        onnx_top1=onnx_top1,
        examples=tuple(map(str, ids[differing & ~ties][:EXAMPLE_IDS])),
    )


def refusal(agreement: Agreement) -> str | None:
    """Return why the exported model may not be exported, or None where it agrees."""
    if agreement.differing > agreement.ties:
        return (
            f"it predicts differently from Keras on {agreement.differing - agreement.ties} of {agreement.images:,} "
            f"images, e.g. {agreement.examples[0]}"
        )
    # Written so that NaN fails.
    if not agreement.max_difference <= MAX_DIFFERENCE:
        return f"a probability differs from Keras's by {agreement.max_difference:.2g}, more than {MAX_DIFFERENCE:g}"
    return None
