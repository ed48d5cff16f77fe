"""Checks of whether explanation maps can be trusted: deletion, insertion, object boxes, randomised weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
from scipy import ndimage, stats

BLUR = 1 / 10  # standard deviation of the blur that stands for missing evidence, as a share of the image's side

Predict = Callable[[np.ndarray], np.ndarray]


def cell_means(maps: np.ndarray, cells: int) -> np.ndarray:
    """Return the mean of each map over a grid of squares, float64, (N, cells, cells)."""
    edges = _edges(maps.shape[1], cells)[:-1]
    sums = np.add.reduceat(np.add.reduceat(maps.astype(np.float64), edges, axis=1), edges, axis=2)
    heights = np.diff(_edges(maps.shape[1], cells))
    return sums / (heights[:, None] * heights[None, :])


def _edges(side: int, cells: int) -> np.ndarray:
    return np.linspace(0, side, cells + 1).round().astype(int)


def random_order(images: int, cells: int, seed: int) -> np.ndarray:
    """Return a random order of the cells for each image, int64, (images, cells²)."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(cells * cells) for _ in range(images)])


def evidence_order(maps: np.ndarray, cells: int) -> np.ndarray:
    """Return the cells of each map, those with the most evidence first, int64, (N, cells²)."""
    return np.argsort(-cell_means(maps, cells).reshape(len(maps), -1), axis=1, kind="stable")


def blurred(images: np.ndarray) -> np.ndarray:
    """Return the images without detail, float32, of the same shape.

    A blurred image resembles those the network was trained on; gray or black squares would add edges, and these alone
    would lower the probability (Petsiuk et al. 2018 insert into a blurred image for that reason). Deletion uses the
    same background, so both curves run between the same two images.
    """
    deviation = images.shape[1] * BLUR
    return np.asarray(ndimage.gaussian_filter(images, (0, deviation, deviation, 0)), dtype=np.float32)


def deletion_and_insertion(
    predict: Predict,
    images: np.ndarray,
    background: np.ndarray,
    order: np.ndarray,
    classes: np.ndarray,
    steps: int,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the areas under the deletion and the insertion curve of each image (Petsiuk et al., "RISE", 2018).

    Deletion replaces cells by the background in the given order, insertion pastes them onto the background. The curve
    is the probability of the explained class over the share of cells, its area by the trapezoid rule. All methods
    and the random map remove squares of the same size, so their areas can be compared.

    Args:
        predict: function from images, float32 (N, side, side, 3), to probabilities (N, K).
        images: float32, (N, side, side, 3).
        background: the same images without detail.
        order: cells of each image in the order of their removal, int64, (N, cells²).
        classes: the explained class of each image, int64, (N,).
        steps: number of equal portions in which cells are removed.
        advance: called with the number of images just predicted.

    Returns:
        two arrays, float64, (N,), in [0, 1].
    """
    cells = round(order.shape[1] ** 0.5)
    portions = np.linspace(0, cells * cells, steps + 1).round().astype(int)
    rank = np.argsort(order, axis=1).reshape(len(images), cells, cells)
    row = np.searchsorted(_edges(images.shape[1], cells), np.arange(images.shape[1]), side="right") - 1
    pixel_rank = rank[:, row][:, :, row]
    curves = np.empty((2, steps + 1, len(images)))
    for step, portion in enumerate(portions):
        removed = (pixel_rank < portion)[..., None]
        for kind, mixed in enumerate((np.where(removed, background, images), np.where(removed, images, background))):
            curves[kind, step] = predict(mixed)[np.arange(len(images)), classes]
            advance(len(images))
    deletion, insertion = np.trapezoid(curves, portions / portions[-1], axis=1)
    return deletion, insertion


def similarity(maps: np.ndarray, others: np.ndarray, cells: int) -> np.ndarray:
    """Return Spearman's rank correlation of two maps of each image over their cells, float64, (N,).

    A constant map ranks nothing: its correlation is set to 0.
    """
    grids = (cell_means(maps, cells), cell_means(others, cells))
    correlations = []
    for grid, other in zip(*grids, strict=True):
        is_constant = np.ptp(grid) == 0 or np.ptp(other) == 0
        correlations.append(0.0 if is_constant else float(stats.spearmanr(grid.ravel(), other.ravel()).statistic))
    return np.array(correlations)


@contextmanager
def randomized(model: keras.Model, fresh: keras.Model, head: str, with_backbone: bool) -> Iterator[None]:
    """Give the model random weights inside the block, in its head or in head and backbone.

    These are two steps of the cascade by Adebayo et al. ("Sanity Checks for Saliency Maps", 2018). BatchNorm layers
    also get the statistics of a new model (mean 0, variance 1), since statistics of features that no longer exist are
    meaningless.

    Args:
        model: the model, whose weights are restored afterwards.
        fresh: a newly initialised model of the same architecture.
        head: prefix of the names of the head's layers.
        with_backbone: randomise the backbone as well.
    """
    trained_weights = model.get_weights()
    try:
        for layer, new in zip(model.layers, fresh.layers, strict=True):
            is_constant = isinstance(layer, keras.layers.Normalization)
            if (with_backbone or layer.name.startswith(head)) and not is_constant:
                layer.set_weights(new.get_weights())
        yield
    finally:
        model.set_weights(trained_weights)


def pointing_hits(maps: np.ndarray, boxes: np.ndarray) -> list[float | None]:
    """Return whether the maximum of each map lies in its box (Zhang et al. 2016): 1.0, 0.0, or None without a box.

    Args:
        maps: float32, (N, height, width), at the method's own resolution; the maximum is at the centre of the strongest
            cell, or of the first of several equal ones.
        boxes: float, (N, 4): left, top, right, bottom as shares of the sides; NaN if unknown.
    """
    hits: list[float | None] = []
    for heat, (left, top, right, bottom) in zip(maps, boxes, strict=True):
        if np.isnan((left, top, right, bottom)).any():
            hits.append(None)
            continue
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        x, y = (column + 0.5) / heat.shape[1], (row + 0.5) / heat.shape[0]
        hits.append(float(left <= x < right and top <= y < bottom))
    return hits


def mass_in_box(maps: np.ndarray, boxes: np.ndarray) -> list[float | None]:
    """Return the share of each map's sum inside its box, counting pixels by their centres; None without a box.

    A map of zeros has no mass; it counts as uniform, so its share is that of the pixels in the box.
    """
    shares: list[float | None] = []
    side = maps.shape[1]
    centres = np.arange(side) + 0.5
    for heat, box in zip(maps, boxes, strict=True):
        if np.isnan(box).any():
            shares.append(None)
            continue
        left, top, right, bottom = box * side
        columns = (left <= centres) & (centres < right)
        rows = (top <= centres) & (centres < bottom)
        weights = heat if heat.sum() > 0 else np.ones_like(heat)
        shares.append(float(weights[np.ix_(rows, columns)].sum() / weights.sum()))
    return shares
