"""Converted models compared with Keras, on images of many sizes."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from benchmarks.convert_backbones import make_lively
from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.models.build import ModelSpec
from keras_bench.models.onnx import to_onnx
from keras_bench.models.weights import initial_model

SHAPES = ((2, 64, 64, 3), (1, 333, 250, 3), (3, 48, 48, 3), (1, 1, 1, 3), (1, 5, 700, 3), (1, 1900, 2500, 3))
TOLERANCE = 1e-3  # shifting an image by one pixel changes predictions far more, as a test below shows
METADATA = {"class_names": ["a", 'b "quoted" ü', "c"], "image_size": 48, "experiment": "made"}


def build(name, side=48, **config):
    keras.utils.set_random_seed(1)
    spec = ModelSpec(BACKBONES[name], side, 3, ModelConfig(weights="none", hidden_units=8, **config))
    model = initial_model(spec, None)
    make_lively(model)
    return model


def predictions_of(graph, images):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"image": images})[0]


def keras_predictions(model, images):
    pixels = tf.image.resize(tf.cast(images, tf.float32), model.input_shape[1:3])
    return model.predict(pixels, verbose=0)


def images_of(shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture(scope="module")
def mobilenet():
    return build("MobileNet", alpha=0.25)


@pytest.fixture(scope="module")
def graph(mobilenet):
    return to_onnx([(mobilenet, 1.0)], METADATA)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_size_gives_the_same_prediction_as_keras(mobilenet, graph, shape):
    images = images_of(shape)
    np.testing.assert_allclose(predictions_of(graph, images), keras_predictions(mobilenet, images), atol=TOLERANCE)


def test_predictions_depend_on_the_image(mobilenet, graph):
    images = np.concatenate([np.full((1, 48, 48, 3), value, np.uint8) for value in (0, 90, 255)])
    assert np.ptp(predictions_of(graph, images), axis=0).max() > 20 * TOLERANCE
    images = images_of((4, 48, 48, 3))
    assert (
        np.abs(predictions_of(graph, images) - predictions_of(graph, np.roll(images, 1, axis=2))).max() > 20 * TOLERANCE
    )


def test_names_types_and_metadata_of_the_file(graph):
    onnx.checker.check_model(graph, full_check=True)
    (image,), (output,) = graph.graph.input, graph.graph.output
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["batch", "height", "width", 3]
    assert output.name == "probabilities"
    assert [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim] == ["batch", 3]
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 18)]
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(metadata["class_names"]) == METADATA["class_names"]
    assert (metadata["image_size"], metadata["experiment"]) == ("48", "made")
    operators = {node.op_type for node in graph.graph.node}
    assert not operators & {"RandomUniformLike", "Dropout", "BatchNormalization"}


@pytest.mark.slow
def test_efficientnet_converts_and_keeps_its_constants():
    model = build("EfficientNetB0", side=32)
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    before = layer.mean
    graph = to_onnx([(model, 1.0)], {**METADATA, "image_size": 32})
    assert layer.mean is before
    assert len(graph.graph.input) == 1  # tf2onnx would turn eager constants into further inputs
    images = images_of((2, 50, 41, 3))
    np.testing.assert_allclose(predictions_of(graph, images), keras_predictions(model, images), atol=TOLERANCE)


def test_members_are_averaged_by_weight_each_at_its_own_size(mobilenet):
    other = build("MobileNet", side=40, alpha=0.25)
    other.layers[-1].bias.assign([2.0, 0.0, -1.0])
    images = images_of((2, 64, 50, 3))
    expected = 0.3 * keras_predictions(mobilenet, images) + 0.7 * keras_predictions(other, images)
    averaged = predictions_of(to_onnx([(mobilenet, 0.3), (other, 0.7)], METADATA), images)
    np.testing.assert_allclose(averaged, expected, atol=TOLERANCE)


LARGEST_FIRST = sorted(BACKBONES.values(), key=lambda row: -row.parameters_millions)
SMALLEST = {row.family: row.name for row in LARGEST_FIRST}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SMALLEST.values()))
def test_every_family_converts_and_agrees(name):
    """One process per family, since TensorFlow keeps its memory; convert_backbones without --only does all rows."""
    command = [sys.executable, "-m", "benchmarks.convert_backbones", "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-500:]
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["agrees"]
    assert float(row["spread"]) > 0.05
