"""Maps against gradients computed by hand and against tf-keras-vis; every family of backbones can be explained."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.saliency import Saliency
from tf_keras_vis.utils.scores import CategoricalScore

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.config.schema import ExplainConfig
from keras_bench.explain import maps as maps_module
from keras_bench.explain.cam import choose_cam_layer
from keras_bench.explain.checks import randomized
from keras_bench.explain.maps import Explainer, compute_maps, enlarge, linear_view
from keras_bench.explain.records import EXPLANATION_METHODS
from keras_bench.models.build import HEAD, ModelSpec, build_model

SETTINGS = ExplainConfig(smooth_samples=2)
FIVE_COPIES = ExplainConfig(smooth_samples=5, seed=7)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
CLASSES = np.array([2, 0, 1])


def build(name, side, seed=0, **config):
    keras.utils.set_random_seed(seed)
    row = BACKBONES[name]
    return build_model(ModelSpec(row, side, 4, ModelConfig(weights="none", hidden_units=8, **config))), row


@pytest.fixture(scope="module")
def mobilenet():
    model, row = build("MobileNet", 64, alpha=0.25)
    return model, linear_view(model), row.cam_layer


@pytest.fixture(scope="module")
def explainer(mobilenet):
    model, _, layer = mobilenet
    return Explainer(model, layer)


def test_the_view_gives_the_scores_before_the_softmax(mobilenet):
    model, view, _ = mobilenet
    scores = keras.ops.convert_to_numpy(view(IMAGES))
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, model.predict(IMAGES, verbose=0), atol=1e-5)


def test_saliency_is_the_largest_absolute_gradient_over_the_colours(mobilenet, explainer):
    _, view, _ = mobilenet
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        score = tf.gather(view(images, training=False), CLASSES, batch_dims=1)
    expected = np.abs(tape.gradient(score, images)).max(axis=-1)
    maps = compute_maps(explainer, IMAGES, CLASSES, SETTINGS)["saliency"]
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_gradcam_follows_the_formula_of_the_paper(mobilenet, explainer):
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
    maps = compute_maps(explainer, IMAGES, CLASSES, SETTINGS)["gradcam"]
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
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    images = IMAGES[:, :8, :8] / 255
    explainer = Explainer(loaded, total._keras_history.operation.name)
    maps = compute_maps(explainer, images, CLASSES, SETTINGS)["gradcam"]
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


def test_smoothgrad_is_repeatable_and_leaves_the_global_generator_alone(explainer):
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    first = compute_maps(explainer, IMAGES, CLASSES, SETTINGS)
    assert np.random.random() == expected
    again = compute_maps(explainer, IMAGES, CLASSES, SETTINGS)
    np.testing.assert_array_equal(first["smoothgrad"], again["smoothgrad"])
    plain = first["saliency"]
    assert np.abs(first["smoothgrad"] - plain).max() > 0.1 * plain.max()


@pytest.fixture(scope="module")
def lively():
    """A model whose scores, gradients and activations differ between images, and its maps of eleven images."""
    model, row = build("MobileNet", 64, alpha=0.25)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            generator = np.random.default_rng(layer.gamma.shape[0])
            layer.gamma.assign(generator.uniform(0.5, 3, layer.gamma.shape))
            layer.beta.assign(generator.uniform(-0.5, 1, layer.beta.shape))
    images = np.random.default_rng(3).integers(0, 256, (11, 64, 64, 3)).astype(np.float32)
    classes = np.arange(11) % 4
    explainer = Explainer(model, row.cam_layer)
    return model, row.cam_layer, images, classes, explainer, compute_maps(explainer, images, classes, FIVE_COPIES)


def by_tf_keras_vis(view, layer, images, classes, method):
    """Return the maps of tf-keras-vis, which computes images one batch at a time, outside a traced function."""
    score = CategoricalScore([int(k) for k in classes])
    if method in ("saliency", "smoothgrad"):
        noise = {"smooth_samples": FIVE_COPIES.smooth_samples, "smooth_noise": FIVE_COPIES.smooth_noise}
        return Saliency(view, clone=False)(score, images, normalize_map=False, **(noise if method[1] == "m" else {}))
    kind = Gradcam if method == "gradcam" else GradcamPlusPlus
    return kind(view, clone=False)(score, images, layer, False, normalize_cam=False, expand_cam=False)


@pytest.mark.parametrize("method", EXPLANATION_METHODS)
def test_maps_are_those_of_tf_keras_vis(lively, method):
    """In batches of eight, as with SmoothGrad of earlier versions, whose noise is drawn for eight images at a time."""
    model, layer, images, classes, _, maps = lively
    shared = linear_view(model)
    view = keras.Model([shared.input], shared.output)  # which tf-keras-vis calls with a list
    state = np.random.get_state()
    np.random.seed(FIVE_COPIES.seed)
    last = np.minimum(np.arange(8, 16), 10)  # filled up to eight
    parts = [by_tf_keras_vis(view, layer, images[rows], classes[rows], method) for rows in (np.arange(8), last)]
    np.random.set_state(state)
    expected = np.concatenate([np.asarray(part) for part in parts])[:11]
    assert maps[method].shape == expected.shape
    assert np.ptp(expected.max(axis=(1, 2))) > 0.1 * expected.max()  # the images' maps differ
    np.testing.assert_allclose(maps[method], expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_one_trace_serves_all_methods_batch_sizes_and_weights(lively):
    model, layer, images, classes, _, maps = lively
    fresh, _ = build("MobileNet", 64, seed=1, alpha=0.25)
    explainer = Explainer(model, layer)
    for count in (11, 3):
        compute_maps(explainer, images[:count], classes[:count], FIVE_COPIES)
    for with_backbone in (False, True):
        with randomized(model, fresh, HEAD, with_backbone):
            explainer.refresh()
            changed = compute_maps(explainer, images, classes, FIVE_COPIES)
            expected = compute_maps(Explainer(model, layer), images, classes, FIVE_COPIES)
        for method in EXPLANATION_METHODS:
            np.testing.assert_allclose(changed[method], expected[method], rtol=1e-5, atol=1e-6 * expected[method].max())
            assert np.abs(changed[method] - maps[method]).max() > 0.01 * maps[method].max()
    assert explainer.explain.experimental_get_tracing_count() == 1


def test_batches_hold_as_many_images_as_memory_allows_and_do_not_change_the_maps(lively, monkeypatch):
    _, _, images, classes, explainer, maps = lively
    sizes = []

    class Recorder:
        def explain(self, batch, labels):
            sizes.append(len(batch))
            return explainer.explain(batch, labels)

    monkeypatch.setattr(maps_module, "PIXELS_PER_BATCH", 10 * 64 * 64)
    small = compute_maps(Recorder(), images, classes, FIVE_COPIES)
    assert max(sizes) == 10
    for method in EXPLANATION_METHODS:
        np.testing.assert_allclose(small[method], maps[method], rtol=1e-4, atol=1e-5 * maps[method].max())
    monkeypatch.undo()
    assert [maps_module.batch_size(np.empty((1, side, side, 3))) for side in (32, 64, 128, 224, 600)] == [
        *(32, 32, 16, 5, 1)
    ]


def test_progress_counts_every_map_once(lively):
    _, _, images, classes, explainer, _ = lively
    counts = []
    compute_maps(explainer, images, classes, FIVE_COPIES, counts.append)
    assert sum(counts) == 4 * 11


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
    images = np.random.default_rng(1).integers(0, 256, (2, side, side, 3)).astype(np.float32)
    computed = compute_maps(Explainer(model, layer), images, np.array([0, 3]), SETTINGS)
    assert tuple(computed) == EXPLANATION_METHODS
    for method, maps in computed.items():
        assert maps.ndim == 3
        assert len(maps) == 2
        assert np.isfinite(maps).all()
        assert (maps >= 0).all()
        if method in ("saliency", "smoothgrad"):
            assert maps.shape == (2, side, side)
            assert maps.max() > 0
        else:
            assert 4 <= maps.shape[1] == maps.shape[2] < 8
