"""Cached features: equal to the network's outputs, and reused only if nothing they depend on has changed."""

import csv
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.backbones.table import BACKBONES
from keras_bench.cli.main import main
from keras_bench.config import ModelConfig
from keras_bench.console import Log
from keras_bench.evaluation.predictions import Predictions
from keras_bench.models import forward
from keras_bench.models.build import ModelSpec, build_model
from keras_bench.models.forward import keras_forward, onnx_forward
from keras_bench.models.onnx import network_to_onnx
from keras_bench.models.phases import set_phase
from keras_bench.models.split import split_frozen
from keras_bench.runs.folders import run_folder
from keras_bench.runs.job import Request, resolve
from keras_bench.training.feature_eviction import evict
from keras_bench.training.feature_store import entries, entry_for, load_or_compute_features
from keras_bench.training.feature_streams import feature_stream, ordered_stream

SPEC = ModelSpec(BACKBONES["MobileNet"], 32, 3, ModelConfig(alpha=0.25, hidden_units=8))
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = build_model(SPEC)
    set_phase(model, SPEC.backbone, "tl")
    return model


@pytest.fixture(scope="module")
def frozen(model):
    return split_frozen(model)[0]


def batches(done):
    return tf.data.Dataset.from_tensor_slices(IMAGES[done:]).batch(8)


def nothing(_count):
    return None


def test_the_array_equals_the_network_s_output_and_is_not_computed_twice(frozen):
    entry = entry_for({"question": 1})
    features = load_or_compute_features(
        lambda: (keras_forward(frozen), 1), batches, (20, 256), entry, {"question": 1}, nothing, Log()
    ).array
    np.testing.assert_allclose(features, frozen(IMAGES, training=False), atol=1e-5)

    def never(_done):
        raise AssertionError("computed twice")

    again = load_or_compute_features(
        lambda: (keras_forward(frozen), 1),
        never,
        (20, 256),
        entry_for({"question": 1}),
        {"question": 1},
        nothing,
        Log(),
    ).array
    np.testing.assert_array_equal(again, features)
    assert entry_for({"question": 2}).open((20, 256)) is None


def test_an_interrupted_pass_resumes_after_the_rows_on_disk(frozen, monkeypatch):
    monkeypatch.setattr("keras_bench.training.feature_store.SAVE_SECONDS", 0.0)
    entry = entry_for({"question": 3})
    requested = []

    def stops(done):
        requested.append(done)
        yield from batches(done).take(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_compute_features(lambda: (keras_forward(frozen), 1), stops, (20, 256), entry, {}, nothing, Log())
    assert entry.open((20, 256)) is None
    with pytest.raises(KeyboardInterrupt):
        load_or_compute_features(lambda: (keras_forward(frozen), 1), stops, (20, 256), entry, {}, nothing, Log())
    features = load_or_compute_features(
        lambda: (keras_forward(frozen), 1),
        lambda done: requested.append(done) or batches(done),
        (20, 256),
        entry,
        {},
        nothing,
        Log(),
    ).array
    assert requested == [0, 8, 16]
    np.testing.assert_allclose(features, frozen(IMAGES, training=False), atol=1e-5)


@pytest.mark.parametrize("unfreeze", ["tl", 1])
def test_onnx_runtime_gives_the_features_keras_gives(unfreeze):
    from tests.models.test_onnx import build

    whole = build("MobileNet", side=32, alpha=0.25)
    set_phase(whole, SPEC.backbone, *(("tl",) if unfreeze == "tl" else ("ft", unfreeze)))
    frozen, _ = split_frozen(whole)
    content = network_to_onnx(frozen).SerializeToString()
    expected = keras_forward(frozen)(tf.constant(IMAGES))
    assert expected.shape == ((20, 256) if unfreeze == "tl" else (20, 1, 1, 256))
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(onnx_forward(content)(tf.constant(IMAGES)), expected, atol=1e-3)


def test_without_augmentation_there_is_one_view():
    settings = ("tl.views=3", *WITHOUT_AUGMENTATION[1::2])
    assert resolve(Request("digits", "MobileNet", "tl", settings=settings)).config.views_of("tl") == 1
    assert resolve(Request("digits", "MobileNet", "tl", settings=settings[:1])).config.views_of("tl") == 3


def test_validation_features_come_once_and_in_order():
    features, labels = np.arange(10, dtype=np.float32)[:, None, None], np.eye(10, dtype=np.float32)
    stream = ordered_stream(features, labels, 4)
    assert int(stream.cardinality()) == 3
    batches = list(stream.as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in batches]), features)
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in batches]), labels)


def test_an_epoch_holds_every_image_once_in_a_newly_drawn_view():
    plain = np.arange(50, dtype=np.float32)[:, None]
    views, labels = [plain, plain + 100, plain + 200], np.eye(50, dtype=np.float32)
    order_of = {epoch: np.random.default_rng(epoch).permutation(50) for epoch in range(2)}.get

    def epoch_of(number):
        batches = list(feature_stream(views, labels, 8, order_of, 7, number).as_numpy_iterator())
        features, targets = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        np.testing.assert_array_equal(features[:, 0] % 100, targets.argmax(axis=1))
        return features[:, 0]

    first, second = epoch_of(0), epoch_of(1)
    assert sorted(first % 100) == sorted(second % 100) == list(range(50))
    assert not np.array_equal(first % 100, second % 100)
    assert set(first // 100) == {0, 1, 2}
    np.testing.assert_array_equal(first % 100, order_of(0))
    np.testing.assert_array_equal(epoch_of(1), second)
    stream = feature_stream(views, labels, 8, order_of, 7, 0)
    assert int(stream.cardinality()) == 7
    for expected in (first, second):
        batches = list(stream.as_numpy_iterator())
        assert len(batches) == 7
        np.testing.assert_array_equal(np.concatenate([batch for batch, _ in batches])[:, 0], expected)


def test_the_least_recently_used_goes_first(frozen, monkeypatch):
    for question in (1, 2, 3):
        entry = entry_for({"question": question})
        load_or_compute_features(
            lambda: (keras_forward(frozen), 1), batches, (20, 256), entry, {"question": question}, nothing, Log()
        )
        os.utime(entry.facts, (question, question))
    os.utime(entry_for({"question": 1}).facts, (9, 9))
    size = entry.array.stat().st_size
    assert evict(2 * size) == 1
    assert [kept.read_facts()["about"]["question"] for kept in entries()] == [1, 3]
    fresh, abandoned = entry.folder / "a.part.npy", entry.folder / "b.part.npy"
    for part in (fresh, abandoned):
        part.write_bytes(b"")
        part.with_suffix(".json").write_text("{}")
    os.utime(abandoned, (1, 1))
    assert evict(0) == 2
    assert fresh.exists()
    assert not abandoned.exists()


RUN = [
    "run", "--experiment", "digits", "--model", "MobileNet", "--phase", "tl", "--set", "model.alpha=0.25",
    "--set", "dataset.limit_per_class=20", "--set", "tl.epochs=3", "--set", "latency.enabled=false",
    "--set", "explain.enabled=false", "--set", "tl.learning_rate=0.01", "--no-export", "--set", "tl.features=cached",
]  # fmt: skip


WITHOUT_AUGMENTATION = [
    "--set", "augmentation.rotation_degrees=0", "--set", "augmentation.zoom=[0.0,0.0]",
    "--set", "augmentation.translation=0", "--set", "augmentation.horizontal_flip=false",
]  # fmt: skip


def test_an_epoch_may_repeat_an_image_and_leave_out_another():
    plain = np.arange(6, dtype=np.float32)[:, None]
    rows = np.array([5, 0, 0, 3, 0, 0, 0, 0])
    batches = list(feature_stream([plain, plain + 10], np.eye(6, dtype=np.float32), 3, lambda _: rows, 1, 0))
    features, labels = (np.concatenate([batch[k] for batch in batches]) for k in (0, 1))
    np.testing.assert_array_equal(features[:, 0] % 10, rows)
    np.testing.assert_array_equal(labels.argmax(axis=1), rows)
    assert set(features[rows == 0, 0].tolist()) == {0, 10}  # a view is drawn for each repetition


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "seed"), [("Keras", 0), ("Keras", 1), ("Keras", 2), ("ONNX Runtime", 0)])
def test_without_augmentation_cached_and_streamed_training_are_the_same(tmp_path, monkeypatch, capsys, engine, seed):
    """Same images, order and dropout: equal bit for bit, except for the rounding of ONNX Runtime or of a GPU."""
    from tests.models.test_onnx import build

    monkeypatch.setattr(forward, "PIXELS_WORTH_CONVERTING", 0 if engine == "ONNX Runtime" else 10**12)
    weights = tmp_path / "lively.keras"
    build("MobileNet", side=32, alpha=0.25).save(weights)
    words = [*RUN, *WITHOUT_AUGMENTATION, "--weights", str(weights), "--out", str(tmp_path), "--seed", str(seed)]
    curves, probabilities = [], []
    for way in ("cached", "streamed"):
        assert main([*words, "--set", f"tl.features={way}", "--variant", way]) == 0
        run = run_folder(tmp_path, "digits", "MobileNet", seed, way)
        with run.history("tl").open() as stream:  # nine digits, enough to tell any two float32 apart
            rows = list(csv.DictReader(stream))
        names = ("loss", "cross_entropy", "top1", "val_cross_entropy", "val_top1")
        curves.append({name: [float(row[name]) for row in rows] for name in names})
        probabilities.append(Predictions.from_npz(run.predictions("tl", "test")).probabilities)
    assert f" by {engine}" in capsys.readouterr().out
    assert curves[0]["cross_entropy"][0] > 1.02 * curves[0]["cross_entropy"][-1]
    assert np.ptp(probabilities[0], axis=0).max() > 0.05
    if engine == "Keras" and not tf.config.list_physical_devices("GPU"):
        assert curves[0] == curves[1]
        np.testing.assert_array_equal(probabilities[0], probabilities[1])
    else:
        np.testing.assert_allclose(curves[0]["cross_entropy"], curves[1]["cross_entropy"], rtol=1e-2)


@pytest.mark.slow
def test_batches_in_portions_train_like_whole_ones_cached_and_streamed(tmp_path):
    from tests.models.test_onnx import build

    weights = tmp_path / "lively.keras"
    build("MobileNet", side=32, alpha=0.25).save(weights)
    words = [*RUN, *WITHOUT_AUGMENTATION, "--weights", str(weights), "--out", str(tmp_path)]
    words += ["--set", "model.dropout=0.0", "--set", "training.batch_size=36"]
    curves = []
    for way, portions in (("cached", 1), ("cached", 3), ("streamed", 3)):
        variant = f"{way}{portions}"
        settings = [f"tl.features={way}", f"training.accumulation_steps={portions}"]
        assert main([*words, *(word for text in settings for word in ("--set", text)), "--variant", variant]) == 0
        run = run_folder(tmp_path, "digits", "MobileNet", 0, variant)
        with run.history("tl").open() as stream:
            rows = list(csv.DictReader(stream))
        curves.append([float(row[name]) for row in rows for name in ("cross_entropy", "val_cross_entropy")])
        result = json.loads(run.result("tl").read_text())
        seconds = sum(float(row["train_seconds"]) for row in rows) + result["resolved"].get("feature_seconds", 0)
        assert result["images_per_second"] == pytest.approx(3 * 180 / seconds, rel=0.02)
    assert curves[0][0] > 1.02 * curves[0][-2]
    # Training metrics are taken before the step, with portions too, so they can be compared like those of val.
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-3)
    np.testing.assert_allclose(curves[2], curves[1], rtol=1e-3)


@pytest.mark.slow
def test_a_run_on_cached_features_leaves_the_same_files_as_a_streamed_one(tmp_path, capsys):
    from tests.models.test_onnx import build

    weights = tmp_path / "lively.keras"
    build("MobileNet", side=32, alpha=0.25).save(weights)
    words = [*RUN, "--weights", str(weights), "--out", str(tmp_path / "runs"), "--set", "tl.views=2"]
    assert main(words) == 0
    assert "tl: features of 2 views of each training image" in capsys.readouterr().out
    run = run_folder(tmp_path / "runs", "digits", "MobileNet", 0)
    whole = keras.models.load_model(run.model("tl"))
    assert whole.input_shape == (None, 32, 32, 3)
    assert not list(run.phase("tl").glob("state"))
    test = Predictions.from_npz(run.predictions("tl", "test"))
    assert np.ptp(test.probabilities, axis=0).max() > 0.05
    from sklearn.datasets import load_digits

    scans = load_digits().images
    positions = [int("".join(filter(str.isdigit, name.rsplit("/", 1)[-1].split(".")[0]))) for name in test.ids]
    gray = np.round(scans[positions] * (255 / 16)).astype(np.uint8)
    pixels = tf.image.resize(np.repeat(gray[..., None], 3, axis=-1).astype(np.float32), (32, 32))
    np.testing.assert_allclose(whole.predict(pixels, verbose=0), test.probabilities, atol=1e-3)
    with run.history("tl").open() as stream:
        assert len(list(csv.DictReader(stream))) == 3
    result = json.loads(run.result("tl").read_text())
    assert result["resolved"]["feature_seconds"] > 0
    # A second run with another recipe reuses all features.
    assert main([*words, "--variant", "other", "--set", "model.dropout=0.1"]) == 0
    other = json.loads(run_folder(tmp_path / "runs", "digits", "MobileNet", 0, "other").result("tl").read_text())
    assert other["resolved"]["feature_seconds"] == result["resolved"]["feature_seconds"]
    # Another seed draws other views, and reuses those of val and the unchanged view.
    before = len(entries())
    assert main([*words, "--seed", "1"]) == 0
    assert len(entries()) == before + 1


def test_the_cache_is_shown_limited_and_cleared(frozen, capsys, tmp_path):
    for question in (1, 2):
        about = {"backbone": "MobileNet", "image_size": 32, "view": 0, "positions": list(range(20)), "q": question}
        load_or_compute_features(
            lambda: (keras_forward(frozen), 1), batches, (20, 256), entry_for(about), about, nothing, Log()
        )
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("MobileNet") == 2
    assert f"cache: {tmp_path / 'cache'}" in shown
    assert main(["cache", "--features-mb", "-1"]) == 2
    assert main(["cache", "--features-mb", "0"]) == 0
    assert "removed 2 cached feature arrays, 0 left" in capsys.readouterr().out
    (tmp_path / "cache" / "mine").mkdir()
    assert main(["cache", "--clear"]) == 0
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mine"]
    assert main(["cache"]) == 0
    assert "empty" in capsys.readouterr().out


@pytest.mark.slow
def test_the_last_block_is_fine_tuned_on_cached_features_as_on_streamed_ones(tmp_path, capsys):
    from tests.models.test_onnx import build

    weights = tmp_path / "lively.keras"
    build("MobileNet", side=32, alpha=0.25).save(weights)
    words = [*RUN, "--phase", "ft", "--weights", str(weights), "--out", str(tmp_path / "runs")]
    words += ["--set", "ft.unfreeze=1", "--set", "ft.epochs=2", "--set", "ft.learning_rate=0.001"]
    words += WITHOUT_AUGMENTATION
    assert main([*words, "--set", "ft.features=cached"]) == 0
    assert "ft: features of 1 view of each training image, 256 numbers per image" in capsys.readouterr().out
    assert main([*words, "--variant", "streamed"]) == 0
    losses = []
    for variant in (None, "streamed"):
        run = run_folder(tmp_path / "runs", "digits", "MobileNet", 0, variant)
        whole = keras.models.load_model(run.model("ft"))
        trained = [layer.name for layer in whole.layers if layer.trainable and layer.weights]
        assert "conv_pw_13" in trained
        assert "conv_pw_12" not in trained
        start, end = (keras.models.load_model(run.model(phase)).get_layer("conv_pw_13") for phase in ("tl", "ft"))
        assert np.abs(start.kernel - end.kernel).max() > 1e-4
        losses.append(run.read_result("ft").metrics["test"].cross_entropy)
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_cached_fine_tuning_needs_frozen_blocks(tmp_path, capsys):
    words = [*RUN, "--phase", "ft", "--weights", "none", "--out", str(tmp_path), "--set", "ft.features=cached"]
    assert main(words) == 2
    assert "set ft.unfreeze to the number of last blocks" in capsys.readouterr().err
