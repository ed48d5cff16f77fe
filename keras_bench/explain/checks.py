"""Checks of whether explanation maps can be trusted: deletion, insertion, object boxes, randomised weights."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import keras
import numpy as np
from scipy import ndimage, stats

BLUR = 1 / 10  # standard deviation of the blur that stands for missing evidence, as a share of the image's side

IMAGES_PER_BATCH = 16  # each once for deletion and once for insertion

Predict = Callable[[Iterable[np.ndarray]], Iterable[np.ndarray]]


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
    orders: Mapping[str, np.ndarray],
    classes: np.ndarray,
    steps: int,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the areas under the deletion and insertion curves of each image and order (Petsiuk et al., "RISE", 2018).

    Deletion replaces cells by the background in the given order, insertion pastes them onto the background. The curve
    is the probability of the explained class over the share of cells, its area by the trapezoid rule. All methods
    and the random map remove squares of the same size, so their areas can be compared. All curves of an image run
    between the same two ends, the image and its background, which are therefore predicted only once.

    Args:
        predict: function from batches of images, float32 (batch, side, side, 3), to the probabilities (batch, K) of
            each batch.
        images: float32, (N, side, side, 3).
        background: the same images without detail.
        orders: cells of each image in the order of their removal, int64, (N, cells²), by the name of the order.
        classes: the explained class of each image, int64, (N,).
        steps: number of equal portions in which cells are removed.
        advance: called with the number of images just predicted, of `curve_predictions` in all.

    Returns:
        by the name of the order, the areas of deletion and of insertion, float64, (N,), in [0, 1].
    """
    cells = round(next(iter(orders.values())).shape[1] ** 0.5)
    portions = np.linspace(0, cells * cells, steps + 1).round().astype(int)
    curves = {name: np.empty((2, steps + 1, len(images))) for name in orders}
    points = list(_points(len(images), steps, list(orders)))
    batches = (_mixed(images, background, orders[name], rows, portions[step]) for rows, step, name in points)
    for (rows, step, name), probabilities in zip(points, predict(batches), strict=True):
        pair = probabilities[np.arange(len(probabilities)), np.tile(classes[rows], 2)].reshape(2, -1)
        if step == 0:  # the ends of all curves
            for curve in curves.values():
                curve[:, 0, rows], curve[:, steps, rows] = pair, pair[::-1]
        else:
            curves[name][:, step, rows] = pair
        advance(len(probabilities))
    areas = {name: np.trapezoid(curve, portions / portions[-1], axis=1) for name, curve in curves.items()}
    return {name: (deletion, insertion) for name, (deletion, insertion) in areas.items()}


def curve_predictions(images: int, steps: int, orders: int) -> int:
    """Return how many predictions `deletion_and_insertion` makes."""
    return 2 * images * (1 + orders * (steps - 1))


def _points(images: int, steps: int, names: Sequence[str]) -> Iterator[tuple[slice, int, str]]:
    """Yield the rows, the step and the order of each batch: deletion and insertion of up to 16 images.

    Step 0, with nothing removed and nothing inserted, is the same for all orders and comes once.
    """
    for start in range(0, images, IMAGES_PER_BATCH):
        rows = slice(start, min(start + IMAGES_PER_BATCH, images))
        yield rows, 0, names[0]
        for name in names:
            for step in range(1, steps):
                yield rows, step, name


def _mixed(images: np.ndarray, background: np.ndarray, order: np.ndarray, rows: slice, portion: int) -> np.ndarray:
    """Return some images with the first cells of the order removed, then with only these cells inserted."""
    images, background, order = images[rows], background[rows], order[rows]
    cells, side = round(order.shape[1] ** 0.5), images.shape[1]
    rank = np.argsort(order, axis=1).reshape(len(images), cells, cells)
    cell_of_pixel = np.searchsorted(_edges(side, cells), np.arange(side), side="right") - 1
    removed = (rank < portion)[:, cell_of_pixel][:, :, cell_of_pixel, None]
    return np.concatenate([np.where(removed, background, images), np.where(removed, images, background)])


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
