"""The key of cached features: a change to anything that affects the numbers makes them be computed again."""

import json

import keras
import numpy as np
import pytest

from keras_bench.backbones.table import BACKBONES
from keras_bench.cli.main import main
from keras_bench.config import ModelConfig
from keras_bench.console import Log
from keras_bench.models.build import ModelSpec, build_backbone
from keras_bench.models.split import network_digest, split_frozen
from keras_bench.runs import data as prepare
from keras_bench.runs.job import Request, resolve
from keras_bench.runs.run import Run
from keras_bench.runs.weights import InitialWeights
from keras_bench.training import cached_features as features
from keras_bench.training.feature_store import Stored, entries, entry_for
from keras_bench.training.fit import set_trainable
from keras_bench.training.phase import fit_plan, starting_model

RECIPE = ("model.alpha=0.25", "dataset.limit_per_class=20", "tl.views=2", "dataset.image_size=32")
RANDOM = InitialWeights(None, "none", "random weights")


@pytest.fixture(autouse=True)
def _float32_afterwards():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BENCH_CACHE", str(tmp_path_factory.mktemp("decoded")))
        job = resolve(Request("digits", "MobileNet", "tl", None, "none", settings=RECIPE))
        return prepare.load_data(job, *prepare.open_data(job, Log()), Log())


def cached(data, *settings, change=lambda model: None):
    """Return the features of a run's frozen part."""
    job = resolve(Request("digits", "MobileNet", "tl", None, "none", settings=(*RECIPE, *settings)))
    run = Run(job, data, Log(), RANDOM)
    model = starting_model(run, None)
    change(model)
    set_trainable(model, fit_plan(run, "tl"))
    frozen, _ = split_frozen(model)
    return features.compute_features(run, "tl", frozen)


@pytest.fixture
def keys(data, monkeypatch):
    """A function that returns the keys that a run requests, without computing anything."""

    def requested_keys(*settings, **changes):
        requested = []

        def record(_forward, _batches, shape, entry, dependencies, _advance, _log):
            assert entry == entry_for(dependencies)
            requested.append(entry.key)
            return Stored(np.zeros(shape, np.float32), 0.0)

        monkeypatch.setattr(features, "load_or_compute_features", record)
        cached(data, *settings, **changes)
        assert len(set(requested)) == 3  # two views and val
        return requested

    return requested_keys


def shift_a_weight(model):
    layer = model.get_layer("conv1_bn")
    layer.moving_mean.assign(layer.moving_mean + 1e-3)


def change_an_epsilon(model):
    model.get_layer("conv1_bn").epsilon *= 2


def test_settings_that_do_not_affect_features_do_not_change_the_keys(keys):
    first = keys()
    assert keys() == first  # the numbers in layers' names change, but names do not count
    assert keys("training.batch_size=16")[::2] == first[::2]  # only random changes are drawn batch by batch
    assert keys("model.dropout=0.1", "tl.learning_rate=0.5") == first


@pytest.mark.parametrize(
    "name",
    [
        "keras_bench.training.cached_features.FEATURES_VERSION",
        "keras_bench.images.DECODER_VERSION",
        "keras_bench.images.PIL.__version__",
        "keras.__version__",
        "tensorflow.__version__",
    ],
)
def test_each_version_alone_changes_every_key(keys, monkeypatch, name):
    first = keys()
    monkeypatch.setattr(name, "another")
    assert not set(keys()) & set(first)


def test_precision_weights_and_graph_each_change_every_key(keys):
    first = keys()
    for precision in ("bfloat16", "float16"):
        assert not set(keys(f"training.mixed_precision={precision}")) & set(first)
    for change in (shift_a_weight, change_an_epsilon):
        assert not set(keys(change=change)) & set(first)


def test_augmentation_changes_the_keys_of_views_only(keys, monkeypatch):
    first = keys()
    monkeypatch.setattr("keras_bench.training.cached_features.AUGMENTATION_VERSION", 1000)
    plain, view, val = keys()
    assert (plain, val) == (first[0], first[2])
    assert view != first[1]


def test_onnx_runtime_s_version_is_part_of_the_key(keys, monkeypatch):
    first = keys()
    monkeypatch.setattr(features, "_worth_converting", lambda job, images: True)
    second = keys()
    monkeypatch.setattr("onnxruntime.__version__", "another")
    assert len({*first, *second, *keys()}) == 9


def test_a_float32_run_does_not_find_the_features_of_a_bfloat16_run(data):
    half = cached(data, "training.mixed_precision=bfloat16")
    assert len(entries()) == 3
    full = cached(data)
    assert len(entries()) == 6
    facts = [entry.read_facts()["about"] for entry in entries()]
    assert sorted(about["precision"] for about in facts) == ["bfloat16"] * 3 + ["float32"] * 3
    assert np.abs(full.val - half.val).max() > 0
    # A bfloat16 is the upper half of a float32, so features computed in it leave the lower half empty.
    lower_half = {"half": half.val.view(np.uint32) & 0xFFFF, "full": full.val.view(np.uint32) & 0xFFFF}
    assert not lower_half["half"].any()
    assert lower_half["full"].any()
    assert cached(data).val.tobytes() == full.val.tobytes()
    assert len(entries()) == 6


@pytest.mark.parametrize("backbone", ["VGG16", "EfficientNetB0", "ResNet18", "ConvNeXtTiny"])
def test_the_digest_of_a_network_does_not_depend_on_names_or_on_what_trains(backbone):
    digests = []
    for trainable in (True, False):
        keras.utils.set_random_seed(1)
        network = build_backbone(ModelSpec(BACKBONES[backbone], 32, 3, ModelConfig()))
        network.trainable = trainable
        digests.append(network_digest(network))
    assert digests[0] == digests[1]
    weight = network.weights[-1]
    weight.assign(weight + 1)
    assert network_digest(network) != digests[0]


def test_entries_of_earlier_versions_are_listed(tmp_path, capsys):
    folder = tmp_path / "cache" / "features"
    folder.mkdir(parents=True)
    about = {"backbone": "VGG16", "alpha": None, "weights": "none", "image_size": 64, "data": "d", "engine": "keras"}
    about |= {"positions": [1, 2, 3], "view": 0, "seed": 0, "cut": "head_pool"}
    (folder / "old.json").write_text(json.dumps({"about": about, "seconds": 2.0, "bytes": 4_000_000}))
    np.save(folder / "old.npy", np.zeros((3, 4), np.float32))
    (folder / "older.json").write_text("{}")
    assert main(["cache"]) == 0
    output = capsys.readouterr().out
    assert "VGG16" in output
    assert "4.0" in output
    assert "?" in output
