"""Makes up for classes of different sizes by choosing which training images an epoch holds. No TensorFlow."""

import numpy as np


def epoch_rows(labels: np.ndarray, imbalance: str, seed: int) -> np.ndarray:
    """Return which training images an epoch holds, each as often as it is named.

    undersample: of each class as many as the smallest has, drawn once, so that every epoch holds the same ones.
    oversample: of each class as many as the largest has: all of its images the same number of times, and as many
    different ones more as are missing. Any other way leaves the images as they are.

    Args:
        labels: int64, (N,), of the training images.
        imbalance: training.imbalance.
        seed: of the draw.

    Returns:
        int64, (M,), positions in `labels`, ascending.
    """
    if imbalance not in ("undersample", "oversample"):
        return np.arange(len(labels))
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    sizes = [len(rows) for rows in members]
    wanted = min(sizes) if imbalance == "undersample" else max(sizes)
    rows = []
    for k, all_rows in enumerate(members):
        rows += [all_rows] * (wanted // len(all_rows))
        rows.append(np.random.default_rng([seed, k]).permutation(all_rows)[: wanted % len(all_rows)])
    return np.sort(np.concatenate(rows))
