"""The cut between the frozen and the trainable part: at the expected layer, and both halves together are the model."""

import keras
import numpy as np
import pytest

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.models.build import POOL, ModelSpec, build_model
from keras_bench.models.phases import set_phase
from keras_bench.models.split import split_frozen


def build(name, phase, unfreeze="all"):
    keras.utils.set_random_seed(0)
    side = max(64, BACKBONES[name].family.min_size)
    model = build_model(ModelSpec(BACKBONES[name], side, 3, ModelConfig(hidden_units=8)))
    set_phase(model, BACKBONES[name], phase, unfreeze)
    return model, np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype(np.float32)


def bridge(frozen):
    return frozen.output._keras_history.operation.name


@pytest.mark.parametrize(
    ("name", "unfreeze", "expected"),
    [
        ("MobileNet", 1, "conv_pw_12_relu"),
        ("VGG16", 1, "block4_pool"),
        ("ResNet18", 1, None),
        ("EfficientNetB0", 1, "block6d_add"),
        ("DenseNet121", 1, "conv5_block15_concat"),
    ],
)
def test_the_cut_is_where_the_last_block_begins(name, unfreeze, expected):
    model, images = build(name, "ft", unfreeze)
    frozen, tail = split_frozen(model)
    assert not frozen.trainable_weights
    assert [w.path for w in tail.trainable_weights] == [w.path for w in model.trainable_weights]
    np.testing.assert_allclose(tail(frozen(images, training=False)), model(images, training=False), atol=1e-6)
    assert expected is None or bridge(frozen) == expected


@pytest.mark.parametrize("name", ["MobileNet", "NASNetMobile", "EfficientNetV2B0"])
def test_in_tl_everything_up_to_the_pooled_features_is_frozen(name):
    model, images = build(name, "tl")
    frozen, tail = split_frozen(model)
    assert bridge(frozen) == POOL
    tail.layers[-1].bias.assign([1.0, 2.0, 3.0])  # the weights are shared
    np.testing.assert_allclose(tail(frozen(images, training=False)), model(images, training=False), atol=1e-6)


def test_without_a_frozen_block_there_is_nothing_to_cut():
    with pytest.raises(ValueError, match="every block trains"):
        split_frozen(build("MobileNet", "ft")[0])
