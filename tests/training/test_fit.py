"""One phase of a small MobileNet, really fitted: which weights are kept, what stops it, and that it resumes exactly."""

from dataclasses import replace
from itertools import count

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import load_experiment, parse_setting
from keras_bench.console import Log
from keras_bench.errors import RunError
from keras_bench.files import write_record
from keras_bench.models.build import ModelSpec, build_model
from keras_bench.reading import read_json
from keras_bench.runs.folders import run_folder
from keras_bench.runs.history import read_history
from keras_bench.training.callbacks import AtomicCheckpoint, DivergedError, StopOnNonFinite
from keras_bench.training.fit import Examples, FitPlan, fit_phase
from keras_bench.training.resume import find_states
from tests.logs import InterruptedLog

ROW = BACKBONES["MobileNet"]
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (24, 32, 32, 3)).astype(np.float32)
LABELS = np.eye(3, dtype=np.float32)[np.arange(24) % 3]
IMAGES[LABELS[:, 1] == 1] *= 0.3  # something to learn


def make_phase(*settings):
    texts = [
        "model.alpha=0.25",
        "training.batch_size=8",
        "tl.epochs=4",
        "tl.learning_rate=1e-3",
        "runtime.tensorboard=false",
        "runtime.save_state_seconds=0",
    ]
    config = load_experiment("digits").resolve("MobileNet", [parse_setting(text) for text in (*texts, *settings)])
    return FitPlan("tl", config, ROW, steps=3, class_counts=(1, 1, 1), inputs={"seed": 0})


def make_model():
    keras.utils.set_random_seed(0)
    return build_model(ModelSpec(ROW, 32, 3, make_phase().config.model))


def stream(start):
    """Return 99 epochs whose images depend on the epoch, as the pipeline's do."""

    def epoch(number):
        factor = 1 - tf.cast(number, tf.float32) / 100
        return tf.data.Dataset.from_tensor_slices((IMAGES * factor, LABELS)).batch(8)

    return tf.data.Dataset.range(start, 99).flat_map(epoch)


VALIDATION = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)


def epoch_by_epoch(start):
    """Return a stream that gives the next of the same epochs each time it is read."""
    numbers = count(start)

    def batches():
        factor = np.float32(1) - np.float32(next(numbers)) / np.float32(100)
        yield from ((IMAGES[i : i + 8] * factor, LABELS[i : i + 8]) for i in (0, 8, 16))

    shapes = tf.TensorSpec((None, 32, 32, 3), tf.float32), tf.TensorSpec((None, 3), tf.float32)
    epochs = tf.data.Dataset.from_generator(batches, output_signature=shapes)
    return epochs.apply(tf.data.experimental.assert_cardinality(3))


def run_phase(folder, phase, log=None, training=stream):
    run = run_folder(folder, "test", "MobileNet", 0)
    run.phase("tl").mkdir(parents=True, exist_ok=True)
    return run, fit_phase(make_model(), phase, run, Examples(None, training, VALIDATION), log or Log())


def test_the_best_epoch_is_kept_and_history_tells_why(tmp_path):
    run, outcome = run_phase(tmp_path, make_phase())
    rows = read_history(run.history("tl"))
    assert rows["epoch"].tolist() == [1, 2, 3, 4]
    best = max(rows.to_dict("records"), key=lambda row: row["val_top1"])
    assert outcome.best_epoch == best["epoch"]
    assert outcome.epochs == 4
    assert outcome.seconds == pytest.approx(sum(rows["seconds"]))
    assert outcome.resolved.pop("first_step_seconds") > 0
    assert outcome.resolved == {"xla": False, "tf32": True, "mixed_precision": "none"}
    model = make_model()
    model.load_weights(run.best_weights("tl"))
    probabilities = model.predict(IMAGES, verbose=0)
    assert (probabilities.argmax(axis=1) == LABELS.argmax(axis=1)).mean() == pytest.approx(best["val_top1"])
    of_true_class = probabilities[np.arange(24), LABELS.argmax(axis=1)]
    assert -np.log(of_true_class).mean() == pytest.approx(best["val_cross_entropy"], rel=1e-4)
    # The loss includes the L2 penalty, cross_entropy does not.
    assert best["val_loss"] > best["val_cross_entropy"]


def model_whose_features_vary():
    """Return a MobileNet whose features differ: at random weights they shrink until all images look alike."""
    model = make_model()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(keras.ops.full_like(layer.moving_variance, 0.05))
    return model


BLACK, WHITE = np.zeros((32, 32, 3), np.float32), np.full((32, 32, 3), 255, np.float32)


def changing_labels(start):
    """Black is class 0 throughout; white is class 1 in the first epoch and class 0 in the second."""
    images = np.array([BLACK, WHITE] * 4)
    first, second = ([0, 1] * 4, [0] * 8)
    labels = np.eye(3, dtype=np.float32)[np.array([first] * 12 + [second] * 12)]
    return tf.data.Dataset.from_tensor_slices(labels).map(lambda batch: (images, batch)).skip(12 * start)


@pytest.mark.parametrize(("imbalance", "kept"), [("none", 2), ("focal", 1)])
def test_the_two_monitors_keep_different_epochs(tmp_path, imbalance, kept):
    # Six images of class 0, two of them white, and one white image of class 1. The first epoch teaches that white is
    # class 1: five of seven are correct, 4/6 of class 0 and all of class 1. The second teaches that all are class 0.
    images, labels = np.array([BLACK] * 4 + [WHITE] * 3), np.eye(3, dtype=np.float32)[[0] * 6 + [1]]
    validation = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
    phase = replace(
        make_phase(f"training.imbalance={imbalance}", "tl.epochs=2", "tl.learning_rate=0.02", "model.dropout=0"),
        steps=12,
    )
    run = run_folder(tmp_path, "test", "MobileNet", 0)
    run.phase("tl").mkdir(parents=True)
    outcome = fit_phase(model_whose_features_vary(), phase, run, Examples(None, changing_labels, validation), Log())
    rows = read_history(run.history("tl"))
    assert rows["val_top1"].tolist() == pytest.approx([5 / 7, 6 / 7])
    assert rows["val_balanced_accuracy"].tolist() == pytest.approx([(4 / 6 + 1) / 2, 1 / 2])
    assert outcome.best_epoch == kept
    model = make_model()
    model.load_weights(run.best_weights("tl"))
    assert model.predict(WHITE[None], verbose=0).argmax() == (1 if kept == 1 else 0)


def test_an_interrupted_phase_resumes_as_if_nothing_had_happened(tmp_path):
    phase = make_phase("training.early_stopping_patience=2")
    whole, expected = run_phase(tmp_path / "whole", phase)
    with pytest.raises(KeyboardInterrupt):
        run_phase(tmp_path / "cut", phase, InterruptedLog(3))
    run = run_folder(tmp_path / "cut", "test", "MobileNet", 0)
    state = find_states(run.state("tl"))[0]
    assert state.epochs == 2
    assert set(state.counters) == {"AtomicCheckpoint", "EarlyStopping", "ReduceLROnPlateau"}
    with run.history("tl").open("a") as history:
        history.write("3,1,1,0.1,1,1,0.1,,1,1,0.1,\n")  # as if the interrupted epoch had still written its row
    _, outcome = run_phase(tmp_path / "cut", phase)
    assert (outcome.best_epoch, outcome.epochs) == (expected.best_epoch, expected.epochs)
    ours, theirs = read_history(run.history("tl")), read_history(whole.history("tl"))
    for name in ("loss", "val_cross_entropy", "val_top1", "learning_rate"):
        assert ours[name].tolist() == pytest.approx(theirs[name].tolist(), rel=1e-4)


def test_several_steps_per_execution_end_with_the_epoch_and_change_nothing(tmp_path):
    phase = make_phase()
    single, _ = run_phase(tmp_path / "single", phase)
    several = replace(phase, steps_per_execution=2)  # does not divide the three steps of an epoch
    with pytest.raises(KeyboardInterrupt):
        run_phase(tmp_path / "several", several, InterruptedLog(3), epoch_by_epoch)
    run, _ = run_phase(tmp_path / "several", several, training=epoch_by_epoch)
    ours, theirs = read_history(run.history("tl")), read_history(single.history("tl"))
    for name in ("loss", "top1", "val_cross_entropy", "learning_rate"):
        assert ours[name].tolist() == pytest.approx(theirs[name].tolist(), rel=1e-6)


def test_a_phase_that_had_stopped_early_does_not_train_again(tmp_path):
    phase = make_phase()
    run, outcome = run_phase(tmp_path, phase)
    (path,) = run.state("tl").glob("epoch*.json")
    write_record(path, {**read_json(path), "stopped": True})
    longer = replace(phase, config=make_phase("tl.epochs=9").config)
    _, again = run_phase(tmp_path, longer, InterruptedLog(5))
    assert (again.epochs, again.best_epoch) == (outcome.epochs, outcome.best_epoch)


def test_the_state_is_not_saved_after_every_short_epoch(tmp_path):
    run, _ = run_phase(tmp_path, make_phase("runtime.save_state_seconds=3600"))
    assert find_states(run.state("tl")) == []


def test_a_loss_that_is_not_a_number_stops_the_run_and_says_where(tmp_path):
    poisoned = IMAGES.copy()
    poisoned[17] = np.nan  # the third batch
    run = run_folder(tmp_path, "test", "MobileNet", 0)
    run.phase("tl").mkdir(parents=True)
    data = tf.data.Dataset.from_tensor_slices((poisoned, LABELS)).batch(8).repeat()
    with pytest.raises(
        DivergedError,
        match=r"became nan in phase tl, epoch 1, (step 3|validation); .*--set tl.learning_rate=0.0001 --variant lower",
    ):
        fit_phase(make_model(), make_phase(), run, Examples(None, lambda start: data, VALIDATION), Log())
    watcher = StopOnNonFinite("ft", 1e-4)
    watcher.set_model(make_model())
    watcher.on_epoch_begin(1)
    with pytest.raises(DivergedError, match="became inf in phase ft, epoch 2, validation"):
        watcher.on_epoch_end(1, {"val_loss": np.inf})
    watcher.on_epoch_end(1, {"val_loss": 1.0})
    watcher.model.layers[-1].bias.assign([0.0, np.nan, 0.0])
    with pytest.raises(DivergedError, match="probabilities/bias are no longer finite in phase ft, epoch 2"):
        watcher.on_epoch_end(1, {"val_loss": 1.0})


def test_a_missing_monitor_is_an_error_and_not_a_checkpoint_every_epoch(tmp_path):
    checkpoint = AtomicCheckpoint(tmp_path / "best.weights.h5", "val_top1")
    checkpoint.set_model(make_model())
    with pytest.raises(RunError, match="the metric val_top1 is missing; received loss"):
        checkpoint.on_epoch_end(0, {"loss": 1.0})


def test_a_checkpoint_is_replaced_only_by_a_better_epoch(tmp_path):
    checkpoint = AtomicCheckpoint(tmp_path / "best.weights.h5", "val_top1")
    checkpoint.set_model(make_model())
    saved = []
    for epoch, value in enumerate([0.2, 0.5, 0.5, 0.1]):
        checkpoint.on_epoch_end(epoch, {"val_top1": value})
        saved.append(checkpoint.final.stat().st_mtime_ns)
    assert saved[0] < saved[1] == saved[2] == saved[3]
    assert [path.name for path in tmp_path.iterdir()] == ["best.weights.h5"]
