"""Figures of one run: each function takes records, returns a matplotlib Figure and saves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from keras_bench.evaluation.predictions import Predictions
from keras_bench.pages.text import plain, shorten
from keras_bench.phases import Phase

if TYPE_CHECKING:
    import pandas as pd

# Okabe and Ito's palette, readable with the common colour-vision deficiencies.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
NUMBERED_CLASSES = 20  # up to this many classes, each cell of a confusion matrix shows its count
INCHES_PER_CLASS = 0.14  # with more classes: room for a 7-point label


def learning_curves(phases: Mapping[Phase, pd.DataFrame], title: str) -> Figure:
    """Draw cross-entropy and top-1 by epoch, one phase after another with a line between them.

    Args:
        phases: each phase's history.csv, in order of training.
        title: title of the figure.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(plain(title))
    panels = figure.subplots(1, 2)
    for axes, metric, label in zip(panels, ("cross_entropy", "top1"), ("cross-entropy (nats)", "top-1"), strict=True):
        start = 0
        for number, (phase, history) in enumerate(phases.items()):
            epochs = np.arange(len(history)) + start + 1
            names = ("train", "val") if number == 0 else (None, None)
            axes.plot(epochs, history[metric], "o-", color=BLUE, markersize=3, label=names[0])
            axes.plot(epochs, history[f"val_{metric}"], "s-", color=ORANGE, markersize=3, label=names[1])
            if number:
                axes.axvline(start + 0.5, color="0.4", linestyle="--", linewidth=1)
            axes.text((epochs[0] + epochs[-1]) / 2, 1.01, phase, transform=axes.get_xaxis_transform(), ha="center")
            start += len(history)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion_matrix(
    counts: np.ndarray, order: np.ndarray, titles: Sequence[str], heading: str, labelled: bool = True
) -> Figure:
    """Draw the share of each true class with each prediction; with up to 20 classes, cells also show counts.

    The figure grows with the number of classes, so even 200 class names are readable.

    Args:
        counts: int64, (K, K), label by prediction.
        order: int64, (K,), the order of the classes, ideally with similar classes side by side.
        titles: K class names for people.
        heading: title of the figure.
        labelled: False leaves the names out and keeps the figure small.
    """
    count = len(titles)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 3.5 + 0.35 * count if count <= NUMBERED_CLASSES else max(10.5, INCHES_PER_CLASS * count + 3)
    side = side if labelled else min(side, 7.0)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    matrix = axes.imshow(shares[np.ix_(order, order)], cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(matrix, ax=axes, label="share of the true class", shrink=0.7)
    names = [shorten(titles[k]) for k in order] if labelled else []
    size = 9 if count <= NUMBERED_CLASSES else 7
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    if labelled and count <= NUMBERED_CLASSES:
        _number_cells(axes, counts[np.ix_(order, order)], shares[np.ix_(order, order)])
    axes.set_xlabel("prediction")
    axes.set_ylabel("true class")
    axes.set_title(plain(heading))
    return figure


def _number_cells(axes, counts: np.ndarray, shares: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    for row, column in np.ndindex(counts.shape):
        if counts[row, column]:
            color = "white" if shares[row, column] > 0.6 else "#08306b"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8)


def sample_predictions(
    images: Sequence[np.ndarray], predictions: Predictions, titles: Sequence[str], heading: str
) -> Figure:
    """Draw a grid of images with each prediction and its probability; wrong ones in red, with the true class.

    Args:
        images: one image per row of `predictions`, each uint8, (height, width, 3).
        predictions: predictions for the images.
        titles: K class names for people.
        heading: title of the figure.
    """
    columns = min(6, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.6 * rows + 0.4), layout="constrained")
    figure.suptitle(plain(heading))
    for number, axes in enumerate(np.ravel(figure.subplots(rows, columns, squeeze=False))):
        axes.axis("off")
        if number >= len(images):
            continue
        axes.imshow(images[number])
        predicted, true = int(predictions.predicted[number]), int(predictions.labels[number])
        share = f"({predictions.confidence[number]:.0%})"
        correct = predicted == true
        text = f"{shorten(titles[predicted])} {share}" + ("" if correct else f"\ntrue: {shorten(titles[true])}")
        axes.set_title(text, fontsize=8, color=GREEN if correct else RED)
    return figure
