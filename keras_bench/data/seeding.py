"""Seeds of augmentation, determined by an image's position in training.

Keras layers draw from a counter that several tf.data threads would share, so results would depend on timing and on
earlier draws. Here each draw is seeded by the run's seed, the augmentation, the epoch and the batch's position in it.
The stream is therefore reproducible and can run in parallel, a resumed training sees the images it would have seen,
and all draws are independent.
"""

import keras
import tensorflow as tf

# Numbers that enter the seeds, by configuration key. Never renumber: the same settings would produce other images.
AUGMENTATION_NUMBERS = {
    "horizontal_flip": 0,
    "vertical_flip": 1,
    "rotation_degrees": 2,
    "zoom": 3,
    "translation": 4,
    "brightness_factor": 5,
    "contrast": 6,
    "brightness": 7,
    "crop": 8,
}
MAX_AUGMENTATIONS = 16  # leaves room for new ones
MAX_DRAWS = 4  # per change and image


def first_seed_word(seed: int, change: str, draw: int) -> int:
    """Return the first of the two int32 words that seed one draw; the second identifies the batch or image.

    The word is unique to (seed, change, draw); it repeats only for seeds 2^25 apart. All words are negative, whereas
    the shuffle of an epoch uses the run's seed itself, which is not.

    Args:
        seed: the run's seed, at least 0.
        change: a key of AUGMENTATION_NUMBERS.
        draw: number of the draw within the change, from 0.

    Raises:
        ValueError: `draw` is not in [0, MAX_DRAWS).
    """
    if not 0 <= draw < MAX_DRAWS:
        raise ValueError(f"draw of {change}: expected a number from 0 to {MAX_DRAWS - 1}, received {draw}")
    slot = (seed * MAX_AUGMENTATIONS + AUGMENTATION_NUMBERS[change]) * MAX_DRAWS + draw
    return -1 - slot % (1 << 31)


class PositionSeed(keras.random.SeedGenerator):
    """Replaces a layer's `generator`: seeds each draw by a key instead of a counter.

    Args:
        seed: the run's seed, at least 0.
        changes: keys of AUGMENTATION_NUMBERS, one for each draw of the layer, in order.
    """

    def __init__(self, seed: int, *changes: str) -> None:
        super().__init__(seed=seed)
        self.start = seed
        self.changes = changes
        self.at(tf.constant(0))

    def at(self, key: tf.Tensor) -> None:
        """Begin the draws for a key, an int32 scalar that identifies a batch or image."""
        self.key = key
        self.draws = 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Return the next seed for this key, an int32 pair.

        Raises:
            ValueError: the layer draws more often than there are `changes`.
        """
        if self.draws == len(self.changes):
            raise ValueError(f"expected {len(self.changes)} draws ({', '.join(self.changes)}), received one more")
        change = self.changes[self.draws]
        word = first_seed_word(self.start, change, self.changes[: self.draws].count(change))
        self.draws += 1
        return tf.stack([tf.constant(word, tf.int32), tf.cast(self.key, tf.int32)])
