"""TF32 is for training steps only: the precision of steps and of validation, and the setting afterwards."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.config import TrainingConfig
from keras_bench.console import Log
from keras_bench.lr_find.range_test import search_rate
from keras_bench.runs.folders import run_folder
from keras_bench.runs.history import read_history
from keras_bench.training.callbacks import DivergedError
from keras_bench.training.fit import Examples, fit_phase
from keras_bench.training.precision import describe_tf32, training_precision, trains_in_tf32
from tests.tf32 import allow, allowed, rounded
from tests.training.test_fit import IMAGES, LABELS, VALIDATION, make_phase

AGAIN_AND_AGAIN = VALIDATION.repeat()
STILL = ("tl.epochs=2", "tl.learning_rate=1e-12")  # weights stay where they are


@pytest.fixture
def phase():
    return make_phase(*STILL)


def lively_model():
    """Return a small model whose predictions differ between images: equal ones would not show rounding."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255, -0.4)(image)
    x = keras.layers.Conv2D(16, 3, strides=2, name="stem")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="head_probabilities")(x))
    model.layers[-1].kernel.assign(8 * model.layers[-1].kernel)
    return model


def fit(folder, phase, model=None, training=AGAIN_AND_AGAIN, validation=VALIDATION):
    run = run_folder(folder, "test", "MobileNet", 0)
    run.phase("tl").mkdir(parents=True, exist_ok=True)
    return run, fit_phase(
        model or lively_model(), phase, run, Examples(None, lambda start: training, validation), Log()
    )


def cross_entropy(model, tf32):
    """Return the model's mean cross-entropy over all images."""
    before = allowed()
    allow(tf32)
    probabilities = np.asarray(model(IMAGES, training=False), dtype=np.float64)
    allow(before)
    return -np.log(probabilities[np.arange(len(IMAGES)), LABELS.argmax(axis=1)]).mean()


def test_the_emulation_rounds_as_half_precision_does_within_its_range():
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    values = values[np.abs(values) > 1e-3]  # below 6e-5 half precision loses more bits
    np.testing.assert_array_equal(rounded(values), values.astype(np.float16).astype(np.float32))
    ties = np.array([1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-11], np.float32)
    np.testing.assert_array_equal(rounded(ties), np.array([1, 1 + 2**-9, -1], np.float32))


def test_the_emulation_reproduces_the_example_of_tensorflow_s_documentation(emulated_tf32):
    """enable_tensor_float_32_execution: 1,024 products of 1.0001 and 1 make 1024 with TF32, about 1024.1 without."""
    layer = keras.layers.Dense(1, kernel_initializer="ones")
    rows = tf.fill((1, 1024), 1.0001)
    for tf32, expected in ((True, 1024.0), (False, 1024.1)):
        allow(tf32)
        assert float(layer(rows)[0, 0]) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("tf32", [True, False])
def test_training_steps_follow_the_setting_and_validation_is_exact(emulated_tf32, tmp_path, tf32):
    model = lively_model()
    exact, coarse = cross_entropy(model, tf32=False), cross_entropy(model, tf32=True)
    assert abs(coarse - exact) > 1e-4
    allow(False)
    run, outcome = fit(tmp_path, make_phase(*STILL, f"training.tf32={str(tf32).lower()}"), model)
    assert outcome.resolved["tf32"] is tf32
    for _, row in read_history(run.history("tl")).iterrows():
        assert row["cross_entropy"] == pytest.approx(coarse if tf32 else exact, abs=1e-5)
        assert row["val_cross_entropy"] == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("setting", ["true", "false"])
def test_the_flag_is_restored_afterwards(emulated_tf32, tmp_path, before, setting):
    phase = make_phase(*STILL, f"training.tf32={setting}")
    allow(before)
    fit(tmp_path / "whole", phase)
    assert allowed() is before
    poisoned = np.full_like(IMAGES, np.nan)
    training = tf.data.Dataset.from_tensor_slices((poisoned, LABELS)).batch(8).repeat()
    with pytest.raises(DivergedError):
        fit(tmp_path / "diverged", phase, training=training)
    assert allowed() is before
    validation = tf.data.Dataset.from_generator(failing, output_signature=VALIDATION.element_spec)
    with pytest.raises(tf.errors.OpError, match="the disk is gone"):
        fit(tmp_path / "failed", phase, validation=validation)
    assert allowed() is before


def failing():
    yield IMAGES[:8], LABELS[:8]
    raise OSError("the disk is gone")


@pytest.mark.parametrize("tf32", [True, False])
def test_the_search_for_a_rate_trains_as_the_phase_would(emulated_tf32, tf32):
    allow(False)
    phase = make_phase(f"training.tf32={str(tf32).lower()}")
    search_rate(lively_model(), phase, 1e-6, 1e-5, 3, AGAIN_AND_AGAIN, Log())
    assert set(emulated_tf32.seen) == {tf32}
    assert not allowed()


def test_a_gpu_uses_tf32_only_where_xla_compiles_the_step(monkeypatch, tmp_path, phase):
    """Otherwise the engines that TensorFlow chose with TF32 would also compute validation and predictions."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    for xla, tf32, expected in (("auto", True, True), ("on", True, True), ("off", True, False), ("auto", False, False)):
        training = TrainingConfig(xla=xla, tf32=tf32)
        assert trains_in_tf32(training, xla != "off") is expected
        with training_precision(False):
            assert describe_tf32(training) == {"training": expected, "evaluation": False}
        with training_precision(True):
            assert describe_tf32(training) == {"training": expected, "evaluation": True}


def test_a_run_says_that_it_trains_in_full_precision_without_xla(emulated_tf32, monkeypatch, tmp_path, capsys):
    allow(False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [kind])
    _, outcome = fit(tmp_path, make_phase(*STILL, "training.xla=off"))
    assert not any(emulated_tf32.seen)
    assert outcome.resolved["tf32"] is False
    assert "tl: without XLA it trains in full float32; training.tf32 needs training.xla" in capsys.readouterr().out
