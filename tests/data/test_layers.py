"""The package's Keras layers: in tf.data, in a model, in a .keras file, and seeded by position."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import affine_transform

from keras_bench.config import AugmentationConfig
from keras_bench.data.augmentation import augmentation_layers, build_augmentation
from keras_bench.data.layers import PerImage, RandomAffine, RandomBrightnessFactor
from keras_bench.data.seeding import PositionSeed, first_seed_word

IMAGES = np.random.default_rng(0).uniform(0, 255, (6, 10, 14, 3)).astype(np.float32)
EVERYTHING = {
    "horizontal_flip": True,
    "vertical_flip": True,
    "rotation_degrees": 40.0,
    "zoom": (-0.3, 0.2),
    "translation": 0.2,
}


def layers(seed=5):
    return {
        "affine": RandomAffine(**EVERYTHING, seed=seed),
        "brightness factor": RandomBrightnessFactor((0.5, 1.5), value_range=(0.0, 200.0), seed=seed),
        "per image": PerImage(keras.layers.RandomCrop(8, 9, seed=seed)),
    }


NAMES = list(layers())


@pytest.fixture
def half_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def drawn(seed, change, draw, key, count, low, high):
    """The numbers that PositionSeed leads to, computed with TensorFlow alone."""
    pair = tf.constant([first_seed_word(seed, change, draw), key], tf.int32)
    return tf.random.stateless_uniform([count], pair, low, high).numpy().astype(np.float64)


def test_an_affine_layer_transforms_each_image_by_its_own_draws():
    """Compared with SciPy, whose coordinates are (row, column), on images that are wider than high."""
    layer = RandomAffine(**EVERYTHING)
    layer.generator = PositionSeed(3, *RandomAffine.DRAWS)
    layer.generator.at(tf.constant(11))
    results = layer(IMAGES, training=True).numpy()

    def values(change, low, high, draw=0):
        return drawn(3, change, draw, 11, len(IMAGES), low, high)

    flips = np.where(np.stack([values("vertical_flip", -1, 1), values("horizontal_flip", -1, 1)], axis=1) < 0, -1, 1)
    angles, zooms = np.radians(values("rotation_degrees", -40, 40)), 1 + values("zoom", -0.3, 0.2)
    shifts = np.stack([values("translation", -2, 2, draw=1), values("translation", -2.8, 2.8)], axis=1)
    assert len(np.unique(flips, axis=0)) > 1
    centre = np.array([4.5, 6.5])
    for image, result, flip, angle, zoom, shift in zip(IMAGES, results, flips, angles, zooms, shifts, strict=True):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        matrix = zoom * np.diag(flip) @ turn
        offset = centre - matrix @ (centre + shift)
        expected = [affine_transform(image[..., i], matrix, offset, order=1, mode="reflect") for i in range(3)]
        np.testing.assert_allclose(result, np.stack(expected, axis=-1), atol=5e-3)


def test_a_brightness_factor_multiplies_each_image_by_its_own_draw_and_clips():
    layer = layers()["brightness factor"]
    layer.generator = PositionSeed(3, "brightness_factor")
    layer.generator.at(tf.constant(11))
    factors = drawn(3, "brightness_factor", 0, 11, len(IMAGES), 0.5, 1.5)
    expected = np.clip(IMAGES * factors[:, None, None, None], 0, 200)
    np.testing.assert_allclose(layer(IMAGES, training=True), expected, rtol=1e-5)
    assert expected.max() == 200


def test_per_image_cuts_a_different_window_from_each_image_and_restores_the_key():
    layer = layers()["per image"]
    layer.layer.generator = PositionSeed(3, "crop", "crop")
    layer.generator.at(tf.constant(11))
    results = layer(IMAGES, training=True).numpy()
    assert int(layer.generator.key) == 11
    starts = [
        (int(drawn(3, "crop", 0, key, 1, 0, 3)[0]), int(drawn(3, "crop", 1, key, 1, 0, 6)[0]))
        for key in (11 * 4099 + number for number in range(len(IMAGES)))
    ]
    assert len(set(starts)) > 2
    for image, result, (top, left) in zip(IMAGES, results, starts, strict=True):
        np.testing.assert_array_equal(result, image[top : top + 8, left : left + 9])


@pytest.mark.parametrize("name", NAMES)
def test_outside_training_images_pass_unchanged(name):
    layer = layers()[name]
    np.testing.assert_array_equal(layer(IMAGES), IMAGES)
    np.testing.assert_array_equal(layer(IMAGES, training=False), IMAGES)
    np.testing.assert_array_equal(layer(IMAGES.astype(np.uint8)), IMAGES.astype(np.uint8).astype(np.float32))
    assert not np.array_equal(layer(IMAGES, training=True), IMAGES)


@pytest.mark.parametrize("name", NAMES)
def test_tf_data_gives_the_same_images_as_a_direct_call_and_other_seeds_give_others(name):
    direct, streamed, other = (layers(seed)[name] for seed in (5, 5, 6))
    expected = [direct(IMAGES, training=True).numpy() for _ in range(2)]
    dataset = tf.data.Dataset.from_tensors(IMAGES).repeat(2).map(lambda images: streamed(images, training=True))
    for batch, result in zip(dataset, expected, strict=True):
        np.testing.assert_allclose(batch, result, atol=1e-3)
    assert not np.array_equal(*expected)  # the layer's own generator advances
    assert not np.array_equal(other(IMAGES, training=True), expected[0])


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_single_image_is_treated_as_a_batch_of_one(name):
    single, batch = (layers()[name] for _ in range(2))
    result = single(IMAGES[0], training=True)
    np.testing.assert_array_equal(result, batch(IMAGES[:1], training=True)[0])
    assert result.shape == IMAGES[0].shape


@pytest.mark.parametrize("name", NAMES)
def test_a_model_with_such_a_layer_is_saved_and_loaded_in_safe_mode(name, tmp_path):
    inputs = keras.Input(IMAGES.shape[1:])
    model = keras.Model(inputs, layers()[name](inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.layers[1].get_config() == model.layers[1].get_config()
    assert loaded.output_shape == model.output_shape
    np.testing.assert_array_equal(loaded(IMAGES, training=False), model(IMAGES, training=False))
    np.testing.assert_allclose(loaded(IMAGES, training=True), model(IMAGES, training=True), atol=1e-3)
    assert not np.array_equal(loaded(IMAGES, training=True), loaded(IMAGES, training=False))


def test_a_model_with_all_layers_can_be_fitted(half_precision):
    inputs = keras.Input(IMAGES.shape[1:])
    outputs = inputs
    for layer in layers().values():
        outputs = layer(outputs)
    outputs = keras.layers.Dense(1, dtype="float32")(keras.layers.GlobalAveragePooling2D()(outputs))
    model = keras.Model(inputs, outputs)
    assert model.layers[1].compute_dtype == "bfloat16"
    model.compile("sgd", "mse")
    history = model.fit(IMAGES / 255, np.zeros(len(IMAGES)), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert model.predict(IMAGES / 255, verbose=0).shape == (len(IMAGES), 1)


def test_an_affine_layer_requires_images_of_known_size():
    dataset = tf.data.Dataset.from_generator(
        lambda: iter([IMAGES]), output_signature=tf.TensorSpec((None, None, 14, 3), tf.float32)
    )
    with pytest.raises(ValueError, match=r"RandomAffine: expected images of known height and width, received shape"):
        dataset.map(lambda images: layers()["affine"](images, training=True))


def test_the_configuration_becomes_a_list_of_only_those_layers_that_change_something():
    def kinds(**settings):
        nothing = {"horizontal_flip": False, "rotation_degrees": 0, "zoom": (0, 0), "translation": 0}
        config = AugmentationConfig(**{**nothing, **settings})
        return [type(layer).__name__ for layer in augmentation_layers(config, 20, seed=0)]

    assert kinds() == kinds(crop=0.99) == []
    for change, setting in EVERYTHING.items():
        assert kinds(**{change: setting}) == ["RandomAffine"]
    assert kinds(vertical_flip=True, brightness_factor=(0.8, 1.2), contrast=0.1, brightness=(0, 0.1), crop=0.5) == [
        "RandomAffine",
        "RandomBrightnessFactor",
        "RandomContrast",
        "RandomBrightness",
        "PerImage",
        "Resizing",
    ]


def test_in_mixed_precision_images_are_transformed_and_cropped_in_float32(half_precision):
    """bfloat16 values are 1 apart above 128; besides, RandomCrop in bfloat16 could not be mixed with float32."""
    config = AugmentationConfig(brightness_factor=(0.8, 1.2), crop=0.7)
    images, key = tf.constant(IMAGES[:, :10, :10]), tf.constant(4)
    half = build_augmentation(config, 10, seed=0)(images, key)
    assert half.dtype == tf.float32
    keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_array_equal(half, build_augmentation(config, 10, seed=0)(images, key))
