"""The 8-bit version: which layers each plan quantises, and how close the result stays."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.convert_backbones import some_images
from keras_bench.export.quantize import PLANS, quantize
from keras_bench.models.onnx import save, to_onnx
from tests.models.test_onnx import METADATA, build, images_of, predictions_of


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    save(to_onnx([(build("MobileNet", alpha=0.25), 1.0)], METADATA), path)
    return path


def layers_in_8_bits(path):
    """Count convolutions and matrix products whose weights come out of a DequantizeLinear."""
    graph = onnx.load(path).graph
    made_by = {name: node for node in graph.node for name in node.output}
    heavy = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    return sum(getattr(made_by.get(node.input[1]), "op_type", "") == "DequantizeLinear" for node in heavy), len(heavy)


# MobileNet: the first convolution, 13 depthwise and 13 pointwise ones, and two dense layers.
@pytest.mark.parametrize(("plan", "expected"), list(zip(PLANS, (29, 29, 15), strict=True)))
def test_a_plan_quantises_its_layers_and_no_others(source, tmp_path, plan, expected):
    target = tmp_path / "int8.onnx"
    batches = [images_of((1, 48, 48, 3)), images_of((1, 60, 30, 3))]
    assert quantize(source, target, batches, plan) == expected
    assert layers_in_8_bits(target) == (expected, 29)
    onnx.checker.check_model(onnx.load(target), full_check=True)


def test_eight_bits_stay_close_and_each_channel_has_its_scale(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
    kernel = np.random.default_rng(0).normal(0, 8, (8, 3))
    model.layers[-1].set_weights([kernel, -0.3 * kernel.sum(axis=0)])
    source, target = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    save(to_onnx([(model, 1.0)], METADATA), source)
    images = some_images((16, 40, 30, 3))
    assert quantize(source, target, [images], PLANS[0]) == 2
    exact, rounded = predictions_of(onnx.load(source), images), predictions_of(onnx.load(target), images)
    assert np.ptp(exact, axis=0).max() > 0.2
    assert 1e-6 < np.abs(exact - rounded).max() < 0.03
    # The file computed without 8-bit kernels, which overflow on some processors.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    without_kernels = onnxruntime.InferenceSession(str(target), options).run(None, {"image": images})[0]
    assert np.abs(without_kernels - rounded).max() < 5e-3
    graph = onnx.load(target).graph
    scales = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    convolution = next(node for node in graph.node if node.op_type == "Conv")
    scale = scales[made_by[convolution.input[1]].input[1]]
    assert list(scale.dims) == [8]
