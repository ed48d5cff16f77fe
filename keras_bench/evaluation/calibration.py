"""How far probabilities can be believed: calibration error, temperature, and accuracy at a chosen coverage."""

import numpy as np
from scipy import optimize, special

from keras_bench.evaluation.intervals import Calibration, Reliability
from keras_bench.evaluation.metrics import SMALLEST_PROBABILITY
from keras_bench.evaluation.predictions import Predictions

BINS = 15  # as in Guo et al. 2017
TEMPERATURES = (0.05, 20.0)  # searched between these
CURVE_POINTS = 200


def calibrate(val: Predictions, test: Predictions) -> Calibration:
    """Fit a temperature on val and report test before and after it; test decides nothing."""
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
    """Return confidence and accuracy in bins of equally many images, and the expected calibration error.

    Bins hold equally many images, not equally wide ranges, because most predictions of a trained network are confident
    and equal ranges leave most bins nearly empty (Nixon et al. 2019). The error is Σ_b n_b / N · |accuracy −
    confidence| (Naeini et al. 2015).

    Args:
        correct: bool, (N,).
        confidence: float, (N,), probability of each prediction.
        bins: number of bins; fewer where there are fewer images.
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    means = np.array([confidence[part].mean(dtype=np.float64) for part in parts])
    accuracy = np.array([correct[part].mean() for part in parts])
    images = np.array([len(part) for part in parts])
    return Reliability(means, accuracy, images, float((images * abs(accuracy - means)).sum() / images.sum()))


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature that minimises cross-entropy (Guo et al. 2017), between 0.05 and 20.

    Args:
        labels: int64, (N,).
        probabilities: float, (N, K); their logarithms serve as logits, from which they differ by a constant a row.
    """
    found = optimize.minimize_scalar(
        lambda log_t: cross_entropy(labels, apply_temperature(probabilities, float(np.exp(log_t)))),
        bounds=np.log(TEMPERATURES),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / temperature), float64, (N, K); the predictions stay the same."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY))
    return np.asarray(special.softmax(logits / temperature, axis=1))


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the mean negative log probability of the true class, nats.

    Args:
        labels: int64, (N,).
        probabilities: float, (N, K).
        weights: how much each image counts, float, (N,); None: all alike.
    """
    of_true = probabilities[np.arange(len(labels)), labels]
    return float(np.average(-np.log(np.maximum(of_true, SMALLEST_PROBABILITY)), weights=weights))


def coverage_curve(correct: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return top-1 among the most confident share of the images, for up to 200 shares; two arrays, (points,).

    Images of equal confidence count together, so that their order does not matter.
    """
    order = np.argsort(-confidence, kind="stable")
    covered = np.arange(1, len(order) + 1)
    accuracy = np.cumsum(correct[order]) / covered
    falling = confidence[order]
    ends = np.flatnonzero(np.append(falling[1:] < falling[:-1], True))
    chosen = ends[np.unique(np.linspace(0, len(ends) - 1, min(CURVE_POINTS, len(ends))).round().astype(int))]
    return covered[chosen] / len(order), accuracy[chosen]
