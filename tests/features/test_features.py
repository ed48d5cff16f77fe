"""Cached features: the same numbers as the network gives, found again only for the same question."""

import csv
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.backbones import BACKBONES
from keras_bench.cli import main
from keras_bench.config import ModelConfig
from keras_bench.features.extract import extract, feature_stream
from keras_bench.features.store import entries, entry_for, evict
from keras_bench.models.build import ModelSpec, build_head, build_model, copy_head, pooled_features
from keras_bench.records.predictions import Predictions
from keras_bench.rundir import run_folder

SPEC = ModelSpec(BACKBONES["MobileNet"], 32, 3, ModelConfig(alpha=0.25, hidden_units=8))
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return build_model(SPEC)


def batches(done):
    return tf.data.Dataset.from_tensor_slices(IMAGES[done:]).batch(8)


def nothing(_count):
    return None


def test_head_and_backbone_joined_answer_as_the_whole(model):
    features = np.asarray(pooled_features(model)(IMAGES, training=False))
    head = build_head(SPEC, features.shape[1])
    copy_head(model, head)
    np.testing.assert_allclose(head(features), model(IMAGES, training=False), atol=1e-6)
    other = build_model(SPEC)
    copy_head(head, other)
    np.testing.assert_array_equal(other.layers[-1].get_weights()[0], model.layers[-1].get_weights()[0])


def test_the_array_holds_what_the_network_gives_and_is_not_computed_twice(model):
    backbone, entry = pooled_features(model), entry_for({"question": 1})
    found = extract(backbone, batches, 20, entry, {"question": 1}, nothing)
    np.testing.assert_allclose(found, backbone(IMAGES, training=False), atol=1e-5)

    def never(_done):
        raise AssertionError("computed twice")

    again = extract(backbone, never, 20, entry_for({"question": 1}), {"question": 1}, nothing)
    np.testing.assert_array_equal(again, found)
    assert entry_for({"question": 2}).open() is None


def test_an_interrupted_pass_goes_on_behind_what_is_on_disk(model, monkeypatch):
    monkeypatch.setattr("keras_bench.features.extract.SAVE_SECONDS", 0.0)
    backbone, entry = pooled_features(model), entry_for({"question": 3})
    asked = []

    def stops(done):
        asked.append(done)
        yield from batches(done).take(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(backbone, stops, 20, entry, {}, nothing)
    assert entry.open() is None
    with pytest.raises(KeyboardInterrupt):
        extract(backbone, stops, 20, entry, {}, nothing)
    found = extract(backbone, lambda done: asked.append(done) or batches(done), 20, entry, {}, nothing)
    assert asked == [0, 8, 16]
    np.testing.assert_allclose(found, backbone(IMAGES, training=False), atol=1e-5)


def test_an_epoch_holds_every_image_once_in_a_view_drawn_anew():
    plain = np.arange(50, dtype=np.float32)[:, None]
    views, labels = [plain, plain + 100, plain + 200], np.eye(50, dtype=np.float32)

    def epoch_of(number):
        parts = list(feature_stream(views, labels, 8, 7, number + 1, number).as_numpy_iterator())
        features, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
        np.testing.assert_array_equal(features[:, 0] % 100, targets.argmax(axis=1))
        return features[:, 0]

    first, second = epoch_of(0), epoch_of(1)
    assert sorted(first % 100) == sorted(second % 100) == list(range(50))
    assert not np.array_equal(first % 100, second % 100)
    assert set(first // 100) == {0, 1, 2}
    np.testing.assert_array_equal(epoch_of(1), second)
    whole = list(feature_stream(views, labels, 8, 7, 2, 0).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in whole])[:, 0], np.concatenate([first, second]))


def test_the_least_recently_used_goes_first(model, monkeypatch):
    backbone = pooled_features(model)
    for question in (1, 2, 3):
        entry = entry_for({"question": question})
        extract(backbone, batches, 20, entry, {"question": question}, nothing)
        os.utime(entry.facts, (question, question))
    os.utime(entry_for({"question": 1}).facts, (9, 9))
    size = entry.array.stat().st_size
    assert evict(2 * size) == 1
    assert [one.read_facts()["about"]["question"] for one in entries()] == [1, 3]
    fresh, abandoned = entry.folder / "a.part.npy", entry.folder / "b.part.npy"
    for part in (fresh, abandoned):
        part.write_bytes(b"")
    os.utime(abandoned, (1, 1))
    assert evict(0) == 2
    assert fresh.exists()
    assert not abandoned.exists()


RUN = [
    "run", "--experiment", "digits", "--model", "MobileNet", "--phase", "tl", "--set", "model.alpha=0.25",
    "--set", "dataset.limit_per_class=20", "--set", "tl.epochs=3", "--set", "latency.enabled=false",
    "--set", "explain.enabled=false", "--set", "tl.learning_rate=0.01", "--no-export", "--set", "tl.features=cached",
]  # fmt: skip


def test_a_run_on_cached_features_leaves_what_a_streamed_one_leaves(tmp_path, capsys):
    from tests.export.test_convert import build

    weights = tmp_path / "lively.keras"
    build("MobileNet", side=32, alpha=0.25).save(weights)
    words = [*RUN, "--weights", str(weights), "--out", str(tmp_path / "runs"), "--set", "tl.views=2"]
    assert main(words) == 0
    assert "features: 2 views of each training image" in capsys.readouterr().out
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
    # A second run of another recipe finds all features.
    assert main([*words, "--variant", "other", "--set", "model.dropout=0.1"]) == 0
    other = json.loads(run_folder(tmp_path / "runs", "digits", "MobileNet", 0, "other").result("tl").read_text())
    assert other["resolved"]["feature_seconds"] == result["resolved"]["feature_seconds"]
    # Another seed draws other views, and finds val, test and the plain view.
    before = len(entries())
    assert main([*words, "--seed", "1"]) == 0
    assert len(entries()) == before + 1


def test_the_cache_is_shown_limited_and_cleared(model, capsys, tmp_path):
    backbone = pooled_features(model)
    for question in (1, 2):
        about = {"backbone": "MobileNet", "image_size": 32, "view": 0, "positions": list(range(20)), "q": question}
        extract(backbone, batches, 20, entry_for(about), about, nothing)
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("MobileNet") == 2
    assert f"cache: {tmp_path / 'cache'}" in shown
    assert main(["cache", "--features-mb", "-1"]) == 2
    assert main(["cache", "--features-mb", "0"]) == 0
    assert "removed 2 arrays of features; 0 are left" in capsys.readouterr().out
    (tmp_path / "cache" / "mine").mkdir()
    assert main(["cache", "--clear"]) == 0
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mine"]
    assert main(["cache"]) == 0
    assert "empty" in capsys.readouterr().out
