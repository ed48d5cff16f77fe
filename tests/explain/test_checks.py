"""The checks, on maps and models whose scores are known."""

from functools import partial

import keras
import numpy as np
import pytest
from scipy import stats

from keras_bench.explain.checks import (
    blurred,
    cell_means,
    curve_predictions,
    deletion_and_insertion,
    evidence_order,
    mass_in_box,
    pointing_hits,
    random_order,
    randomized,
    similarity,
)


def bright_corner(images):
    """Predict like a model whose first class is as probable as the top left quarter of the image is bright."""
    side = images.shape[1] // 2
    share = images[:, :side, :side].mean(axis=(1, 2, 3)) / 255
    return np.stack([share, 1 - share], axis=1)


def areas(images, background, order, classes, steps):
    """Return the areas of one order's curves."""
    predict = partial(map, bright_corner)
    return deletion_and_insertion(predict, images, background, {"order": order}, classes, steps)["order"]


def test_cell_means_by_hand():
    maps = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    assert cell_means(maps, 2).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    uneven = cell_means(np.ones((1, 5, 5), np.float32), 2)
    assert uneven.tolist() == [[[1, 1], [1, 1]]]


def test_a_true_map_deletes_fast_and_inserts_fast():
    images = np.zeros((1, 8, 8, 3), np.float32)
    images[:, :4, :4] = 255
    background = np.zeros_like(images)
    truth = images.mean(axis=-1)
    classes = np.array([0])
    # Four portions of four cells; the first portion is the whole bright quarter.
    deletion, insertion = areas(images, background, evidence_order(truth, 4), classes, 4)
    assert deletion[0] == pytest.approx((1 / 2 + 0 + 0 + 0) / 4)
    assert insertion[0] == pytest.approx((1 / 2 + 1 + 1 + 1) / 4)
    wrong = evidence_order(255 - truth, 4)
    deletion, insertion = areas(images, background, wrong, classes, 4)
    assert deletion[0] == pytest.approx((1 + 1 + 1 + 1 / 2) / 4)
    assert insertion[0] == pytest.approx((0 + 0 + 0 + 1 / 2) / 4)


def test_random_orders_average_to_one_half_and_differ_between_images():
    images = np.zeros((400, 8, 8, 3), np.float32)
    images[:, :4, :4] = 255
    order = random_order(400, 4, seed=0)
    assert (np.sort(order, axis=1) == np.arange(16)).all()
    assert len(np.unique(order, axis=0)) == 400
    deletion, insertion = areas(images, np.zeros_like(images), order, np.zeros(400, int), 16)
    assert deletion.mean() == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(deletion + insertion, 1)
    assert np.array_equal(order, random_order(400, 4, seed=0))


def test_all_orders_are_mixed_into_full_batches_and_the_ends_of_their_curves_predicted_once():
    generator = np.random.default_rng(0)
    images, background = generator.integers(0, 256, (2, 37, 12, 12, 3)).astype(np.float32)
    classes = generator.integers(0, 3, 37)
    orders = {name: random_order(37, 6, seed) for seed, name in enumerate("ab")}
    weights = generator.normal(size=(12 * 12 * 3, 3)) / 1000
    sizes, counts = [], []

    def probabilities(batch):
        sizes.append(len(batch))
        scores = np.exp(batch.reshape(len(batch), -1) @ weights)
        return scores / scores.sum(axis=1, keepdims=True)

    computed = deletion_and_insertion(
        partial(map, probabilities), images, background, orders, classes, 5, counts.append
    )
    assert sum(sizes) == sum(counts) == curve_predictions(37, 5, 2) == 2 * 37 * (1 + 2 * 4)
    assert set(sizes) == {32, 10}  # 16 + 16 + 5 images, each once for deletion and once for insertion
    cell = np.arange(12) // 2
    for name, order in orders.items():
        curves = np.empty((2, 6, 37))
        for image in range(37):
            for step, portion in enumerate((0, 7, 14, 22, 29, 36)):
                removed = np.isin(np.arange(36), order[image, :portion]).reshape(6, 6)[cell][:, cell][..., None]
                for kind, pair in enumerate(((background, images), (images, background))):
                    mixed = np.where(removed, pair[0][image], pair[1][image])
                    curves[kind, step, image] = probabilities(mixed[None])[0, classes[image]]
        share = np.array([0, 7, 14, 22, 29, 36]) / 36
        np.testing.assert_allclose(computed[name], np.trapezoid(curves, share, axis=1), rtol=1e-12)


def test_blurring_keeps_the_mean_and_removes_the_detail():
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3)).astype(np.float32)
    background = blurred(images)
    np.testing.assert_allclose(background.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=4)
    assert background.std() < images.std() / 5


def test_similarity_is_spearmans_over_cells():
    generator = np.random.default_rng(0)
    maps, others = generator.random((2, 5, 12, 12)).astype(np.float32)
    expected = [
        stats.spearmanr(a.ravel(), b.ravel()).statistic
        for a, b in zip(cell_means(maps, 4), cell_means(others, 4), strict=True)
    ]
    np.testing.assert_allclose(similarity(maps, others, 4), expected)
    np.testing.assert_allclose(similarity(maps, maps * 3, 4), 1)
    assert similarity(maps, np.zeros_like(maps), 4).tolist() == [0.0] * 5


def small_model(seed):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0] * 3)(image)
    x = keras.layers.Conv2D(4, 3)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(image, keras.layers.Dense(2, name="head_probabilities")(x))


def test_weights_are_randomised_in_two_steps_and_restored_afterwards():
    model, fresh = small_model(0), small_model(1)
    before = model.get_weights()
    changed = {}
    for with_backbone in (False, True):
        with randomized(model, fresh, "head_", with_backbone):
            now = model.get_weights()
            changed[with_backbone] = [
                weight.name for weight, a, b in zip(model.weights, before, now, strict=True) if not np.array_equal(a, b)
            ]
    assert changed == {False: ["kernel"], True: ["kernel", "kernel"]}  # biases and BatchNorm start equal
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    with pytest.raises(RuntimeError), randomized(model, fresh, "head_", True):
        raise RuntimeError
    np.testing.assert_array_equal(model.get_weights()[-2], before[-2])


def test_pointing_takes_the_centre_of_the_strongest_cell():
    maps = np.zeros((4, 4, 4), np.float32)
    maps[:, 1, 2] = 1  # its centre lies at x = 2.5 / 4, y = 1.5 / 4
    boxes = np.array([[0.5, 0.25, 0.75, 0.5], [0.0, 0.0, 0.625, 1.0], [0.0, 0.0, 0.63, 1.0], [np.nan] * 4])
    assert pointing_hits(maps, boxes) == [1.0, 0.0, 1.0, None]
    maps[0] = 0  # no evidence: the first cell counts
    assert pointing_hits(maps[:1], np.array([[0.0, 0.0, 0.2, 0.2]])) == [1.0]


def test_mass_in_the_box_by_hand():
    maps = np.ones((3, 4, 4), np.float32)
    maps[1] = 0
    maps[2, 0, 0] = 16
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.25], [0.0, 0.0, 0.25, 0.25]])
    assert mass_in_box(maps, boxes) == pytest.approx([4 / 16, 2 / 16, 16 / 31])
    assert mass_in_box(maps[:1], np.array([[np.nan] * 4])) == [None]
