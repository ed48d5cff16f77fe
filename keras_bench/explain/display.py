"""The images and maps that the report shows, reduced to a small file."""

import numpy as np

from keras_bench.explain.checks import cell_means
from keras_bench.explain.records import Explanations

IMAGE_SIDE, MAP_SIDE = 128, 64  # largest side of the images and maps kept, pixels
SALIENCY_TOP = 99  # percentile that is shown brightest, so that a single pixel does not darken the rest


def explanations_to_show(
    ids: np.ndarray, images: np.ndarray, predicted: np.ndarray, maps: dict[str, np.ndarray]
) -> Explanations:
    """Return the content of explanations.npz.

    Args:
        ids: path of each image inside the data set, str, (N,).
        images: float32, (N, side, side, 3), RGB in [0, 255].
        predicted: the explained class of each image, int64, (N,).
        maps: maps of each method, enlarged to the images, float32, (N, side, side).
    """
    images = _reduced(images, IMAGE_SIDE).round().clip(0, 255).astype(np.uint8)
    display_maps = {method: _for_display(method, values) for method, values in maps.items()}
    return Explanations(ids, images, display_maps, predicted)


def _for_display(method: str, maps: np.ndarray) -> np.ndarray:
    """Return the maps reduced, each scaled to [0, 255] by its own strongest evidence, uint8."""
    small = _reduced(maps[..., None], MAP_SIDE)[..., 0]
    percentile = SALIENCY_TOP if method in ("saliency", "smoothgrad") else 100
    top = np.percentile(small, percentile, axis=(1, 2), keepdims=True)
    return (255 * np.clip(small / np.where(top > 0, top, 1), 0, 1)).round().astype(np.uint8)


def _reduced(images: np.ndarray, side: int) -> np.ndarray:
    """Return the images averaged down to at most `side` pixels per side, float64, (N, side, side, channels)."""
    if images.shape[1] <= side:
        return images.astype(np.float64)
    return np.stack([cell_means(images[..., k], side) for k in range(images.shape[-1])], axis=-1)
