"""Whether explanation maps can be believed: deletion, insertion, object boxes, randomised weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
from scipy import ndimage, stats

BLUR = 1 / 10  # deviation of the blur that stands for "nothing there", as a share of the image's side

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
    """Return an order of the cells for each image, drawn by chance, int64, (images, cells²)."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(cells * cells) for _ in range(images)])


def evidence_order(maps: np.ndarray, cells: int) -> np.ndarray:
    """Return each map's cells, most evidence first, int64, (N, cells²)."""
    return np.argsort(-cell_means(maps, cells).reshape(len(maps), -1), axis=1, kind="stable")


def blurred(images: np.ndarray) -> np.ndarray:
    """Return images without detail, float32, shape as given.

    A blurred image stays near those the network knows; gray or black squares would be edges of their own, and the
    prediction would fall because of them (Petsiuk et al. 2018 insert into a blurred image for that reason). The same
    background serves deletion, so that both curves run between the same two images.
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

    Deletion replaces cells by the background in the given order, insertion puts them onto the background; the curve
    is the probability of the explained class over the share of cells, its area by the trapezoid rule. All methods
    and the random map remove squares of the same size, which makes their areas comparable.

    Args:
        predict: float32 images (N, side, side, 3) to probabilities (N, K).
        images: float32, (N, side, side, 3).
        background: the same images without detail.
        order: int64, (N, cells²), which cell goes first.
        classes: int64, (N,), explained for each.
        steps: equal portions in which cells go.
        advance: told how many images were just predicted.

    Returns:
        two arrays, float64, (N,), in [0, 1].
    """
    cells = round(order.shape[1] ** 0.5)
    portions = np.linspace(0, cells * cells, steps + 1).round().astype(int)
    rank = np.argsort(order, axis=1).reshape(len(images), cells, cells)
    row = np.searchsorted(_edges(images.shape[1], cells), np.arange(images.shape[1]), side="right") - 1
    pixel_rank = rank[:, row][:, :, row]
    curves = np.empty((2, steps + 1, len(images)))
    for place, portion in enumerate(portions):
        gone = (pixel_rank < portion)[..., None]
        for kind, mixed in enumerate((np.where(gone, background, images), np.where(gone, images, background))):
            curves[kind, place] = predict(mixed)[np.arange(len(images)), classes]
            advance(len(images))
    deletion, insertion = np.trapezoid(curves, portions / portions[-1], axis=1)
    return deletion, insertion


def similarity(maps: np.ndarray, others: np.ndarray, cells: int) -> np.ndarray:
    """Return Spearman's rank correlation of two maps of each image over their cells, float64, (N,).

    A map that is the same everywhere orders nothing: its correlation is set to 0.
    """
    grids = (cell_means(maps, cells), cell_means(others, cells))
    values = []
    for one, other in zip(*grids, strict=True):
        flat = np.ptp(one) == 0 or np.ptp(other) == 0
        values.append(0.0 if flat else float(stats.spearmanr(one.ravel(), other.ravel()).statistic))
    return np.array(values)


@contextmanager
def randomized(model: keras.Model, fresh: keras.Model, head: str, with_backbone: bool) -> Iterator[None]:
    """Give the model random weights for a while, the head's, or the head's and the backbone's.

    The cascade of Adebayo et al. ("Sanity Checks for Saliency Maps", 2018) in two steps. BatchNorm layers get the
    statistics of a new model too (mean 0, variance 1): trained statistics of features that are gone mean nothing.

    Args:
        model: its weights are put back at the end.
        fresh: the same architecture, newly initialised.
        head: what the names of the head's layers start with.
        with_backbone: randomise the backbone as well.
    """
    kept = model.get_weights()
    try:
        for layer, new in zip(model.layers, fresh.layers, strict=True):
            is_constant = isinstance(layer, keras.layers.Normalization)
            if (with_backbone or layer.name.startswith(head)) and not is_constant:
                layer.set_weights(new.get_weights())
        yield
    finally:
        model.set_weights(kept)


def pointing(maps: np.ndarray, boxes: np.ndarray) -> list[float | None]:
    """Return for each map whether its maximum lies in the box (Zhang et al. 2016): 1.0, 0.0, or None without a box.

    Args:
        maps: float32, (N, height, width) at the method's own resolution: the centre of the strongest cell counts, of
            equal ones the first.
        boxes: float, (N, 4), left, top, right, bottom as shares of the sides; NaN where unknown.
    """
    found: list[float | None] = []
    for heat, (left, top, right, bottom) in zip(maps, boxes, strict=True):
        if np.isnan((left, top, right, bottom)).any():
            found.append(None)
            continue
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        x, y = (column + 0.5) / heat.shape[1], (row + 0.5) / heat.shape[0]
        found.append(float(left <= x < right and top <= y < bottom))
    return found


def mass_in_box(maps: np.ndarray, boxes: np.ndarray) -> list[float | None]:
    """Return the share of each map's sum inside its box, counting pixels by their centres; None without a box.

    A map of zeros has no mass anywhere; it counts as spread evenly, so it gets the box's share of the pixels.
    """
    found: list[float | None] = []
    side = maps.shape[1]
    centres = np.arange(side) + 0.5
    for heat, box in zip(maps, boxes, strict=True):
        if np.isnan(box).any():
            found.append(None)
            continue
        left, top, right, bottom = box * side
        across = (left <= centres) & (centres < right)
        down = (top <= centres) & (centres < bottom)
        weights = heat if heat.sum() > 0 else np.ones_like(heat)
        found.append(float(weights[np.ix_(down, across)].sum() / weights.sum()))
    return found
