import keras
import numpy as np
import pytest
import scipy.special

from keras_bench.config import TrainingConfig
from keras_bench.training.losses import build_loss, class_weights

COUNTS = (60, 30, 10)
SHARES = np.array([0.6, 0.3, 0.1])
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.25, 0.7, 0.05]], dtype=np.float32)
LABELS = np.array([0, 2, 0])
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
ANSWERED = PROBABILITIES[np.arange(3), LABELS].astype(np.float64)


def loss_of(**settings):
    return float(build_loss(TrainingConfig(**settings), COUNTS)(ONE_HOT, PROBABILITIES))


@pytest.mark.parametrize("imbalance", ["none", "class_weights", "undersample", "oversample"])
def test_cross_entropy_is_the_loss_unless_another_was_chosen(imbalance):
    assert loss_of(imbalance=imbalance) == pytest.approx(-np.log(ANSWERED).mean(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_loss_is_that_of_lin_et_al(gamma):
    expected = -((1 - ANSWERED) ** gamma * np.log(ANSWERED)).mean()
    assert loss_of(imbalance="focal", focal_gamma=gamma) == pytest.approx(expected, rel=1e-5)


def test_logit_adjustment_is_cross_entropy_of_the_answer_times_the_shares():
    adjusted = PROBABILITIES * SHARES / (PROBABILITIES * SHARES).sum(axis=1, keepdims=True)
    expected = -np.log(adjusted[np.arange(3), LABELS]).mean()
    assert loss_of(imbalance="logit_adjustment") == pytest.approx(expected, rel=1e-5)


def test_logit_adjustment_smooths_labels_as_plain_cross_entropy_does():
    targets = 0.9 * ONE_HOT + 0.1 / 3
    expected = -(targets * scipy.special.log_softmax(np.log(PROBABILITIES * SHARES), axis=1)).sum(axis=1).mean()
    assert loss_of(imbalance="logit_adjustment", label_smoothing=0.1) == pytest.approx(expected, rel=1e-5)


def test_the_answer_that_minimises_logit_adjustment_has_no_bias_to_large_classes():
    """Of identical images 60, 30 and 10 of 100 carry each label: nothing tells them apart but how many there are."""
    image = keras.Input((1,))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", use_bias=True)(image))
    model.compile(keras.optimizers.Adam(0.1), build_loss(TrainingConfig(imbalance="logit_adjustment"), COUNTS))
    labels = np.eye(3)[np.repeat(np.arange(3), COUNTS)]
    model.fit(np.zeros((100, 1)), labels, batch_size=100, epochs=150, verbose=0)
    np.testing.assert_allclose(model.predict(np.zeros((1, 1)), verbose=0), [[1 / 3] * 3], atol=0.01)


def test_the_loss_is_the_same_after_saving_the_model(tmp_path):
    image = keras.Input((3,))
    model = keras.Model(image, keras.layers.Activation("linear")(image))
    model.compile(loss=build_loss(TrainingConfig(imbalance="logit_adjustment"), COUNTS))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    before = model.evaluate(PROBABILITIES, ONE_HOT, verbose=0)
    assert again.evaluate(PROBABILITIES, ONE_HOT, verbose=0) == pytest.approx(before)
    assert before == pytest.approx(loss_of(imbalance="logit_adjustment"), rel=1e-5)


def test_class_weights_give_every_class_the_same_weight_in_all():
    # 100 / (3 · 60), 100 / (3 · 30), 100 / (3 · 10)
    weights = class_weights(TrainingConfig(imbalance="class_weights"), COUNTS)
    assert weights == pytest.approx({0: 0.5556, 1: 1.1111, 2: 3.3333}, rel=1e-3)
    assert class_weights(TrainingConfig(imbalance="focal"), COUNTS) is None
