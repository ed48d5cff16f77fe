import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import affine_transform

from keras_bench.config import AugmentationConfig, DatasetConfig
from keras_bench.console import Log
from keras_bench.data.augmentation import build_augmentation
from keras_bench.data.layers import RandomAffine
from keras_bench.data.pipeline import Pipeline
from keras_bench.data.seeding import AUGMENTATION_NUMBERS, MAX_DRAWS, PositionSeed, first_seed_word
from keras_bench.data.sources import open_source
from keras_bench.data.store import ImageStore
from tests.conftest import digit_image, encoded

NOTHING = AugmentationConfig(horizontal_flip=False, rotation_degrees=0, zoom=(0, 0), translation=0)


def make_pipeline(path, image_size=24, batch_size=8, seed=0):
    index = open_source(DatasetConfig(source="folder"), path, Log())
    store = ImageStore(index, 1 << 30)
    store.load(Log())
    return Pipeline(store, image_size, batch_size, 3, seed)


def bilinear(image, size):
    """Bilinear resize with half-pixel centres, written out as an independent check."""
    height, width = image.shape[:2]
    rows = np.clip((np.arange(size) + 0.5) * height / size - 0.5, 0, height - 1)
    columns = np.clip((np.arange(size) + 0.5) * width / size - 0.5, 0, width - 1)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = (rows - top)[:, None, None], (columns - left)[None, :, None]
    image = image.astype(np.float64)
    upper = image[top][:, left] * (1 - across) + image[top][:, right] * across
    lower = image[bottom][:, left] * (1 - across) + image[bottom][:, right] * across
    return upper * (1 - down) + lower * down


def test_evaluation_sees_every_image_once_in_order_resized_from_its_original_pixels(image_folder):
    pipeline = make_pipeline(image_folder)
    positions = np.array([40, 3, 17, 61, 0, 5, 6, 7, 8, 9])
    batches = list(pipeline.evaluation(positions).as_numpy_iterator())
    assert [len(images) for images, _ in batches] == [8, 2]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(labels.argmax(axis=1), pipeline.store.index.labels[positions])
    np.testing.assert_array_equal(labels.sum(axis=1), 1)
    for image, position in zip(images, positions, strict=True):
        np.testing.assert_allclose(image, bilinear(pipeline.store.image(position), 24), atol=1e-3)


def test_mixed_sizes_are_squashed_one_by_one(image_folder):
    wide = digit_image(0, 20).resize((40, 10))
    (image_folder / "class 0" / "a_wide.jpg").write_bytes(encoded(wide))
    pipeline = make_pipeline(image_folder)
    assert len(pipeline.store.sizes) == 2
    images, _ = next(iter(pipeline.evaluation(np.array([0, 1, 2]))))
    for image, position in zip(images.numpy(), (0, 1, 2), strict=True):
        np.testing.assert_allclose(image, bilinear(pipeline.store.image(position), 24), atol=1e-3)


@pytest.fixture(params=["float32", "mixed_bfloat16", "mixed_float16"])
def precision(request):
    keras.mixed_precision.set_global_policy(request.param)
    yield
    keras.mixed_precision.set_global_policy("float32")


def test_the_resize_is_that_of_the_exported_graph_bit_by_bit_in_any_precision(image_folder, precision):
    """The graph calls tf.image.resize: bilinear, no antialiasing."""
    rng, pipeline = np.random.default_rng(0), make_pipeline(image_folder)
    sizes = ((24, 24), (1, 1), (7, 50), (333, 250), (64, 64))
    batches = [rng.integers(0, 256, (2, *size, 3), np.uint8) for size in sizes]
    unknown = tf.data.Dataset.from_generator(
        lambda: (batch[0] for batch in batches), output_signature=tf.TensorSpec((None, None, 3), tf.uint8)
    ).map(pipeline._resize)
    for batch, resized in zip(batches, unknown, strict=True):
        expected = tf.image.resize(tf.cast(batch, tf.float32), (24, 24)).numpy()
        assert resized.dtype == tf.float32
        np.testing.assert_array_equal(resized, expected[0])
        (resized_batch,) = tf.data.Dataset.from_tensors(batch).map(pipeline._resize)
        np.testing.assert_array_equal(resized_batch, expected)


def test_each_training_epoch_is_a_new_shuffle_of_every_image_once(image_folder):
    pipeline = make_pipeline(image_folder, image_size=16)
    positions = np.arange(2, 32)
    batches = list(pipeline.training(positions, NOTHING, epochs=2).as_numpy_iterator())
    assert len(batches) == 2 * pipeline.steps(30) == 8
    epochs = [np.concatenate([images for images, _ in batches[start : start + 4]]) for start in (0, 4)]
    originals = {pipeline.store.image(i).tobytes() for i in positions}
    for epoch in epochs:
        assert {image.astype(np.uint8).tobytes() for image in epoch} == originals
    assert not np.array_equal(epochs[0], epochs[1])


def test_training_is_reproducible_depends_on_the_seed_and_can_resume_at_any_epoch(image_folder):
    positions = np.arange(30)
    everything = AugmentationConfig(vertical_flip=True, contrast=0.2, brightness=(-0.1, 0.1), crop=0.8)

    def images(seed=0, start=0):
        stream = make_pipeline(image_folder, seed=seed).training(positions, everything, 3, start)
        return np.concatenate([batch for batch, _ in stream.as_numpy_iterator()])

    all_epochs = images()
    np.testing.assert_array_equal(images(), all_epochs)
    np.testing.assert_array_equal(images(start=2), all_epochs[60:])
    assert not np.array_equal(images(seed=1), all_epochs)


AUGMENTATIONS = {
    "vertical_flip": {"vertical_flip": True},
    "horizontal_flip": {"horizontal_flip": True},
    "rotation_degrees": {"rotation_degrees": 20.0},
    "zoom": {"zoom": (-0.3, 0.1)},
    "translation": {"translation": 0.2},
    "contrast": {"contrast": 0.5},
    "brightness": {"brightness": (-0.3, 0.3)},
    "brightness_factor": {"brightness_factor": (0.5, 1.5)},
    "crop": {"crop": 0.6},
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_augmentation_changes_images_individually_and_keeps_the_range(name):
    augment = build_augmentation(NOTHING.model_copy(update=AUGMENTATIONS[name]), 24, seed=3)
    rng = np.random.default_rng(0)
    copies = np.repeat(rng.uniform(0, 255, (1, 24, 24, 3)), 32, axis=0).astype(np.float32)
    augmented = augment(tf.constant(copies), tf.constant(5)).numpy()
    assert augmented.shape == copies.shape
    assert augmented.min() >= 0
    assert augmented.max() <= 255
    distinct = {image.tobytes() for image in augmented}
    assert len(distinct) > (1 if "flip" in name else 25)  # a flip has two outcomes, the others one per image
    np.testing.assert_array_equal(augment(tf.constant(copies), tf.constant(5)), augmented)
    assert not np.array_equal(augment(tf.constant(copies), tf.constant(6)), augmented)


def transformed_by_scipy(image, degrees, zoom, shift_x, shift_y):
    """Apply the same transform with SciPy, whose coordinates are (row, column)."""
    angle = np.radians(degrees)
    matrix = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = (np.array(image.shape[:2]) - 1) / 2
    offset = centre - matrix @ (centre + np.array([shift_y, shift_x]))
    planes = [affine_transform(image[..., i], matrix, offset, order=1, mode="reflect") for i in range(3)]
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize(
    ("degrees", "zoom", "shift_x", "shift_y"),
    [(0, 1, 0, 0), (20, 1, 0, 0), (0, 1.3, 0, 0), (0, 1, 2, -1), (15, 0.8, 1.5, 3), (200, 3.5, -7, 20)],
)
@pytest.mark.parametrize("has_gpu", [False, True])
def test_rotation_zoom_and_shift_are_one_affine_transform(degrees, zoom, shift_x, shift_y, has_gpu, monkeypatch):
    if has_gpu:
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: ["a GPU"])
    image = np.random.default_rng(0).uniform(0, 255, (9, 9, 3)).astype(np.float32)
    values = {"angle": np.radians(degrees), "zoom": zoom, "shift_x": shift_x, "shift_y": shift_y}
    draws = {name: tf.constant([value], tf.float32) for name, value in {"flip_x": 1, "flip_y": 1, **values}.items()}
    result = RandomAffine().transform_images(tf.constant(image[None]), draws).numpy()[0]
    np.testing.assert_allclose(result, transformed_by_scipy(image, degrees, zoom, shift_x, shift_y), atol=1e-3)


def test_values_are_drawn_over_the_whole_range(monkeypatch):
    draws = [(name, n) for name in AUGMENTATION_NUMBERS for n in range(MAX_DRAWS)]
    drawn, words = [], {first_seed_word(3, *draw): draw for draw in draws}

    def recording(_shape, low, high, seed, **_):
        drawn.append((*words[int(seed.next()[0])], low, high))
        return tf.zeros(1)

    layer = RandomAffine(rotation_degrees=90.0, zoom=(-0.2, 0.1), translation=0.25)
    layer.generator = PositionSeed(3, *RandomAffine.DRAWS)
    with monkeypatch.context() as patch:
        patch.setattr(keras.random, "uniform", recording)
        layer(tf.zeros((1, 8, 8, 3)), training=True)
    assert drawn == [
        ("horizontal_flip", 0, -1.0, 1.0),
        ("vertical_flip", 0, -1.0, 1.0),
        ("rotation_degrees", 0, -np.pi / 2, np.pi / 2),
        ("zoom", 0, -0.2, 0.1),
        ("translation", 0, -2.0, 2.0),
        ("translation", 1, -2.0, 2.0),
    ]
    one_draw = RandomAffine()
    one_draw.generator = PositionSeed(3, "zoom")
    one_draw.generator.at(tf.constant(7))
    values = one_draw.uniform(tf.zeros((4000, 8, 8, 3)), -1.0, 3.0).numpy()
    assert np.histogram(values, 4, (-1, 3))[0].min() > 850


def test_flips_are_the_mirrored_image_about_half_of_the_time():
    augment = build_augmentation(NOTHING.model_copy(update={"horizontal_flip": True}), 8, seed=0)
    image = np.random.default_rng(0).uniform(0, 255, (8, 8, 3)).astype(np.float32)
    results = augment(tf.constant(np.repeat(image[None], 400, axis=0)), tf.constant(0)).numpy()
    mirrored = (results == image[:, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (results == image).all(axis=(1, 2, 3))).all()
    assert 0.4 < mirrored.mean() < 0.6  # 400 fair coins leave this range with a probability below 1e-4


def test_brightness_adds_a_share_of_the_value_range():
    augment = build_augmentation(NOTHING.model_copy(update={"brightness": (0.1, 0.2)}), 8, seed=0)
    results = augment(tf.fill((64, 8, 8, 3), 100.0), tf.constant(0)).numpy()
    added = results[:, 0, 0, 0] - 100
    assert added.min() >= 25.5 - 1e-3
    assert added.max() <= 51 + 1e-3


def test_a_brightness_factor_multiplies_and_leaves_the_other_draws_unchanged():
    images = np.repeat(np.array([[[[40.0, 80.0, 120.0]]]], np.float32).repeat(8, 1).repeat(8, 2), 64, axis=0)
    brighter = build_augmentation(NOTHING.model_copy(update={"brightness_factor": (0.8, 1.2)}), 8, seed=0)
    results = brighter(tf.constant(images), tf.constant(0)).numpy()
    factors = results[:, 0, 0, 0] / 40
    np.testing.assert_allclose(results, images * factors[:, None, None, None], rtol=1e-5)
    assert 0.8 <= factors.min() < 0.83
    assert 1.17 < factors.max() <= 1.2
    assert abs(factors.mean() - 1) < 0.045  # 3 standard deviations of the mean of 64 draws
    # Flip and brightness are independent: both mirrored and plain images are bright and dark.
    flip = NOTHING.model_copy(update={"horizontal_flip": True})
    ramp = np.repeat(np.arange(1.0, 9.0, dtype=np.float32)[None, None, :, None].repeat(8, 1).repeat(3, 3), 64, axis=0)
    plain = build_augmentation(flip, 8, seed=0)(tf.constant(ramp), tf.constant(0)).numpy()
    both = flip.model_copy(update={"brightness_factor": (0.8, 1.2)})
    mixed = build_augmentation(both, 8, seed=0)(tf.constant(ramp), tf.constant(0)).numpy()
    factors = mixed[:, 0, 0, 0] / plain[:, 0, 0, 0]
    np.testing.assert_allclose(mixed, plain * factors[:, None, None, None], rtol=1e-5)
    mirrored = plain[:, 0, 0, 0] > 4
    assert max(factors[mirrored].min(), factors[~mirrored].min()) < 0.9
    assert min(factors[mirrored].max(), factors[~mirrored].max()) > 1.1


def test_pixels_are_clipped_at_white():
    augment = build_augmentation(NOTHING.model_copy(update={"brightness_factor": (2.0, 3.0)}), 8, seed=0)
    assert augment(tf.fill((4, 8, 8, 3), 200.0), tf.constant(0)).numpy().min() == 255


def test_without_augmentation_images_pass_unchanged():
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)), tf.float32)
    np.testing.assert_array_equal(build_augmentation(NOTHING, 8, seed=0)(images, tf.constant(0)), images)


def test_a_plain_view_resumes_after_any_image_and_an_augmented_one_after_any_batch(image_folder):
    pipeline, positions = make_pipeline(image_folder), np.arange(40, 0, -1)
    random = NOTHING.model_copy(update={"rotation_degrees": 30.0})
    for view, done in ((0, 16), (0, 13), (1, 16)):  # 13: interrupted while the batch size was different
        all_images, rest = (
            np.concatenate(list(pipeline.views(positions, random, view, start).as_numpy_iterator()))
            for start in (0, done)
        )
        np.testing.assert_array_equal(rest, all_images[done:])


def test_tensorflows_accurate_jpeg_decoder_agrees_with_ours_bit_by_bit(image_folder):
    # A possible fast path for the pipeline; TensorFlow's default method differs by up to 5 levels.
    index = open_source(DatasetConfig(source="folder"), image_folder, Log())
    store = ImageStore(index, 0)
    for position in range(0, 62, 7):
        native = tf.io.decode_jpeg(index.read(position), channels=3, dct_method="INTEGER_ACCURATE")
        np.testing.assert_array_equal(native, store.image(position))
