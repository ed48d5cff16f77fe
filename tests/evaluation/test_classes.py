"""Class scores against scikit-learn; confusion worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import classification_report, confusion_matrix

from keras_bench.evaluation.classes import (
    class_scores,
    confusion_counts,
    confusion_order,
    most_confident_mistakes,
    most_confused,
)
from keras_bench.evaluation.predictions import Predictions
from keras_bench.report.pareto import pareto_front


def predictions_of(labels, predicted, classes, confidence=None):
    """Predictions of the given classes; the rest of the probability is spread evenly."""
    confidence = np.full(len(labels), 0.6) if confidence is None else np.asarray(confidence)
    probabilities = np.repeat(((1 - confidence) / (classes - 1))[:, None], classes, axis=1)
    probabilities[np.arange(len(labels)), predicted] = confidence
    names = np.array([f"class{k}" for k in range(classes)])
    return Predictions(np.arange(len(labels)).astype(str), np.array(labels), probabilities, names)


def test_scores_agree_with_scikit_learn_even_for_classes_without_images_or_predictions():
    labels, predicted = [0, 0, 1, 1, 1, 3], [0, 1, 1, 1, 2, 1]
    predictions = predictions_of(labels, predicted, 5)
    report = classification_report(labels, predicted, labels=range(5), output_dict=True, zero_division=0)
    for k, row in enumerate(class_scores(predictions)):
        expected = report[str(k)]
        assert (row.name, row.support) == (f"class{k}", expected["support"])
        assert (row.precision, row.recall, row.f1) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"])
        )
    assert np.array_equal(confusion_counts(predictions), confusion_matrix(labels, predicted, labels=range(5)))


def test_the_most_confused_pairs_come_first_and_correct_predictions_are_left_out():
    counts = np.array([[8, 2, 0], [0, 5, 5], [1, 0, 9]])
    pairs = most_confused(counts, 10)
    assert [(pair.true, pair.predicted, pair.count, pair.share) for pair in pairs] == [
        (1, 2, 5, 0.5),
        (0, 1, 2, 0.2),
        (2, 0, 1, 0.1),
    ]
    assert len(most_confused(counts, 1)) == 1
    assert most_confused(np.diag([3, 4]), 5) == []


def test_classes_confused_with_each_other_stand_side_by_side():
    counts = 10 * np.eye(6, dtype=np.int64)
    confused = ((0, 3), (1, 5), (2, 4))
    for first, second in confused:
        counts[first, second] = counts[second, first] = 6
    positions = {int(k): i for i, k in enumerate(confusion_order(counts))}
    assert sorted(positions) == list(range(6))
    assert all(abs(positions[first] - positions[second]) == 1 for first, second in confused)
    assert confusion_order(counts[:2, :2]).tolist() == [0, 1]


def test_the_most_confident_mistakes_come_first():
    predictions = predictions_of([0, 0, 1, 1], [1, 0, 0, 0], 2, [0.7, 0.99, 0.9, 0.8])
    assert most_confident_mistakes(predictions, 2).tolist() == [2, 3]


def test_the_pareto_front_keeps_points_that_no_other_beats_in_both_cost_and_accuracy():
    costs, accuracies = [1.0, 2.0, 3.0, 3.0, 0.5], [0.7, 0.9, 0.8, 0.95, 0.7]
    assert pareto_front(costs, accuracies) == [False, True, False, True, True]
    assert pareto_front([1.0, 1.0], [0.5, 0.5]) == [True, True]
