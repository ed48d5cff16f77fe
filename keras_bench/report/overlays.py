"""Explanation maps drawn over their images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

from keras_bench.pages.text import plain, shorten
from keras_bench.report.comparison import ExplainedImage

COLORMAP = "inferno"  # brightness rises evenly, in gray print and for colour-blind readers too
OPACITY = 0.6


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return the map as colours over the image in gray, so no colour of the image can be mistaken for evidence.

    Args:
        image: uint8, (side, side, 3).
        heat: uint8, (map side, map side), 255 where there is most evidence.

    Returns:
        uint8, (side, side, 3).
    """
    height, width = image.shape[:2]
    enlarged = np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))
    colors = colormaps[COLORMAP](enlarged)[..., :3] * 255
    gray = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float64)[..., None]
    return np.round((1 - OPACITY) * gray + OPACITY * colors).astype(np.uint8)


def explanation_grid(images: Sequence[ExplainedImage], methods: Mapping[str, str], titles: Sequence[str]) -> Figure:
    """Draw each image and the maps of every model side by side, with a colour bar.

    Args:
        images: at least one image, all explained for the same models.
        methods: title of each method; every model has one column per method.
        titles: K class names for people.
    """
    models = [model.label for model in images[0].models]
    columns = 1 + len(models) * len(methods)
    figure = Figure(figsize=(1.25 * columns + 0.6, 1.55 * len(images) + 0.5), layout="constrained")
    grid = figure.subplots(len(images), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for row, explained in enumerate(images):
        grid[row][0].imshow(explained.image)
        grid[row][0].set_title(shorten(titles[explained.true]), fontsize=7)
        for model_number, model in enumerate(explained.models):
            for number, method in enumerate(methods):
                axes = grid[row][1 + model_number * len(methods) + number]
                axes.imshow(overlay(explained.image, model.maps[method]))
                label = f"{plain(model.label)}\n" if row == 0 and number == 0 else ""
                predicted = f"{shorten(titles[model.predicted])} {model.probability:.0%}" if number == 0 else ""
                title = methods[method]
                axes.set_title(f"{label}{predicted}\n{title}" if predicted else f"\n{title}", fontsize=6, loc="left")
    color_bar = figure.colorbar(ScalarMappable(cmap=COLORMAP), ax=grid, shrink=0.5, aspect=40)
    color_bar.set_ticks([0, 1], labels=["none", "most"])
    color_bar.set_label("evidence for the prediction")
    return figure
