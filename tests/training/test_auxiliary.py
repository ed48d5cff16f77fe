"""Phases with an auxiliary classifier: when it is left out, that it is never saved, and that resuming is exact."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.backbones.table import BACKBONES
from keras_bench.cli.main import main
from keras_bench.console import Log
from keras_bench.models.auxiliary import PREFIX
from keras_bench.models.build import ModelSpec, build_model
from keras_bench.models.split import split_frozen
from keras_bench.runs.folders import run_folder
from keras_bench.runs.history import read_history
from keras_bench.runs.job import Request, resolve
from keras_bench.runs.run import Run
from keras_bench.training.auxiliary import with_requested_auxiliary
from keras_bench.training.fit import Examples, FitPlan, fit_phase, set_trainable
from keras_bench.training.phase import save_whole_model, with_checkpoint
from tests.models.test_auxiliary import IMAGES, LABELS, cross_entropies, small_model

EXAMPLES = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(3)

# A few convolutions stand in for InceptionV3: what is tested is the same for both.
FAMILY = replace(BACKBONES["MobileNet"].family, block="^(before|branch|after)$")
ROW = replace(BACKBONES["MobileNet"], family=FAMILY, auxiliary_layer="branch")
SETTINGS = (
    "training.batch_size=3", "ft.epochs=4", "ft.learning_rate=0.02", "ft.optimizer=sgd", "model.auxiliary_weight=0.4",
    "runtime.tensorboard=false", "runtime.save_state_seconds=0",
)  # fmt: skip


class Lines(Log):
    """Keeps the lines that were printed."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def line(self, text="", style=None):
        self.shown.append(text)


class InterruptedLines(Lines):
    """Presses Ctrl-C when the third epoch begins."""

    def progress(self, title, total, unit, done=0):
        if "epoch 3/" in title:
            raise KeyboardInterrupt
        return super().progress(title, total, unit, done)


def make_job(out, *settings):
    request = Request(
        "digits", "InceptionV3", "ft", weights="none", out=out, settings=("dataset.image_size=75", *SETTINGS, *settings)
    )
    return replace(resolve(request), backbone=ROW)


def plan_of(job, phase="ft"):
    return FitPlan(phase, job.config, ROW, steps=2, class_counts=(1, 1, 1), inputs={})


def fit_examples(job, model, examples, log):
    """Fit as `train_phase` does."""
    run, plan = Run(job, None, log), plan_of(job)
    trained = with_requested_auxiliary(run, plan, model, examples.model)
    outcome = fit_phase(trained, with_checkpoint(run, plan, trained is model), job.folder, examples, log)
    save_whole_model(run, "ft", model, trained)
    return outcome


def fit(job, log):
    job.folder.phase("ft").mkdir(parents=True, exist_ok=True)
    model = small_model()
    return fit_examples(job, model, Examples(model, lambda start: EXAMPLES.repeat(), EXAMPLES), log)


@pytest.mark.parametrize(("phase", "unfreeze"), [("tl", "all"), ("ft", 1)])
def test_if_no_layer_before_it_trains_it_is_left_out_and_the_run_says_so(tmp_path, phase, unfreeze):
    job, log = make_job(tmp_path, f"ft.unfreeze={unfreeze}"), Lines()
    model = small_model()
    assert with_requested_auxiliary(Run(job, None, log), plan_of(job, phase), model, model) is model
    assert log.shown == [f"{phase}: without the auxiliary classifier; nothing up to branch trains, so it cannot help"]


@pytest.mark.parametrize(("phase", "unfreeze"), [("scratch", "all"), ("ft", "all"), ("ft", 2)])
def test_if_it_can_help_it_trains_and_the_run_says_so(tmp_path, phase, unfreeze):
    job, log = make_job(tmp_path, f"ft.unfreeze={unfreeze}"), Lines()
    model = small_model()
    trained = with_requested_auxiliary(Run(job, None, log), plan_of(job, phase), model, model)
    assert trained.auxiliary_weight == 0.4
    # 5 channels come in; the convolutions have 128 and 768, each BatchNorm 4 numbers per channel; 4 classes.
    added = 5 * 128 + 4 * 128 + 25 * 128 * 768 + 4 * 768 + 768 * 4 + 4
    assert log.shown == [
        f"{phase}: with an auxiliary classifier after branch, weight 0.4; "
        f"its {added:,} parameters train and are not kept"
    ]


def test_an_interrupted_phase_goes_on_and_keeps_the_weights_of_the_plain_model(tmp_path):
    whole, cut = make_job(tmp_path / "whole"), make_job(tmp_path / "cut")
    expected = fit(whole, Lines())
    with pytest.raises(KeyboardInterrupt):
        fit(cut, InterruptedLines())
    log = Lines()
    outcome = fit(cut, log)
    assert "weight 0.4" in log.shown[0]
    assert log.shown[1] == "ft: continuing after epoch 2, where it was interrupted"
    assert (outcome.best_epoch, outcome.epochs) == (expected.best_epoch, expected.epochs)
    rows, cut_rows = (read_history(job.folder.history("ft")) for job in (whole, cut))
    for name in ("loss", "val_loss", "val_cross_entropy", "val_top1"):
        assert cut_rows[name].tolist() == pytest.approx(rows[name].tolist(), rel=1e-4)
    best = rows.iloc[expected.best_epoch - 1]
    for job in (whole, cut):
        plain = small_model()
        plain.load_weights(job.folder.best_weights("ft"))
        assert cross_entropies(plain.predict(IMAGES, verbose=0), 0).mean() == pytest.approx(
            best["val_cross_entropy"], rel=1e-4
        )


def test_after_a_frozen_part_it_trains_on_features_and_the_whole_model_is_kept(tmp_path):
    job, log, model = make_job(tmp_path, "ft.unfreeze=2", "ft.epochs=1"), Lines(), small_model()
    set_trainable(model, plan_of(job))
    frozen, tail = split_frozen(model)
    features = tf.data.Dataset.from_tensor_slices((frozen(IMAGES), LABELS)).batch(3)
    fit_examples(job, model, Examples(tail, lambda start: features.repeat(), features), log)
    assert "with an auxiliary classifier after branch" in log.shown[0]
    ((_, row),) = read_history(job.folder.history("ft")).iterrows()
    plain, start = small_model(), small_model()
    plain.load_weights(job.folder.best_weights("ft"))
    assert cross_entropies(plain.predict(IMAGES, verbose=0), 0).mean() == pytest.approx(
        row["val_cross_entropy"], rel=1e-4
    )
    moved = {layer.name: np.abs(layer.kernel - start.get_layer(layer.name).kernel).max() for layer in plain.layers[1:4]}
    assert moved["before"] == 0
    assert min(moved["branch"], moved["after"]) > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["scratch", "ft"])
def test_a_run_of_inception_leaves_nothing_of_it(tmp_path, capsys, phase):
    words = [
        "run", "--experiment", "digits", "--model", "InceptionV3", "--phase", phase, "--out", str(tmp_path),
        "--set", "dataset.image_size=75", "--set", "dataset.limit_per_class=8", "--set", f"{phase}.epochs=1",
        "--set", "dataset.test_fraction=0.02", "--set", "model.auxiliary_weight=0.4", "--set", "training.batch_size=8",
        "--set", "latency.enabled=false", "--set", "explain.enabled=false", "--weights", "none",
    ]  # fmt: skip
    words += ["--set", "tl.epochs=1", "--no-export"] if phase == "ft" else ["--set", "export.int8=false"]
    assert main(words) == 0
    output = capsys.readouterr().out
    assert f"{phase}: with an auxiliary classifier after mixed7, weight 0.4" in output
    assert ("tl: without the auxiliary classifier" in output) == (phase == "ft")
    run = run_folder(tmp_path, "digits", "InceptionV3", 0)
    kept = keras.models.load_model(run.model(phase))
    assert not [layer.name for layer in kept.layers if layer.name.startswith(PREFIX)]
    # keras.applications' count without top, and the head.
    parameters = 21_802_784 + (2048 * 256 + 256) + (256 * 10 + 10)
    assert json.loads(run.result(phase).read_text())["parameters"] == kept.count_params() == parameters
    assert json.loads(run.cost.read_text())["parameters"] == parameters
    plain = build_model(ModelSpec(BACKBONES["InceptionV3"], 75, 10, resolve(Request("digits")).config.model))
    plain.load_weights(run.best_weights(phase))
    images = np.random.default_rng(0).uniform(0, 255, (2, 75, 75, 3)).astype(np.float32)
    np.testing.assert_allclose(plain.predict(images, verbose=0), kept.predict(images, verbose=0), atol=1e-6)
    assert not run.state(phase).exists()
