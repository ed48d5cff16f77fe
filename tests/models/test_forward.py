"""The two engines of a network's forward pass, and which of them is used."""

import numpy as np
import pytest

from keras_bench.console import Log
from keras_bench.environment import usable_cores
from keras_bench.models import forward, onnx
from keras_bench.models.forward import is_worth_converting, keras_forward, load_engine
from tests.models.test_onnx import build

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 48, 48, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def mobilenet():
    return build("MobileNet", alpha=0.25)


def test_onnx_runtime_agrees_with_keras_and_may_be_called_by_every_core(mobilenet, capsys):
    compute, threads = load_engine("onnxruntime", mobilenet, IMAGES[:4], "probabilities", Log())
    expected = np.asarray(mobilenet(IMAGES, training=False))
    assert threads == usable_cores()
    assert np.ptp(expected, axis=0).max() > 0.1  # the images' probabilities differ
    np.testing.assert_allclose(compute(IMAGES), expected, atol=1e-5)
    np.testing.assert_allclose(keras_forward(mobilenet)(IMAGES), expected, atol=1e-5)
    assert capsys.readouterr().out == ""


def test_keras_is_used_where_onnx_runtime_disagrees(mobilenet, monkeypatch, capsys):
    other = build("MobileNet", alpha=0.25)
    other.set_weights([1.1 * weights for weights in other.get_weights()])
    convert = onnx.network_to_onnx
    monkeypatch.setattr(onnx, "network_to_onnx", lambda network: convert(other))
    compute, threads = load_engine("onnxruntime", mobilenet, IMAGES[:4], "probabilities", Log())
    np.testing.assert_allclose(compute(IMAGES), np.asarray(mobilenet(IMAGES, training=False)), atol=1e-5)
    assert threads == 1
    assert "ONNX Runtime's probabilities differ from Keras's by up to " in capsys.readouterr().out


def test_only_long_passes_are_worth_a_conversion(monkeypatch):
    assert is_worth_converting(3720 * 128**2)
    assert not is_worth_converting(3720 * 64**2)
    monkeypatch.setattr(forward.tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    assert not is_worth_converting(10**12)
