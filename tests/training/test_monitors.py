"""The metrics computed in every phase: worked out by hand, and against scikit-learn over uneven batches."""

from typing import get_args

import keras
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.utils.class_weight import compute_sample_weight

from keras_bench.config import TrainingConfig
from keras_bench.config.decision import DecisionMetric, decision_of, shared_decision
from keras_bench.config.recipe import Monitor
from keras_bench.runs.history import HISTORY_COLUMNS, append_history, read_history
from keras_bench.training.monitors import WATCHED, BalancedAccuracy, BalancedCrossentropy, build_metrics, mode_of

LABELS = np.array([0, 0, 0, 1])
PROBABILITIES = np.array([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.2, 0.4, 0.4], [0.5, 0.25, 0.25]])


def one_hot(labels, classes):
    return np.eye(classes, dtype=np.float32)[labels]


def test_by_hand_over_classes_that_have_images():
    accuracy, entropy = BalancedAccuracy(3), BalancedCrossentropy(3)
    assert (float(accuracy.result()), float(entropy.result())) == (0, 0)
    for metric in (accuracy, entropy):
        for rows in ([0], [1, 2, 3]):  # batches of different sizes
            metric.update_state(one_hot(LABELS[rows], 3), PROBABILITIES[rows].astype(np.float32))
    # Class 0: two of three correct; class 1: its only image wrong; class 2 has no images. Top-1 is one half.
    assert float(accuracy.result()) == pytest.approx((2 / 3 + 0) / 2)
    of_class_0 = (np.log(2) - np.log(0.8) - np.log(0.2)) / 3
    assert float(entropy.result()) == pytest.approx((of_class_0 + np.log(4)) / 2, rel=1e-6)
    accuracy.reset_state()
    accuracy.update_state(one_hot([1], 3), PROBABILITIES[3:].astype(np.float32))
    assert float(accuracy.result()) == 0
    accuracy.update_state(one_hot([0, 0], 3), PROBABILITIES[[0, 2]].astype(np.float32), sample_weight=[3.0, 1.0])
    assert float(accuracy.result()) == pytest.approx((0 + 3 / 4) / 2)


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_over_a_split_they_equal_scikit_learn_s_however_it_is_cut_into_batches(batch):
    generator = np.random.default_rng(3)
    labels = np.repeat(np.arange(7), [30, 12, 6, 5, 4, 2, 1])[generator.permutation(60)]
    probabilities = generator.dirichlet(np.ones(8), 60).astype(np.float32)  # an eighth class has no image
    accuracy, entropy = BalancedAccuracy(8), BalancedCrossentropy(8)
    for start in range(0, 60, batch):
        rows = slice(start, start + batch)
        accuracy.update_state(one_hot(labels[rows], 8), probabilities[rows])
        entropy.update_state(one_hot(labels[rows], 8), probabilities[rows])
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = balanced_accuracy_score(labels, probabilities.argmax(axis=1))
    assert float(accuracy.result()) == pytest.approx(expected)
    weights = compute_sample_weight("balanced", labels)
    exact = probabilities.astype(float) / probabilities.sum(axis=1, dtype=float)[:, None]
    expected = log_loss(labels, exact, sample_weight=weights, labels=range(8))
    assert float(entropy.result()) == pytest.approx(expected, rel=1e-5)


def test_for_balanced_classes_they_equal_the_plain_metrics():
    labels = np.arange(12) % 4
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 12).astype(np.float32)
    results = {}
    for metric in build_metrics(4):
        metric.update_state(one_hot(labels, 4), probabilities)
        results[metric.name] = float(metric.result())
    assert results["balanced_accuracy"] == pytest.approx(results["top1"])
    assert results["balanced_cross_entropy"] == pytest.approx(results["cross_entropy"], rel=1e-6)


def test_fit_counts_each_image_once_whatever_the_class_weights_also_after_loading_the_model(tmp_path):
    identity = keras.layers.Dense(3, use_bias=False, kernel_initializer="identity")
    model = keras.Sequential([keras.Input((3,)), identity])
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy", metrics=build_metrics(3), jit_compile=False)
    data = (PROBABILITIES.astype(np.float32), one_hot(LABELS, 3))
    for _ in range(2):
        history = model.fit(
            *data, batch_size=3, class_weight={0: 1.0, 1: 9.0, 2: 1.0}, validation_data=data, verbose=0
        ).history
        assert history["balanced_accuracy"] == history["val_balanced_accuracy"] == [pytest.approx(1 / 3)]
        assert history["top1"] == [0.5]
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)


def test_one_table_holds_names_and_directions_and_the_others_agree_with_it():
    assert {mode_of(f"val_{name}") for name in ("top1", "top5", "balanced_accuracy")} == {"max"}
    assert {mode_of(f"val_{name}") for name in ("cross_entropy", "balanced_cross_entropy")} == {"min"}
    assert [metric.name for metric in build_metrics(6)] == list(WATCHED)
    assert [metric.name for metric in build_metrics(5)] == [name for name in WATCHED if name != "top5"]
    assert {name for name in HISTORY_COLUMNS if name.startswith("val_")} == {"val_loss", *(f"val_{n}" for n in WATCHED)}
    assert set(WATCHED) < set(HISTORY_COLUMNS)
    assert {name.removeprefix("val_") for name in get_args(Monitor)} <= {"auto", *WATCHED}


@pytest.mark.parametrize(
    ("settings", "stopping", "checkpoint", "decision"),
    [
        ({}, "val_cross_entropy", "val_top1", "top1"),
        ({"imbalance": "oversample"}, "val_balanced_cross_entropy", "val_balanced_accuracy", "balanced_accuracy"),
        ({"imbalance": "focal", "checkpoint_monitor": "val_top1"}, "val_balanced_cross_entropy", "val_top1", "top1"),
        (
            {"early_stopping_monitor": "val_top1", "checkpoint_monitor": "val_balanced_cross_entropy"},
            "val_top1", "val_balanced_cross_entropy", "balanced_accuracy",
        ),
    ],
)  # fmt: skip
def test_auto_is_balanced_if_training_corrects_for_imbalance(settings, stopping, checkpoint, decision):
    training = TrainingConfig(**settings)
    assert (training.watched_by_stopping, training.watched_by_checkpoint) == (stopping, checkpoint)
    assert training.decision == decision


def test_balanced_accuracy_decides_for_all_runs_if_it_does_for_any():
    top1, balanced = DecisionMetric.TOP1, DecisionMetric.BALANCED_ACCURACY
    assert [shared_decision(metrics) for metrics in ([top1], [top1, balanced], [])] == [top1, balanced, top1]
    assert [decision_of(name) for name in ("val_cross_entropy", "val_balanced_accuracy")] == [top1, balanced]


def test_a_history_begun_by_an_earlier_version_keeps_its_columns(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,val_top1\n1,0.5,0.25\n")
    append_history(path, {"epoch": 2, "loss": 0.4, "val_top1": 0.5, "val_balanced_accuracy": 0.3})
    assert read_history(path).to_dict("records") == [
        {"epoch": 1, "loss": 0.5, "val_top1": 0.25}, {"epoch": 2, "loss": 0.4, "val_top1": 0.5},
    ]  # fmt: skip
    append_history(tmp_path / "new.csv", {"epoch": 1, "val_balanced_accuracy": 0.3})
    ((_, row),) = read_history(tmp_path / "new.csv").iterrows()
    assert row.dropna().to_dict() == {"epoch": 1, "val_balanced_accuracy": 0.3}


def test_cross_entropy_uses_logits_within_evaluate_and_clips_probabilities_alone():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax", kernel_initializer="identity")(inputs))
    model.compile(metrics=[BalancedCrossentropy(2)], loss="categorical_crossentropy")
    images, labels = np.array([[50.0, 0.0], [0.0, 50.0]], np.float32), np.array([[0, 1], [1, 0]], np.float32)
    results = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert results["balanced_cross_entropy"] == pytest.approx(50)
    alone = BalancedCrossentropy(2)
    alone.update_state(labels, model.predict(images, verbose=0))
    assert float(alone.result()) == pytest.approx(-np.log(1e-7), rel=1e-4)
