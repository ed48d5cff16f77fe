"""How well probabilities are calibrated: calibration error, temperature, and accuracy at a chosen coverage."""

import numpy as np
from scipy import optimize, special

from keras_bench.evaluation.metrics import SMALLEST_PROBABILITY
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import Calibration, Reliability

BINS = 15  # as in Guo et al. 2017
TEMPERATURES = (0.05, 20.0)  # range of the search
CURVE_POINTS = 200


def calibrate(val: Predictions, test: Predictions) -> Calibration:
    """Fit a temperature on val and report calibration on test before and after scaling; test decides nothing."""
    temperature = fit_temperature(val.labels, val.probabilities)
    scaled = apply_temperature(test.probabilities, temperature)
    coverage, accuracy = coverage_curve(test.correct, test.confidence)
    return Calibration(
        temperature=temperature,
        before=reliability_bins(test.correct, test.confidence),
        after=reliability_bins(test.correct, scaled.max(axis=1)),
        cross_entropy_after=cross_entropy(test.labels, scaled),
        coverage=coverage,
        covered_accuracy=accuracy,
    )


def reliability_bins(correct: np.ndarray, confidence: np.ndarray, bins: int = BINS) -> Reliability:
    """Return confidence and accuracy in bins with equal numbers of images, and the expected calibration error.

    Bins have equal numbers of images rather than equal widths, because most predictions of a trained network are
    confident and equal widths would leave most bins nearly empty (Nixon et al. 2019). The error is
    Σ_b n_b / N · |accuracy − confidence| (Naeini et al. 2015).

    Args:
        correct: bool, (N,).
        confidence: float, (N,), probability of each prediction.
        bins: number of bins; fewer where there are fewer images.
    """
    order = np.argsort(confidence, kind="stable")
    filled = [positions for positions in np.array_split(order, bins) if len(positions)]
    means = np.array([confidence[positions].mean(dtype=np.float64) for positions in filled])
    accuracy = np.array([correct[positions].mean() for positions in filled])
    images = np.array([len(positions) for positions in filled])
    return Reliability(means, accuracy, images, float((images * abs(accuracy - means)).sum() / images.sum()))


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature that minimises cross-entropy (Guo et al. 2017), between 0.05 and 20.

    Args:
        labels: int64, (N,).
        probabilities: float, (N, K); their logarithms serve as logits, which differ only by a constant per row.
    """
    optimum = optimize.minimize_scalar(
        lambda log_t: cross_entropy(labels, apply_temperature(probabilities, float(np.exp(log_t)))),
        bounds=np.log(TEMPERATURES),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(optimum.x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / temperature), float64, (N, K); the predictions stay the same."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY))
    return np.asarray(special.softmax(logits / temperature, axis=1))


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the mean negative log probability of the true class, nats.

    Args:
        labels: int64, (N,).
        probabilities: float, (N, K).
        weights: weight of each image, float, (N,); None: all equal.
    """
    of_true_class = probabilities[np.arange(len(labels)), labels]
    return float(np.average(-np.log(np.maximum(of_true_class, SMALLEST_PROBABILITY)), weights=weights))


def coverage_curve(correct: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of the images, most confident first, and top-1 among each; two arrays, (points,), at most 200.

    Images of equal confidence are covered together, so their order does not matter.
    """
    order = np.argsort(-confidence, kind="stable")
    covered = np.arange(1, len(order) + 1)
    accuracy = np.cumsum(correct[order]) / covered
    descending = confidence[order]
    ends = np.flatnonzero(np.append(descending[1:] < descending[:-1], True))
    chosen = ends[np.unique(np.linspace(0, len(ends) - 1, min(CURVE_POINTS, len(ends))).round().astype(int))]
    return covered[chosen] / len(order), accuracy[chosen]
