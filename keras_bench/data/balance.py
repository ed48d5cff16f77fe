"""Balances classes of different sizes by under- or oversampling the images of an epoch. No TensorFlow."""

import numpy as np


def epoch_rows(labels: np.ndarray, imbalance: str, seed: int) -> np.ndarray:
    """Return the training images of an epoch, repeated ones included.

    "undersample" draws as many images of each class as the smallest class has, once, so every epoch holds the same
    images. "oversample" fills each class up to the size of the largest: every image is repeated equally often, and the
    remainder is drawn without replacement. With any other value the epoch holds each image once.

    Args:
        labels: int64, (N,), labels of the training images.
        imbalance: the value of training.imbalance.
        seed: seed of the draw.

    Returns:
        int64, (M,), positions in `labels`, ascending.
    """
    if imbalance not in ("undersample", "oversample"):
        return np.arange(len(labels))
    rows_by_class = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    sizes = [len(class_rows) for class_rows in rows_by_class]
    target = min(sizes) if imbalance == "undersample" else max(sizes)
    rows = []
    for k, class_rows in enumerate(rows_by_class):
        rows += [class_rows] * (target // len(class_rows))
        rows.append(np.random.default_rng([seed, k]).permutation(class_rows)[: target % len(class_rows)])
    return np.sort(np.concatenate(rows))
