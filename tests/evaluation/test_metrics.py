from dataclasses import asdict, dataclass

import numpy as np
import pytest
from sklearn import metrics as sk

from keras_bench.evaluation.metrics import METRICS, compute_metrics, in_top_k, macro_auc, metrics_of
from keras_bench.evaluation.predictions import Predictions


def make(labels, probabilities):
    probabilities = np.asarray(probabilities, np.float32)
    names = np.array([f"c{k}" for k in range(probabilities.shape[1])])
    return Predictions(np.arange(len(labels)).astype(str), np.asarray(labels), probabilities, names)


def test_four_images_by_hand():
    # Predictions: 0, 1, 0, 2. The first two and the last are correct.
    result = compute_metrics(
        make([0, 1, 2, 2], [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    )
    assert result.images == 4
    assert result.top1 == 0.75
    assert result.top5 is None
    assert result.cross_entropy == pytest.approx((np.log(2) + np.log(2) + np.log(4) + 0) / 4)
    assert result.balanced_accuracy == pytest.approx((1 + 1 + 0.5) / 3)
    # F1: class 0: precision 1/2, recall 1; class 1: 1; class 2: precision 1, recall 1/2.
    assert result.macro_f1 == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    # One-vs-rest areas: class 0 beats (1/4, 0) and ties 1/2: 2.5 of 3 pairs; class 1: 3 of 3;
    # class 2: images (1/4, 1) against (1/4, 1/4): 0.5 + 0.5 + 1 + 1 of 4.
    assert result.macro_auc == pytest.approx((2.5 / 3 + 1 + 3 / 4) / 3)


def test_many_classes_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 12))
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    labels = rng.integers(0, 12, 500)
    result = compute_metrics(make(labels, probabilities))
    predicted = probabilities.argmax(axis=1)
    normalised = probabilities.astype(np.float64) / probabilities.astype(np.float64).sum(axis=1, keepdims=True)
    assert result.top1 == sk.accuracy_score(labels, predicted)
    assert result.top5 == sk.top_k_accuracy_score(labels, probabilities, k=5)
    assert result.cross_entropy == pytest.approx(sk.log_loss(labels, normalised), rel=1e-6)
    assert result.macro_auc == pytest.approx(sk.roc_auc_score(labels, normalised, multi_class="ovr"), abs=1e-6)
    assert result.macro_f1 == sk.f1_score(labels, predicted, average="macro")


@pytest.mark.parametrize(
    ("probabilities", "score"),
    [
        ([[1, 0, 0], [0, 0, 1]], 0.0),  # certain and correct
        ([[0, 1, 0], [1, 0, 0]], 2.0),  # certain and wrong: 1² + 1² each
        ([[1 / 3, 1 / 3, 1 / 3]] * 2, 2 / 3),  # uniform: 1 - 1/K
        ([[0.5, 0.25, 0.25], [0.5, 0.5, 0]], (0.25 + 0.0625 + 0.0625 + 0.25 + 0.25 + 1) / 2),
    ],
)
def test_the_brier_score_by_hand(probabilities, score):
    assert compute_metrics(make([0, 2], probabilities)).brier_score == pytest.approx(score, abs=1e-7)


def test_the_brier_score_is_the_sum_of_scikit_learns_binary_scores_over_classes():
    rng = np.random.default_rng(1)
    probabilities, labels = rng.dirichlet(np.ones(9), size=300).astype(np.float32), rng.integers(0, 9, 300)
    expected = sum(sk.brier_score_loss(labels == k, probabilities[:, k]) for k in range(9))
    assert compute_metrics(make(labels, probabilities)).brier_score == pytest.approx(expected, rel=1e-6)


def test_ties_go_to_the_lower_class_number_and_no_image_counts_twice():
    equal = np.full((3, 6), 1 / 6)
    assert in_top_k(np.array([0, 4, 5]), equal, 5).tolist() == [True, True, False]


def test_a_certain_wrong_prediction_has_a_large_but_finite_cross_entropy():
    result = compute_metrics(make([0, 1], [[0.0, 1.0], [0.0, 1.0]]))
    assert result.cross_entropy == pytest.approx(-np.log(np.finfo(np.float32).tiny) / 2)


def test_certain_correct_predictions_have_zero_cross_entropy_without_a_minus_sign():
    assert str(compute_metrics(make([0, 1], np.eye(2))).cross_entropy) == "0.0"


def test_every_field_is_an_entry_of_metrics_in_the_order_of_earlier_files():
    names = list(asdict(compute_metrics(make([0, 1], np.eye(2)))))
    assert names == ["images", *METRICS]
    earlier = ["images", "cross_entropy", "top1", "top5", "balanced_accuracy", "macro_f1", "macro_auc"]
    assert names[: len(earlier)] == earlier
    assert len({metric.column for metric in METRICS.values()}) == len(METRICS)


def test_a_field_that_declares_no_metric_is_refused():
    @dataclass
    class Other:
        images: int
        top3: float | None = None

    with pytest.raises(TypeError, match=r"Other\.top3: expected Annotated\[float, Metric\(\.\.\.\)\], received float"):
        metrics_of(Other)


def test_an_absent_class_leaves_the_area_undefined_and_counts_in_macro_f1():
    assert macro_auc(np.array([0, 1]), np.full((2, 3), 1 / 3)) is None
    assert compute_metrics(make([0, 1], np.eye(3)[:2])).macro_f1 == pytest.approx(2 / 3)


def test_predictions_are_read_from_their_file_as_written(tmp_path):
    predictions = make([0, 1], [[0.3, 0.7], [0.1, 0.9]])
    (tmp_path / "p.npz").write_bytes(predictions.to_npz())
    loaded = Predictions.from_npz(tmp_path / "p.npz")
    for name in ("ids", "labels", "probabilities", "class_names"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(predictions, name))
    assert loaded.probabilities.dtype == np.float32
    assert loaded.labels.dtype == np.int64
