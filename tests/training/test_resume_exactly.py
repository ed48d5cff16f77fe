"""A phase that was interrupted and resumed ends with the bytes of the undisturbed one, on networks that learn.

A network whose features hardly vary, or one without random layers, would end the same with half of its state lost.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import load_experiment, parse_setting
from keras_bench.data.augmentation import AUGMENTATION_VERSION
from keras_bench.models.auxiliary import with_auxiliary
from keras_bench.runs.folders import run_folder
from keras_bench.training.fit import Examples, FitPlan, fit_phase
from keras_bench.training.resume import seed_generators
from tests.damage import DAMAGE, change_digit
from tests.logs import InterruptedLog

RNG = np.random.default_rng(0)
LABELS = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 48)]
IMAGES = RNG.uniform(0, 0.6, (48, 12, 12, 3)).astype(np.float32)
IMAGES += 0.4 * LABELS[:, None, None, :]  # each class has a colour
VALIDATION = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(16)
EPOCHS = 5


def network(auxiliary):
    """Convolution, BatchNorm and three random layers, one of them before the auxiliary classifier's branch."""
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="first_conv")(image)
    x = keras.layers.BatchNormalization(momentum=0.8, name="first_bn")(x)
    x = keras.layers.SpatialDropout2D(0.3, name="branch")(keras.layers.Activation("relu", name="first_relu")(x))
    x = keras.layers.Conv2D(8, 3, activation="relu", name="second_conv")(x)
    x = keras.layers.GaussianNoise(0.1, name="noise")(keras.layers.GlobalAveragePooling2D(name="head_pool")(x))
    x = keras.layers.Dropout(0.4, name="head_dropout")(x)
    x = keras.layers.Dense(3, activation="softmax", dtype="float32", name="head_probabilities")(x)
    model = keras.Model(image, x)
    return with_auxiliary(model, "branch", 0.4) if auxiliary else model


def stream(start):
    """Endless epochs whose images depend on the epoch, as the pipeline's do."""

    def epoch(number):
        factor = 1 - tf.cast(number, tf.float32) / 100
        return tf.data.Dataset.from_tensor_slices((IMAGES * factor, LABELS)).batch(16)

    return tf.data.Dataset.range(start, 99).flat_map(epoch)


def plan_of(*settings):
    texts = [
        f"scratch.epochs={EPOCHS}", "scratch.learning_rate=0.02", "runtime.tensorboard=false",
        "runtime.save_state_seconds=0", "training.batch_size=16", *settings,
    ]  # fmt: skip
    config = load_experiment("digits").resolve("MobileNet", [parse_setting(text) for text in texts])
    return FitPlan("scratch", config, BACKBONES["MobileNet"], 3, (16, 16, 16), inputs={})


def fit(folder, plan, auxiliary=False, log=None):
    """Return weights, optimizer variables and random state after the last epoch, and history without its times."""
    run, model = run_folder(folder, "test", "MobileNet", 0), network(auxiliary)
    run.phase("scratch").mkdir(parents=True, exist_ok=True)
    fit_phase(model, plan, run, Examples(None, stream, VALIDATION), log or InterruptedLog())
    variables = [*model.weights, *model.optimizer.variables, *seed_generators(model)]
    rows = [line.split(",") for line in run.history("scratch").read_text().splitlines()]
    figures = [[value for place, value in enumerate(row) if "seconds" not in rows[0][place]] for row in rows]
    return [np.asarray(variable) for variable in variables], figures


CASES = {
    "adam, plateau": [],
    "momentum, cosine": ["scratch.optimizer=sgd", "scratch.momentum=0.9", "scratch.learning_rate_schedule=cosine"],
    "rmsprop, steps": [
        *("scratch.optimizer=rmsprop", "scratch.learning_rate=0.002"),
        *("scratch.learning_rate_schedule=step", "scratch.step_epochs=2"),
    ],
    "lion, decay": ["scratch.optimizer=lion", "scratch.learning_rate=0.003", "scratch.weight_decay=0.01"],
    "portions left over": ["training.batch_size=64", "training.accumulation_steps=4"],
    "float16 and its loss scale": ["training.mixed_precision=float16"],
    "auxiliary classifier": [],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("epoch", [2, 4])
def test_a_resumed_phase_is_the_undisturbed_one_to_the_bit(tmp_path, case, epoch):
    plan, auxiliary = plan_of(*CASES[case]), case == "auxiliary classifier"
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16" if "float16" in case else "float32")
    try:
        expected, figures = fit(tmp_path / "whole", plan, auxiliary)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "cut", plan, auxiliary, InterruptedLog(epoch))
        resumed, figures_again = fit(tmp_path / "cut", plan, auxiliary)
    finally:
        keras.config.set_dtype_policy(policy)
    column = figures[0].index("val_top1")
    assert max(float(row[column]) for row in figures[1:]) >= 0.8  # it learns
    assert len(figures) == 1 + EPOCHS
    assert figures_again == figures
    for ours, theirs in zip(resumed, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_state_of_an_earlier_version_is_resumed_with_a_warning(tmp_path):
    plan = plan_of()
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, plan, log=InterruptedLog(3))
    (path,) = run_folder(tmp_path, "test", "MobileNet", 0).state("scratch").glob("epoch*.json")
    tree = json.loads(path.read_text())
    del tree["seeds"], tree["sha256"]
    path.write_text(json.dumps(tree))
    log = InterruptedLog()
    fit(tmp_path, plan, log=log)
    (warning,) = log.warned
    assert "dropout" in warning


def test_other_software_than_before_is_said(tmp_path, monkeypatch):
    plan = plan_of()
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, plan, log=InterruptedLog(3))
    monkeypatch.setattr("keras_bench.training.resume.AUGMENTATION_VERSION", 1000)
    log = InterruptedLog()
    fit(tmp_path, plan, log=log)
    (warning,) = log.warned
    assert f"augmentation {AUGMENTATION_VERSION}, now 1000:" in warning


BEST = "best weights and their copy"
DAMAGED = [
    *(("epoch0002.json", damage) for damage in ("empty", "zeros", "cut to half", "one digit")),
    *(("epoch0002.keras", damage) for damage in ("missing", "cut to half", "one byte in the middle")),
    *(("history.csv", damage) for damage in ("missing", "empty", "one byte in the middle")),
    *((BEST, damage) for damage in ("missing", "last byte")),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole"), plan_of("scratch.epochs=3"))


@pytest.mark.parametrize(("file", "damage"), DAMAGED)
def test_a_damaged_state_is_not_believed_and_the_phase_starts_over(tmp_path, undisturbed, file, damage):
    plan = plan_of("scratch.epochs=3")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, plan, log=InterruptedLog(3))
    run = run_folder(tmp_path, "test", "MobileNet", 0)
    state = run.state("scratch")
    paths = [run.history("scratch") if file == "history.csv" else state / file]
    if file == BEST:
        paths = [run.best_weights("scratch"), state / "epoch0002.best.weights.h5"]
        content = paths[1].read_bytes()
        paths[1].unlink()
        paths[1].write_bytes(content)  # a file of its own, not a second name
    for path in paths:
        {**DAMAGE, "missing": Path.unlink, "one digit": change_digit}[damage](path)
    log = InterruptedLog()
    again, figures = fit(tmp_path, plan, log=log)
    (warning,) = log.warned
    assert "scratch: starts over: " in warning
    assert str(paths[0]) in warning
    assert figures == undisturbed[1]
    for ours, theirs in zip(again, undisturbed[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_older_state_counts_where_the_newest_is_damaged(tmp_path, undisturbed, monkeypatch):
    """Two states are there when a process is killed before it removes the older one."""
    plan, folder = plan_of("scratch.epochs=3"), run_folder(tmp_path, "test", "MobileNet", 0).state("scratch")
    monkeypatch.setattr(Path, "unlink", keep(folder, Path.unlink))
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, plan, log=InterruptedLog(3))
    monkeypatch.undo()
    assert sorted(path.name for path in folder.glob("*.json")) == ["epoch0001.json", "epoch0002.json"]
    DAMAGE["one byte in the middle"](folder / "epoch0002.keras")
    log = InterruptedLog()
    again, figures = fit(tmp_path, plan, log=log)
    assert log.warned == []
    assert figures == undisturbed[1]
    for ours, theirs in zip(again, undisturbed[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def keep(folder, unlink):
    """Path.unlink that leaves a folder's states alone."""

    def unlink_elsewhere(path, missing_ok=False):
        if path.parent != folder or path.name.startswith(".writing-"):
            unlink(path, missing_ok=missing_ok)

    return unlink_elsewhere


@pytest.mark.parametrize("damage", ["history is short", "history is empty", "the model is cut"])
def test_a_damaged_state_of_an_earlier_version_starts_over_too(tmp_path, undisturbed, damage):
    plan, run = plan_of("scratch.epochs=3"), run_folder(tmp_path, "test", "MobileNet", 0)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, plan, log=InterruptedLog(3))
    (path,) = run.state("scratch").glob("epoch*.json")
    tree = json.loads(path.read_text())
    for key in ("seeds", "model_sha256", "history_sha256", "sha256"):
        del tree[key]
    path.write_text(json.dumps(tree))
    history = run.history("scratch")
    if damage == "history is short":
        history.write_text("".join(history.read_text().splitlines(keepends=True)[:2]))
    else:
        DAMAGE["empty" if "empty" in damage else "cut to half"](
            history if "empty" in damage else path.with_suffix(".keras")
        )
    log = InterruptedLog()
    again, figures = fit(tmp_path, plan, log=log)
    (warning,) = log.warned
    assert "starts over" in warning
    assert figures == undisturbed[1]
    for ours, theirs in zip(again, undisturbed[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
