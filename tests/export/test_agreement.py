"""The comparison that decides whether a bundle is kept, on probabilities written by hand."""

import numpy as np
import pytest

from keras_bench.evaluation.records import Interval
from keras_bench.export.agreement import compare_probabilities, refusal

TOP1 = Interval(0.5, 0.4, 0.6)
IDS = np.array(["a", "b", "c", "d"])
KERAS = np.array([[0.9, 0.05, 0.05], [0.4, 0.4 - 5e-5, 0.2 + 5e-5], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]], np.float32)


def test_equal_predictions_pass():
    agreement = compare_probabilities(
        KERAS, KERAS + np.float32(2e-4) * np.array([-1, 1, 0], np.float32), IDS, TOP1, TOP1
    )
    assert (agreement.images, agreement.differing, agreement.ties, agreement.agreeing) == (4, 1, 1, 1.0)
    assert agreement.max_difference == pytest.approx(2e-4, rel=1e-3)
    assert agreement.mean_difference == pytest.approx(2e-4 * 2 / 3, rel=1e-3)
    assert refusal(agreement) is None


def test_only_a_near_tie_of_keras_may_be_decided_either_way():
    other = KERAS.copy()
    other[1, :2] = other[1, [1, 0]]
    tie = compare_probabilities(KERAS, other, IDS, TOP1, TOP1)
    assert (tie.differing, tie.ties, tie.examples) == (1, 1, ())
    assert refusal(tie) is None
    other[2] = [0.1, 0.3, 0.6]
    wrong = compare_probabilities(KERAS, other, IDS, TOP1, TOP1)
    assert (wrong.differing, wrong.ties, wrong.examples, wrong.agreeing) == (2, 1, ("c",), 0.75)
    assert refusal(wrong) == "it predicts differently from Keras on 1 of 4 images, e.g. c"


def test_probabilities_that_drift_are_refused():
    drifted = compare_probabilities(KERAS, KERAS + np.array([1.2e-3, 0, 0], np.float32), IDS, TOP1, TOP1)
    assert refusal(drifted) == "a probability differs from Keras's by 0.0012, more than 0.001"
    broken = compare_probabilities(KERAS, KERAS * np.array([1, 1, np.nan], np.float32), IDS, TOP1, TOP1)
    assert refusal(broken) is not None
