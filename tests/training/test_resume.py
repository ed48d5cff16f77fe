"""After an interruption the kept weights are those of the epoch that is called the best, whatever the disk held."""

import json
import os
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.console import Log
from keras_bench.files import link_or_copy
from keras_bench.runs.folders import run_folder
from keras_bench.runs.history import drop_later_epochs, read_history
from keras_bench.training import resume
from keras_bench.training.fit import Examples, fit_phase
from keras_bench.training.resume import find_states
from tests.logs import InterruptedLog, WarningsLog
from tests.training.test_fit import IMAGES, LABELS, VALIDATION, make_phase, stream


class Clock:
    """Time passes in the first epoch only: its state is saved, and that of no epoch after it."""

    def __init__(self):
        self.times = [0.0]

    def monotonic(self):
        return self.times.pop() if self.times else 100.0


def make_model():
    """A head on pixels: it learns in a few steps what a random backbone hides."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, name="normalize")(image)
    x = keras.layers.Flatten(name="head_pool")(keras.layers.AveragePooling2D(8, name="conv_pw_13_relu")(x))
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="head_probabilities")(x))


def misleading(start):
    """A stream that teaches wrong labels, so that no epoch improves on what was reached before."""
    wrong = tf.data.Dataset.from_tensor_slices((IMAGES, np.roll(LABELS, 1, axis=1)))
    return wrong.batch(8).repeat()


@pytest.fixture(params=["streamed", "cached"])
def interrupted(request, tmp_path, monkeypatch):
    """A run with a state of epoch 1, ended after a later epoch had replaced the best weights.

    "cached": as where only the layers after the frozen part train; its best weights have a file of their own.
    """
    run = run_folder(tmp_path, "test", "MobileNet", 0)
    run.state("tl").mkdir(parents=True)
    checkpoint = {"streamed": run.best_weights("tl"), "cached": run.tail_weights("tl")}[request.param]
    monitors = [f"training.{name}_monitor=val_cross_entropy" for name in ("checkpoint", "early_stopping")]
    phase = make_phase("tl.epochs=6", "tl.learning_rate=0.03", "runtime.save_state_seconds=50", *monitors)
    if request.param == "cached":
        phase = replace(phase, checkpoint=checkpoint)
    monkeypatch.setattr(resume, "time", Clock())
    with pytest.raises(KeyboardInterrupt):
        fit_phase(make_model(), phase, run, Examples(None, stream, VALIDATION), InterruptedLog(5))
    losses = read_history(run.history("tl"))["val_cross_entropy"].tolist()
    assert find_states(run.state("tl"))[0].epochs == 1
    assert losses.index(min(losses)) > 0
    return run, phase, checkpoint


def cross_entropy_of(checkpoint):
    model = make_model()
    model.load_weights(checkpoint)
    of_true = model.predict(IMAGES, verbose=0)[np.arange(24), LABELS.argmax(axis=1)]
    return -np.log(of_true).mean()


def check_agreement(run, checkpoint, outcome):
    """The weights on disk give the figures of the epoch that is called the best, and that is the best of history."""
    losses = read_history(run.history("tl"))["val_cross_entropy"].tolist()
    assert len(losses) == outcome.epochs == 6
    assert outcome.best_epoch == 1 + losses.index(min(losses))
    assert cross_entropy_of(checkpoint) == pytest.approx(min(losses), rel=1e-4)


def test_the_kept_weights_are_of_the_best_epoch_though_a_later_one_had_replaced_them(interrupted):
    run, phase, checkpoint = interrupted
    outcome = fit_phase(make_model(), phase, run, Examples(None, misleading, VALIDATION), Log())
    assert outcome.best_epoch == 1
    check_agreement(run, checkpoint, outcome)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: cut_short(path)], ids=["missing", "cut"])
def test_missing_or_damaged_best_weights_come_back_from_beside_the_state(interrupted, damage):
    run, phase, checkpoint = interrupted
    damage(checkpoint)
    outcome = fit_phase(make_model(), phase, run, Examples(None, misleading, VALIDATION), Log())
    assert outcome.best_epoch == 1
    check_agreement(run, checkpoint, outcome)


def test_where_the_best_weights_are_lost_the_phase_starts_over_and_says_so(interrupted):
    run, phase, checkpoint = interrupted
    cut_short(find_states(run.state("tl"))[0].best)
    checkpoint.unlink()
    log = WarningsLog()
    outcome = fit_phase(make_model(), phase, run, Examples(None, stream, VALIDATION), log)
    (warning,) = log.warned
    assert "tl: starts over: it was interrupted after epoch 1, but" in warning
    assert checkpoint.name in warning
    check_agreement(run, checkpoint, outcome)


def test_a_state_of_an_earlier_version_counts_unless_the_weights_are_of_a_later_epoch(interrupted):
    run, phase, checkpoint = interrupted
    (path,) = run.state("tl").glob("epoch*.json")
    tree = json.loads(path.read_text())
    del tree["best_sha256"], tree["sha256"]
    path.write_text(json.dumps(tree))
    log = WarningsLog()
    check_agreement(run, checkpoint, fit_phase(make_model(), phase, run, Examples(None, stream, VALIDATION), log))
    assert "starts over" in log.warned[0]


def test_what_an_earlier_version_kept_counts_where_history_says_that_it_is_of_the_state(interrupted):
    run, phase, checkpoint = interrupted
    (path,) = run.state("tl").glob("epoch*.json")
    tree = json.loads(path.read_text())
    del tree["best_sha256"], tree["sha256"]
    path.write_text(json.dumps(tree))
    os.replace(path.with_suffix(".best.weights.h5"), checkpoint)
    drop_later_epochs(run.history("tl"), 1)
    log = WarningsLog()
    outcome = fit_phase(make_model(), phase, run, Examples(None, misleading, VALIDATION), log)
    assert log.warned == []
    assert outcome.best_epoch == 1
    check_agreement(run, checkpoint, outcome)


def cut_short(path):
    """As a full disk leaves a file; the name gets a file of its own, since others may share the old one."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("links", [True, False], ids=["hard link", "copy"])
def test_a_second_name_keeps_the_content_when_the_first_is_replaced(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*names):
            raise OSError("this file system has no hard links")

        monkeypatch.setattr(os, "link", refuse)
    first, second = tmp_path / "best.weights.h5", tmp_path / "epoch0001.best.weights.h5"
    first.write_bytes(b"old")
    link_or_copy(first, second)
    assert (first.stat().st_ino == second.stat().st_ino) == links
    (tmp_path / "new").write_bytes(b"new")
    os.replace(tmp_path / "new", first)
    assert (first.read_bytes(), second.read_bytes()) == (b"new", b"old")
    link_or_copy(second, first)
    link_or_copy(second, first)  # again: they are one file by now
    assert first.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]
