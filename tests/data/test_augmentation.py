"""The draws of each augmentation, inferred from the resulting pixels: they span their ranges and are independent."""

import itertools
from functools import cache

import numpy as np
import pytest
import tensorflow as tf

from keras_bench.config import AugmentationConfig
from keras_bench.data.augmentation import build_augmentation
from keras_bench.data.seeding import AUGMENTATION_NUMBERS, MAX_AUGMENTATIONS, MAX_DRAWS, PositionSeed, first_seed_word

NOTHING = {"horizontal_flip": False, "rotation_degrees": 0, "zoom": (0, 0), "translation": 0}
SIDE, MIDDLE, SLOPE = 17, 8, 5.0
BATCH, BATCHES, SEEDS = 512, 4, (0, 1, 2, 3)

# Red rises from left to right, green from top to bottom, both are 100 in the middle: the pixels around the middle
# reveal an affine transform. Blue is 100 everywhere.
RAMP = SLOPE * (np.arange(SIDE) - MIDDLE)
IMAGE = np.full((SIDE, SIDE, 3), 100.0, np.float32)
IMAGE[..., 0] += RAMP[None, :]
IMAGE[..., 1] += RAMP[:, None]


def augmented(settings, seed):
    """Return BATCH · BATCHES augmented copies of IMAGE, each batch with its own key."""
    augment = tf.function(build_augmentation(AugmentationConfig(**{**NOTHING, **settings}), SIDE, seed))
    copies = tf.constant(np.repeat(IMAGE[None], BATCH, axis=0))
    return np.concatenate([augment(copies, tf.constant(key)).numpy() for key in range(BATCHES)]).astype(np.float64)


def slope(images, channel, row_step, column_step):
    """Return by how much a channel grows from the middle pixel to a neighbour, in pixels of the original."""
    return (images[:, MIDDLE + row_step, MIDDLE + column_step, channel] - images[:, MIDDLE, MIDDLE, channel]) / SLOPE


def middle_offset(images, channel):
    """Return the position in the original that the middle pixel shows, in pixels from the original's middle."""
    return (images[:, MIDDLE, MIDDLE, channel] - 100) / SLOPE


def contrast_factor(images):
    return slope(images, 0, 0, 1)  # each channel's mean is 100, which contrast preserves


def window_start(images, channel):
    # A window of 10 pixels is enlarged to 17: its middle is position 4.5 of the window.
    return middle_offset(images, channel) + MIDDLE - 4.5


# (configuration, function that infers the drawn value from the images, lowest, highest)
DRAWS = {
    "horizontal flip": ({"horizontal_flip": True}, lambda images: slope(images, 0, 0, 1), -1, 1),
    "vertical flip": ({"vertical_flip": True}, lambda images: slope(images, 1, 1, 0), -1, 1),
    "rotation": (
        {"rotation_degrees": 20.0},
        lambda images: np.degrees(np.arctan2(slope(images, 1, 0, 1), slope(images, 0, 0, 1))),
        -20,
        20,
    ),
    "zoom": ({"zoom": (-0.3, 0.1)}, lambda images: slope(images, 0, 0, 1) - 1, -0.3, 0.1),
    "shift across": ({"translation": 0.2}, lambda images: -middle_offset(images, 0) / SIDE, -0.2, 0.2),
    "shift down": ({"translation": 0.2}, lambda images: -middle_offset(images, 1) / SIDE, -0.2, 0.2),
    "contrast": ({"contrast": 0.5}, contrast_factor, 0.5, 1.5),
    "brightness": ({"brightness": (-0.2, 0.3)}, lambda images: (images[:, 0, 0, 2] - 100) / 255, -0.2, 0.3),
    "brightness factor": ({"brightness_factor": (0.6, 1.4)}, lambda images: images[:, 0, 0, 2] / 100, 0.6, 1.4),
    "crop across": ({"crop": 0.6}, lambda images: window_start(images, 0), 0, 7),
    "crop down": ({"crop": 0.6}, lambda images: window_start(images, 1), 0, 7),
}


@pytest.fixture(scope="module")
def drawn():
    """The value of every draw for each image, (seed, draw) → float64 (BATCH · BATCHES,)."""
    augmented_once = cache(lambda key, value, seed: augmented({key: value}, seed))
    values = {}
    for seed, (name, (settings, infer, *_)) in itertools.product(SEEDS, DRAWS.items()):
        (setting,) = settings.items()
        values[seed, name] = infer(augmented_once(*setting, seed))
    return values


@pytest.mark.parametrize("name", DRAWS)
def test_values_reach_both_ends_of_their_range_and_do_not_exceed_them(drawn, name):
    _, _, low, high = DRAWS[name]
    values = np.concatenate([drawn[seed, name] for seed in SEEDS])
    rounding = 1e-4 * (high - low)
    assert low - rounding <= values.min() <= low + 0.005 * (high - low)
    assert high - 0.005 * (high - low) <= values.max() <= high + rounding
    # Uniform: the outer eighths of the range hold an eighth of the draws each; of a flip's two values each has half.
    share = 0.5 if "flip" in name else 0.125
    end_shares = [(values < low + (high - low) / 8).mean(), (values > high - (high - low) / 8).mean()]
    assert end_shares == pytest.approx([share, share], abs=5 * np.sqrt(share / len(values)))


def test_draws_are_uncorrelated(drawn):
    """The correlation of n independent pairs has standard deviation 1/√n: none of the 946 may exceed 5 times that."""
    names = list(drawn)
    correlations = np.corrcoef(np.stack([drawn[name] for name in names]))
    outliers = {
        (names[i], names[j]): round(correlations[i, j], 3)
        for i, j in itertools.combinations(range(len(names)), 2)
        if not abs(correlations[i, j]) < 5 / np.sqrt(BATCH * BATCHES)
    }
    assert not outliers


def test_every_change_has_a_unique_number():
    assert set(AUGMENTATION_NUMBERS) == set(AugmentationConfig.model_fields)
    assert len(set(AUGMENTATION_NUMBERS.values())) == len(AUGMENTATION_NUMBERS)
    assert max(AUGMENTATION_NUMBERS.values()) < MAX_AUGMENTATIONS


def test_every_random_draw_has_a_unique_seed_word(monkeypatch):
    everything = AugmentationConfig(
        vertical_flip=True, contrast=0.2, brightness=(-0.1, 0.1), brightness_factor=(0.8, 1.2), crop=0.8
    )
    words, uniform = [], tf.random.stateless_uniform

    def recording(shape, seed, *arguments, **others):
        words.append(int(seed[0]))
        return uniform(shape, seed, *arguments, **others)

    monkeypatch.setattr(tf.random, "stateless_uniform", recording)
    for seed in SEEDS:  # a single image, so each draw is made once
        build_augmentation(everything, SIDE, seed)(tf.constant(IMAGE[None]), tf.constant(0))
    assert len(words) == len(set(words)) == len(DRAWS) * len(SEEDS)
    assert max(words) < 0  # an epoch's shuffle is seeded by the run's seed


def test_seed_words_are_distinct_within_a_seed_and_across_seeds_and_fit_int32():
    combinations = list(itertools.product((0, 1, 2, 3, 41, 2**25 - 1), AUGMENTATION_NUMBERS, range(MAX_DRAWS)))
    words = {first_seed_word(*combination) for combination in combinations}
    assert len(words) == len(combinations)
    assert min(words) >= -(2**31)
    assert max(words) < 0
    assert -(2**31) <= first_seed_word(10**12, "crop", 0) < 0
    assert first_seed_word(0, "horizontal_flip", 0) == -1
    assert first_seed_word(2, "crop", 1) == -(2 * 64 + 8 * 4 + 1) - 1


def test_a_change_that_draws_too_often_is_refused():
    with pytest.raises(ValueError, match="draw of crop: expected a number from 0 to 3, received 4"):
        first_seed_word(0, "crop", 4)


def test_a_layer_that_draws_more_often_than_announced_is_refused():
    generator = PositionSeed(2, "crop", "crop")
    generator.at(tf.constant(7))
    pairs = [generator.next().numpy().tolist() for _ in range(2)]
    assert pairs == [[first_seed_word(2, "crop", 0), 7], [first_seed_word(2, "crop", 1), 7]]
    with pytest.raises(ValueError, match=r"expected 2 draws \(crop, crop\), received one more"):
        generator.next()
