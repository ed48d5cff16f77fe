import keras
import numpy as np
import pytest

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.models.build import ModelSpec, backbone_layers, build_model
from keras_bench.models.phases import count_parameters, set_phase

ROW = BACKBONES["MobileNet"]


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    model = build_model(ModelSpec(ROW, 32, 3, ModelConfig(alpha=0.25)))
    for layer in norms(model):  # without trained statistics the signal would vanish on its way through the network
        layer.gamma.assign(layer.gamma * 4)
    return model


def norms(model):
    return [layer for layer in backbone_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]


def moving_statistics(model):
    return np.concatenate([v.numpy() for layer in norms(model) for v in (layer.moving_mean, layer.moving_variance)])


def fit(model):
    model.compile(optimizer="adam", loss="categorical_crossentropy")
    rng = np.random.default_rng(0)
    model.fit(rng.uniform(0, 255, (8, 32, 32, 3)), np.eye(3)[rng.integers(0, 3, 8)], epochs=1, verbose=0)


def test_tl_trains_the_head_only(model):
    set_phase(model, ROW, "tl")
    # 256 features into 256 hidden units, and those into 3 classes.
    assert count_parameters(model)[1] == (256 * 256 + 256) + (256 * 3 + 3)
    before = [weight.numpy() for layer in backbone_layers(model) for weight in layer.weights]
    fit(model)
    after = [weight.numpy() for layer in backbone_layers(model) for weight in layer.weights]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_ft_keeps_batch_norm_and_its_moving_statistics(model):
    set_phase(model, ROW, "ft")
    kernels = [layer.kernel.numpy() for layer in backbone_layers(model) if hasattr(layer, "kernel")]
    gammas = [layer.gamma.numpy() for layer in norms(model)]
    statistics = moving_statistics(model)
    fit(model)
    np.testing.assert_array_equal(moving_statistics(model), statistics)
    for layer, gamma in zip(norms(model), gammas, strict=True):
        np.testing.assert_array_equal(layer.gamma.numpy(), gamma)
    new_kernels = [layer.kernel.numpy() for layer in backbone_layers(model) if hasattr(layer, "kernel")]
    assert not all(np.array_equal(old, new) for old, new in zip(kernels, new_kernels, strict=True))


@pytest.mark.parametrize(("phase", "batch_norm"), [("ft", "train"), ("scratch", "frozen")])
def test_batch_norm_trains_if_configured(model, phase, batch_norm):
    set_phase(model, ROW, phase, batch_norm=batch_norm, momentum=0.8)
    assert {layer.momentum for layer in norms(model)} == {0.8}
    statistics = moving_statistics(model)
    fit(model)
    assert not np.array_equal(moving_statistics(model), statistics)


def test_without_a_momentum_the_backbones_own_is_kept(model):
    set_phase(model, ROW, "scratch")
    assert {layer.momentum for layer in norms(model)} == {0.99}


def test_the_last_blocks_alone_can_be_unfrozen(model):
    set_phase(model, ROW, "ft", unfreeze=2)
    trained = {layer.name for layer in backbone_layers(model) if layer.trainable and layer.weights}
    assert trained == {"conv_dw_12", "conv_pw_12", "conv_dw_13", "conv_pw_13"}
    set_phase(model, ROW, "ft", unfreeze=99)
    assert model.get_layer("conv1").trainable
    set_phase(model, ROW, "tl")
    assert not any(layer.trainable for layer in backbone_layers(model))


def test_a_frozen_backbone_has_no_dropout_and_a_trainable_one_drops_branches():
    row = BACKBONES["EfficientNetB0"]
    model = build_model(ModelSpec(row, 32, 3, ModelConfig(dropout=0.0)))
    features = keras.Model(model.input, model.get_layer("top_activation").output)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    ratio = {}
    for phase in ("ft", "tl"):
        set_phase(model, row, phase)
        first, second = (np.asarray(features(images, training=True)) for _ in range(2))
        ratio[phase] = np.abs(first - second).max() / np.abs(first).max()
    assert ratio["ft"] > 0.1
    assert ratio["tl"] == 0
