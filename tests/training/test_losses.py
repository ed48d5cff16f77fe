"""Losses and class weights against their formulas, in value and in gradient, also for very wrong predictions."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from keras_bench.config import TrainingConfig
from keras_bench.training.losses import build_loss, class_weights

COUNTS = (60, 30, 10)
SHARES = np.array([0.6, 0.3, 0.1])
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.25, 0.7, 0.05]], dtype=np.float32)
LABELS = np.array([0, 2, 0])
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
OF_TRUE_CLASS = PROBABILITIES[np.arange(3), LABELS].astype(np.float64)


def loss_of(**settings):
    return float(build_loss(TrainingConfig(**settings), COUNTS)(ONE_HOT, PROBABILITIES))


@pytest.mark.parametrize("imbalance", ["none", "class_weights", "undersample", "oversample"])
def test_cross_entropy_is_the_loss_unless_another_is_chosen(imbalance):
    assert loss_of(imbalance=imbalance) == pytest.approx(-np.log(OF_TRUE_CLASS).mean(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_loss_is_that_of_lin_et_al(gamma):
    expected = -((1 - OF_TRUE_CLASS) ** gamma * np.log(OF_TRUE_CLASS)).mean()
    assert loss_of(imbalance="focal", focal_gamma=gamma) == pytest.approx(expected, rel=1e-5)


def test_logit_adjustment_is_cross_entropy_of_the_prediction_times_the_shares():
    adjusted = PROBABILITIES * SHARES / (PROBABILITIES * SHARES).sum(axis=1, keepdims=True)
    expected = -np.log(adjusted[np.arange(3), LABELS]).mean()
    assert loss_of(imbalance="logit_adjustment") == pytest.approx(expected, rel=1e-5)


def test_logit_adjustment_smooths_labels_as_plain_cross_entropy_does():
    targets = 0.9 * ONE_HOT + 0.1 / 3
    expected = -(targets * scipy.special.log_softmax(np.log(PROBABILITIES * SHARES), axis=1)).sum(axis=1).mean()
    assert loss_of(imbalance="logit_adjustment", label_smoothing=0.1) == pytest.approx(expected, rel=1e-5)


def test_the_prediction_that_minimises_logit_adjustment_has_no_bias_to_large_classes():
    """100 identical images, of which 60, 30 and 10 carry each label: classes differ only in their number of images."""
    image = keras.Input((1,))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", use_bias=True)(image))
    model.compile(keras.optimizers.Adam(0.1), build_loss(TrainingConfig(imbalance="logit_adjustment"), COUNTS))
    labels = np.eye(3)[np.repeat(np.arange(3), COUNTS)]
    model.fit(np.zeros((100, 1)), labels, batch_size=100, epochs=150, verbose=0)
    np.testing.assert_allclose(model.predict(np.zeros((1, 1)), verbose=0), [[1 / 3] * 3], atol=0.01)


@pytest.fixture
def policy(request):
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    keras.mixed_precision.set_global_policy("float32")


# A row per image. The probability of its true class is about 0.3, 1e-12, 1e-30, 1e-60, and so near 1 that 1 - p is 0.
LOGITS = np.array([[0, 0.5, -0.5], [0, -27.63, -2], [-69.08, -3, 0], [0, -138.16, 1], [60, -60, 0]])
TARGETS = np.eye(3)[[0, 1, 0, 1, 0]]


def loss_in_float64(logits, training):
    """Return the loss of each image by its formula, (N,)."""
    targets = TARGETS * (1 - training.label_smoothing) + training.label_smoothing / 3
    log_p = scipy.special.log_softmax(logits, axis=1)
    if training.imbalance == "focal":
        return -(targets * (-np.expm1(log_p)) ** training.focal_gamma * log_p).sum(axis=1)
    if training.imbalance == "logit_adjustment":
        log_p = scipy.special.log_softmax(logits + np.log(SHARES), axis=1)
    weights = 100 / (3 * TARGETS @ COUNTS) if training.imbalance == "class_weights" else 1
    return -weights * (targets * log_p).sum(axis=1)


def gradient_in_float64(training):
    """Return the gradient by central differences, (N, 3)."""
    steps = 1e-5 * np.eye(3)
    pairs = [(loss_in_float64(LOGITS + step, training), loss_in_float64(LOGITS - step, training)) for step in steps]
    return np.stack([(above - below) / 2e-5 for above, below in pairs], axis=1)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"], indirect=True)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"label_smoothing": 0.1},
        {"imbalance": "class_weights"},
        {"imbalance": "logit_adjustment"},
        {"imbalance": "logit_adjustment", "label_smoothing": 0.1},
        {"imbalance": "focal"},
        {"imbalance": "focal", "focal_gamma": 0.5, "label_smoothing": 0.1},
        {"imbalance": "focal", "focal_gamma": 0.0},
    ],
)
def test_in_training_even_the_worst_predictions_have_the_gradient_of_the_formula(policy, settings):
    training = TrainingConfig(**settings)
    image = keras.Input((5,))
    x = keras.layers.Dropout(0.0)(image)  # in the policy's precision
    head = keras.layers.Dense(3, activation="softmax", use_bias=False, dtype="float32")
    model = keras.Model(image, head(x))
    head.kernel.assign(LOGITS)  # image i is one-hot at i, so its logits are row i
    model.compile(keras.optimizers.SGD(5.0), build_loss(training, COUNTS))  # 5.0, since the loss is the mean of five
    weights = class_weights(training, COUNTS)
    model.fit(np.eye(5), TARGETS, batch_size=5, class_weight=weights, shuffle=False, verbose=0)
    gradient = LOGITS.astype(np.float32) - head.kernel.numpy()
    np.testing.assert_allclose(gradient, gradient_in_float64(training), rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("p", [1e-12, 1e-30])
def test_probabilities_alone_have_a_gradient_down_to_the_limit_of_float32(p):
    probabilities = tf.constant([[p, 0.75, 0.25]], tf.float32)
    label = tf.constant([[1.0, 0.0, 0.0]])
    # The derivatives of -log(p π / Σ p π) and -(1 - p)² log p by p, where Σ p π = 0.75 · 0.3 + 0.25 · 0.1
    expected = {
        "logit_adjustment": (-np.log(p * 0.6 / 0.25), -1 / p + 0.6 / 0.25),
        "focal": (-np.log(p), 2 * np.log(p) - 1 / p),
    }
    for imbalance, (value, slope) in expected.items():
        loss_function = build_loss(TrainingConfig(imbalance=imbalance), COUNTS)
        with tf.GradientTape() as tape:
            tape.watch(probabilities)
            loss = loss_function(label, probabilities)
        assert float(loss) == pytest.approx(value, rel=1e-5)
        assert float(tape.gradient(loss, probabilities)[0, 0]) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("settings", [{"imbalance": "logit_adjustment"}, {"imbalance": "focal", "focal_gamma": 0.5}])
def test_probabilities_of_exactly_0_and_1_have_a_finite_loss_and_gradient(settings):
    probabilities = tf.constant([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    loss_function = build_loss(TrainingConfig(**settings), COUNTS)
    with tf.GradientTape() as tape:
        tape.watch(probabilities)
        loss = loss_function(tf.constant([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), probabilities)
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, probabilities)).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"imbalance": "logit_adjustment", "label_smoothing": 0.2},
        {"imbalance": "focal", "focal_gamma": 3.0, "label_smoothing": 0.2},
    ],
)
def test_the_loss_is_the_same_after_saving_the_model(tmp_path, settings):
    image = keras.Input((3,))
    model = keras.Model(image, keras.layers.Activation("linear")(image))
    model.compile(loss=build_loss(TrainingConfig(**settings), COUNTS))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    before = model.evaluate(PROBABILITIES, ONE_HOT, verbose=0)
    assert again.evaluate(PROBABILITIES, ONE_HOT, verbose=0) == pytest.approx(before)
    assert before == pytest.approx(loss_of(**settings), rel=1e-5)


@pytest.mark.parametrize(
    ("earlier", "value"),
    [
        (
            {
                "module": "keras_bench.training.losses",
                "class_name": "LogitAdjustedCrossentropy",
                "registered_name": "keras_bench>LogitAdjustedCrossentropy",
                "config": {"shares": [0.6, 0.3, 0.1], "label_smoothing": 0.0, "name": "logit_adjusted"},
            },
            {"imbalance": "logit_adjustment"},
        ),
        (
            keras.saving.serialize_keras_object(keras.losses.CategoricalFocalCrossentropy(1.0, 2.0)),
            {"imbalance": "focal"},
        ),
    ],
)
def test_the_loss_in_a_state_saved_by_an_earlier_version_can_still_be_read(earlier, value):
    loss = keras.saving.deserialize_keras_object(earlier)
    assert float(loss(ONE_HOT, PROBABILITIES)) == pytest.approx(loss_of(**value), rel=1e-5)


def test_class_weights_give_every_class_the_same_total_weight():
    # 100 / (3 · 60), 100 / (3 · 30), 100 / (3 · 10)
    weights = class_weights(TrainingConfig(imbalance="class_weights"), COUNTS)
    assert weights == pytest.approx({0: 0.5556, 1: 1.1111, 2: 3.3333}, rel=1e-3)
    assert class_weights(TrainingConfig(imbalance="focal"), COUNTS) is None
