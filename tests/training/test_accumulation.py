"""Batches computed in portions: the steps equal those of whole batches, also when resumed; a plan counts portions."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import load_experiment, parse_setting
from keras_bench.console import Log
from keras_bench.runs.folders import run_folder
from keras_bench.runs.history import read_history
from keras_bench.training.fit import Examples, FitPlan, fit_phase
from keras_bench.training.resume import find_states
from keras_bench.workflow.plan import Probe, _print_phase
from tests.logs import InterruptedLog

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (24, 8, 8, 3)).astype(np.float32)
LABELS = np.eye(4, dtype=np.float32)[RNG.integers(0, 4, 24)]
VALIDATION = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)


def small_model():
    """Return a model without BatchNorm or dropout, but with an L2 penalty."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, activation="relu", kernel_regularizer=keras.regularizers.L2(0.1), name="one")(image)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(image, keras.layers.Dense(4, activation="softmax", name="head_probabilities")(x))


def fit(folder, batch_size, accumulation_steps, *settings, log=None):
    texts = [
        f"training.batch_size={batch_size}", f"training.accumulation_steps={accumulation_steps}",
        "runtime.tensorboard=false", "runtime.save_state_seconds=0", *settings,
    ]  # fmt: skip
    config = load_experiment("digits").resolve("MobileNet", [parse_setting(text) for text in texts])
    portion = config.training.portion_size
    phase = FitPlan("scratch", config, BACKBONES["MobileNet"], -(-24 // portion), (3, 9, 4, 8), inputs={})
    run = run_folder(folder, "test", "MobileNet", 0)
    run.phase("scratch").mkdir(parents=True, exist_ok=True)
    model = small_model()
    epoch = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(portion)
    fit_phase(model, phase, run, Examples(None, lambda start: epoch.repeat(), VALIDATION), log or Log())
    return model, run


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        (["scratch.optimizer=sgd", "scratch.momentum=0.0"], 1e-5),
        (["scratch.optimizer=sgd", "scratch.weight_decay=0.1", "training.imbalance=class_weights"], 1e-5),
        (["scratch.optimizer=adamw", "scratch.weight_decay=0.1", "training.label_smoothing=0.1"], 1e-4),
    ],
)
def test_steps_in_portions_equal_those_of_the_whole_batch(tmp_path, settings, tolerance):
    settings = [*settings, "scratch.epochs=2", "scratch.learning_rate=0.1", "scratch.learning_rate_schedule=constant"]
    models = [fit(tmp_path / str(steps), 8, steps, *settings)[0] for steps in (1, 4)]
    assert [int(model.optimizer.iterations) for model in models] == [6, 6]
    for whole, portions, start in zip(*(model.get_weights() for model in (*models, small_model())), strict=True):
        np.testing.assert_allclose(portions, whole, atol=tolerance)
        assert np.abs(whole - start).max() > 0.01


def test_portions_left_over_wait_for_the_next_epoch_also_when_a_phase_is_resumed(tmp_path):
    settings = ["scratch.epochs=4", "scratch.optimizer=adam", "scratch.learning_rate=0.01"]
    # 6 portions per epoch, 4 per step: 1, 3, 4 and 6 steps after each epoch.
    whole, whole_run = fit(tmp_path / "whole", 16, 4, *settings)
    assert int(whole.optimizer.iterations) == 6
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", 16, 4, *settings, log=InterruptedLog(3))
    saved = find_states(run_folder(tmp_path / "cut", "test", "MobileNet", 0).state("scratch"))[0]
    state = keras.models.load_model(saved.model)
    assert state.optimizer.gradient_accumulation_steps == 4
    assert int(state.optimizer.iterations) == 3
    _, cut_run = fit(tmp_path / "cut", 16, 4, *settings)
    rows, cut_rows = (read_history(run.history("scratch")) for run in (whole_run, cut_run))
    assert len(rows) == 4
    for name in ("loss", "val_cross_entropy"):
        assert cut_rows[name].tolist() == pytest.approx(rows[name].tolist(), rel=1e-5)


def test_a_plan_counts_the_portions(tmp_path):
    texts = ["training.batch_size=32", "training.accumulation_steps=4", "scratch.epochs=3"]
    config = load_experiment("digits").resolve("MobileNet", [parse_setting(text) for text in texts])
    positions = {"train": np.arange(100), "val": np.arange(10), "test": np.arange(20)}
    log, lines = Log(), []
    log.line = lines.append
    job = SimpleNamespace(config=config, request=SimpleNamespace(seed=0))
    index = SimpleNamespace(labels=np.arange(100) % 4)
    data = SimpleNamespace(splits=SimpleNamespace(positions=positions), index=index)
    # 13 training portions of 8, 2 of val and 3 of test; a timed step took one portion.
    seconds = _print_phase(job, "scratch", Probe(7, 9, 5.0, 0.5, 0.25), data, log)
    assert seconds == 5 + 3 * (13 * 0.5 + 2 * 0.25) + (2 + 3) * 0.25
    assert "at most 3 epochs, each batch of 32 in portions of 8, 360 images, 16 training images/s" in lines[0]
    whole = config.model_copy(update={"training": config.training.model_copy(update={"accumulation_steps": 1})})
    job.config = whole
    _print_phase(job, "scratch", Probe(7, 9, 5.0, 0.5, 0.25), data, log)
    assert "portions" not in lines[1]
    assert "64 training images/s" in lines[1]
