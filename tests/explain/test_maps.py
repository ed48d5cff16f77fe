"""Maps against gradients computed by hand; every family of backbones can be explained."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.config.schema import ExplainConfig
from keras_bench.explain.cam import choose_cam_layer
from keras_bench.explain.maps import compute_maps, enlarge, linear_view
from keras_bench.explain.records import EXPLANATION_METHODS
from keras_bench.models.build import ModelSpec, build_model

SETTINGS = ExplainConfig(smooth_samples=2)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
CLASSES = np.array([2, 0, 1])


def build(name, side, **config):
    keras.utils.set_random_seed(0)
    row = BACKBONES[name]
    return build_model(ModelSpec(row, side, 4, ModelConfig(weights="none", hidden_units=8, **config))), row


@pytest.fixture(scope="module")
def mobilenet():
    model, row = build("MobileNet", 64, alpha=0.25)
    return model, linear_view(model), row.cam_layer


def test_the_view_gives_the_scores_before_the_softmax(mobilenet):
    model, view, _ = mobilenet
    scores = keras.ops.convert_to_numpy(view([IMAGES]))
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, model.predict(IMAGES, verbose=0), atol=1e-5)


def test_saliency_is_the_largest_absolute_gradient_over_the_colours(mobilenet):
    _, view, layer = mobilenet
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        score = tf.gather(view([images], training=False), CLASSES, batch_dims=1)
    expected = np.abs(tape.gradient(score, images)).max(axis=-1)
    maps = compute_maps(view, IMAGES, CLASSES, "saliency", layer, SETTINGS)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_gradcam_follows_the_formula_of_the_paper(mobilenet):
    model, view, layer = mobilenet
    both = keras.Model(model.input, [model.get_layer(layer).output, view.output])
    with tf.GradientTape() as tape:
        activations, scores = both(tf.constant(IMAGES), training=False)
        tape.watch(activations)
        score = tf.gather(view_from(model, view, layer)(activations), CLASSES, batch_dims=1)
    gradients = tape.gradient(score, activations).numpy()
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    expected = np.maximum((activations.numpy() * weights).sum(axis=-1), 0)
    np.testing.assert_allclose(scores.numpy()[np.arange(3), CLASSES], score, rtol=1e-4)
    maps = compute_maps(view, IMAGES, CLASSES, "gradcam", layer, SETTINGS)
    assert maps.shape == (3, 2, 2)
    assert expected.max() > 0
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_gradcam_can_use_an_operation_that_is_not_a_layer(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 2, strides=2)(image)
    total = x + keras.layers.Conv2D(4, 1)(x)
    behind = [keras.layers.Conv2D(3, 2, strides=2, activation="tanh"), keras.layers.GlobalAveragePooling2D()]
    behind.append(keras.layers.Dense(4, activation="softmax", name="head_probabilities"))
    probabilities = total
    for layer in behind:
        probabilities = layer(probabilities)
    keras.Model(image, probabilities).save(tmp_path / "model.keras")
    view = linear_view(keras.models.load_model(tmp_path / "model.keras", compile=False))
    images = IMAGES[:, :8, :8] / 255
    name = total._keras_history.operation.name
    maps = compute_maps(view, images, CLASSES, "gradcam", name, SETTINGS)
    activations = tf.constant(keras.Model(image, total)(images))
    with tf.GradientTape() as tape:
        tape.watch(activations)
        pooled = behind[1](behind[0](activations))
        score = tf.gather(pooled @ behind[2].kernel + behind[2].bias, CLASSES, batch_dims=1)
    weights = tape.gradient(score, activations).numpy().mean(axis=(1, 2), keepdims=True)
    expected = np.maximum((activations.numpy() * weights).sum(axis=-1), 0)
    assert maps.shape == (3, 4, 4)
    assert expected.max() > 0
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6 * expected.max())


def view_from(model, view, layer):
    """Return the function from a layer's activations to the scores."""
    pooled = keras.layers.GlobalAveragePooling2D()
    hidden = model.get_layer("head_hidden")
    return lambda activations: view.layers[-1](hidden(pooled(activations)))


def test_smoothgrad_is_repeatable_and_leaves_the_global_generator_alone(mobilenet):
    _, view, layer = mobilenet
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    first = compute_maps(view, IMAGES, CLASSES, "smoothgrad", layer, SETTINGS)
    assert np.random.random() == expected
    np.testing.assert_array_equal(first, compute_maps(view, IMAGES, CLASSES, "smoothgrad", layer, SETTINGS))
    plain = compute_maps(view, IMAGES, CLASSES, "saliency", layer, SETTINGS)
    assert np.abs(first - plain).max() > 0.1 * plain.max()


def test_enlarging_spreads_each_cell_around_its_own_centre():
    maps = np.zeros((1, 4, 4), np.float32)
    maps[0, 1, 2] = 1
    large = enlarge(maps, 64)
    row, column = np.unravel_index(large[0].argmax(), (64, 64))
    assert 16 <= row < 32
    assert 32 <= column < 48
    assert enlarge(large, 64) is large


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("VGG16", 32),
        ("ResNet18", 64),
        ("ResNet50", 64),
        ("ResNet50V2", 64),
        ("Xception", 71),
        ("InceptionV3", 75),
        ("InceptionResNetV2", 75),
        ("MobileNetV2", 64),
        ("MobileNetV3Small", 64),
        ("DenseNet121", 64),
        ("NASNetMobile", 64),
        ("EfficientNetB0", 64),
        ("EfficientNetV2B0", 64),
        ("ConvNeXtTiny", 64),
    ],
)
def test_every_family_can_be_explained(name, side, tmp_path):
    model, row = build(name, side)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras", compile=False)
    layer = choose_cam_layer(model, row).name
    view = linear_view(model)
    images = np.random.default_rng(1).integers(0, 256, (2, side, side, 3)).astype(np.float32)
    for method in EXPLANATION_METHODS:
        maps = compute_maps(view, images, np.array([0, 3]), method, layer, SETTINGS)
        assert maps.ndim == 3
        assert len(maps) == 2
        assert np.isfinite(maps).all()
        assert (maps >= 0).all()
        if method in ("saliency", "smoothgrad"):
            assert maps.shape == (2, side, side)
            assert maps.max() > 0
        else:
            assert 4 <= maps.shape[1] == maps.shape[2] < 8
