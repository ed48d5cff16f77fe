"""Seeds of random changes to images, which depend on where an image stands in training.

Keras layers draw from a counter that several tf.data threads would share, so results would depend on timing and on
what ran before. Here each draw is seeded by the run's seed, the change, the epoch and the batch's place in it: the
stream is reproducible, can run in parallel, an interrupted training continues with the images it would have seen, and
no draw says anything about another.
"""

import keras
import tensorflow as tf

# Each change's number in the seeds of its draws, by its key in the configuration. Never renumber: images would differ.
CHANGES = {
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
MOST_CHANGES = 16  # room for new ones
MOST_DRAWS = 4  # per change and image


def first_seed_word(seed: int, change: str, draw: int) -> int:
    """Return the first of the two int32 words that seed one draw; the second says which batch or image it is for.

    Every (seed, change, draw) has a word of its own; words come round again only for seeds that are 2^25 apart. All
    are below 0, while the shuffle of an epoch takes the run's seed itself, which is 0 or more.

    Args:
        seed: the run's, at least 0.
        change: a key of CHANGES.
        draw: which of the change's draws, from 0.

    Raises:
        ValueError: the change has no room for so many draws.
    """
    if not 0 <= draw < MOST_DRAWS:
        raise ValueError(f"draw of {change}: expected a number from 0 to {MOST_DRAWS - 1}, received {draw}")
    slot = (seed * MOST_CHANGES + CHANGES[change]) * MOST_DRAWS + draw
    return -1 - slot % (1 << 31)


class PositionSeed(keras.random.SeedGenerator):
    """Gives a layer the seeds of its draws for one key, instead of a counter; put it in the layer's `generator`.

    Args:
        seed: the run's, at least 0.
        changes: keys of CHANGES, the change of each draw in the order in which the layer makes them.
    """

    def __init__(self, seed: int, *changes: str) -> None:
        super().__init__(seed=seed)
        self.start = seed
        self.changes = changes
        self.at(tf.constant(0))

    def at(self, key: tf.Tensor) -> None:
        """Begin the draws for a key, an int32 scalar that says which batch or image they are for."""
        self.key = key
        self.draws = 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Return the next int32 pair for this key.

        Raises:
            ValueError: the layer draws more often than `changes` says.
        """
        if self.draws == len(self.changes):
            raise ValueError(f"expected {len(self.changes)} draws ({', '.join(self.changes)}), received one more")
        change = self.changes[self.draws]
        word = first_seed_word(self.start, change, self.changes[: self.draws].count(change))
        self.draws += 1
        return tf.stack([tf.constant(word, tf.int32), tf.cast(self.key, tf.int32)])
