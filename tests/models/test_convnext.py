"""ConvNeXt's last LayerNormalization follows the pooling, as pretrained, whichever way weights are loaded."""

import keras
import numpy as np
import pytest

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.errors import UserError
from keras_bench.files import write_json
from keras_bench.models.build import POOL, POOLED_NORM, ModelSpec, backbone_layers, build_model
from keras_bench.models.phases import block_of_layers, block_order, count_parameters, set_phase
from keras_bench.models.split import split_frozen
from keras_bench.models.weights import initial_model
from keras_bench.runs.fingerprint import finished_phases, phase_inputs
from keras_bench.runs.job import Request, resolve

ROW = BACKBONES["ConvNeXtTiny"]
SPEC = ModelSpec(ROW, 64, 3, ModelConfig(hidden_units=0))
IMAGES = np.random.default_rng(1).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)


def pooled_features(model):
    return np.asarray(keras.Model(model.input, model.get_layer("head_dropout").input)(IMAGES, training=False))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Weights in the format of the published file, and the input of the last layer that the full network computes.

    The reference is keras.applications with its top, as pretrained: pooling, LayerNormalization, Dense.
    """
    keras.backend.clear_session()
    rng = np.random.default_rng(0)
    without_top = keras.applications.ConvNeXtTiny(include_top=False, weights=None, input_shape=(64, 64, 3))
    for weight in without_top.weights:
        if len(weight.shape) == 1:  # layer scale starts at 1e-6, which would hide every block; kernels are random
            weight.assign(np.asarray(weight) + rng.normal(0, 0.1, weight.shape))
    path = tmp_path_factory.mktemp("weights") / "convnext_tiny_notop.h5"
    without_top.save(path)
    with_top = keras.applications.ConvNeXtTiny(include_top=True, weights=None, input_shape=(64, 64, 3))
    targets = [weight for layer in with_top.layers[:-1] for weight in layer.weights]
    for target, weight in zip(targets, without_top.weights, strict=True):
        target.assign(weight)
    before_top = keras.Model(with_top.input, with_top.layers[-1].input)
    return path, np.asarray(before_top(IMAGES, training=False)), without_top.count_params()


def test_features_equal_those_before_the_top_of_the_pretrained_network(pretrained):
    path, expected, parameters = pretrained
    model = initial_model(SPEC, path)
    np.testing.assert_allclose(pooled_features(model), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert count_parameters(model)[0] == parameters + 768 * 3 + 3


def test_the_position_of_the_norm_relative_to_the_pooling_matters(pretrained):
    path, expected, _ = pretrained
    model = initial_model(SPEC, path)
    last_map = np.asarray(keras.Model(model.input, model.get_layer("features").output)(IMAGES, training=False))
    scale, shift = (np.asarray(weight) for weight in model.get_layer(POOLED_NORM).weights)

    def normalised(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + shift

    after, before = normalised(last_map.mean((1, 2))), normalised(last_map).mean((1, 2))
    np.testing.assert_allclose(after, expected, atol=1e-3 * np.abs(expected).max())
    assert np.linalg.norm(before - after) > 0.02 * np.linalg.norm(after)


@pytest.mark.slow
def test_features_are_unchanged_after_saving_and_transfer_to_another_run(pretrained, tmp_path):
    path, expected, _ = pretrained
    first = initial_model(SPEC, path)
    first.save(tmp_path / "model.keras")
    first.save_weights(tmp_path / "best.weights.h5")
    rebuilt = build_model(SPEC)
    rebuilt.load_weights(tmp_path / "best.weights.h5")
    for model in (rebuilt, initial_model(SPEC, tmp_path / "model.keras")):
        np.testing.assert_allclose(pooled_features(model), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_norm_belongs_to_the_backbone_and_to_its_last_block():
    model = build_model(SPEC)
    assert backbone_layers(model)[-1].name == POOLED_NORM
    assert block_of_layers(model, ROW)[POOLED_NORM] == block_order(model, ROW)[-1] == "stage_3_block_2"
    norm = model.get_layer(POOLED_NORM)
    set_phase(model, ROW, "tl")
    frozen, tail = split_frozen(model)
    assert frozen.output._keras_history.operation.name == POOLED_NORM
    assert frozen.output_shape == (None, 768)
    assert not norm.trainable
    assert count_parameters(model)[1] == 768 * 3 + 3
    np.testing.assert_allclose(tail(frozen(IMAGES, training=False)), model(IMAGES, training=False), atol=1e-6)
    set_phase(model, ROW, "ft", unfreeze=1)
    frozen, tail = split_frozen(model)
    assert norm.trainable
    assert POOL in [layer.name for layer in tail.layers]
    np.testing.assert_allclose(tail(frozen(IMAGES, training=False)), model(IMAGES, training=False), atol=1e-6)


def test_work_on_the_earlier_network_is_not_resumed(tmp_path):
    job = resolve(Request("digits", model="ConvNeXtTiny", phase="tl", weights="none", out=tmp_path))
    inputs = phase_inputs(job, "tl", "f" * 32, "none")
    earlier = {key: value for key, value in inputs.items() if key != "model.last_norm"}
    write_json(job.folder.state("tl") / "epoch0001.json", {"inputs": earlier})
    with pytest.raises(
        UserError, match="with other settings: model.last_norm was before pooling .*, is now after pooling"
    ):
        finished_phases(job, {"tl": inputs})
    other = resolve(Request("digits", model="MobileNet", phase="tl", weights="none", out=tmp_path))
    assert "model.last_norm" not in phase_inputs(other, "tl", "f" * 32, "none")
