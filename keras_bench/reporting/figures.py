"""Figures from records: each function returns a matplotlib Figure and saves nothing."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from keras_bench.records.predictions import Predictions

History = list[dict[str, float]]

# Okabe and Ito's palette, readable with the common colour-vision deficiencies.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
MAX_NAME = 22


def learning_curves(phases: dict[str, History], title: str) -> Figure:
    """Draw cross-entropy and top-1 over epochs, phases one after another with a line between them.

    Args:
        phases: for each phase, in order, the rows of its history.csv.
        title: heads the figure.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(plain(title))
    panels = figure.subplots(1, 2)
    for axes, metric, label in zip(panels, ("cross_entropy", "top1"), ("cross-entropy (nats)", "top-1"), strict=True):
        start = 0
        for number, (phase, rows) in enumerate(phases.items()):
            epochs = np.arange(len(rows)) + start + 1
            names = ("train", "val") if number == 0 else (None, None)
            axes.plot(epochs, [row[metric] for row in rows], "o-", color=BLUE, markersize=3, label=names[0])
            axes.plot(
                epochs,
                [row[f"val_{metric}"] for row in rows],
                "s-",
                color=ORANGE,
                markersize=3,
                label=names[1],
            )
            if number:
                axes.axvline(start + 0.5, color="0.4", linestyle="--", linewidth=1)
            axes.text((epochs[0] + epochs[-1]) / 2, 1.01, phase, transform=axes.get_xaxis_transform(), ha="center")
            start += len(rows)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion_matrix(predictions: Predictions, titles: Sequence[str], heading: str) -> Figure:
    """Draw the share of each true class given each answer; cells are numbered up to 20 classes.

    Args:
        predictions: of one split.
        titles: K class names for people.
        heading: heads the figure.
    """
    count = len(titles)
    matrix = np.zeros((count, count))
    np.add.at(matrix, (predictions.labels, predictions.probabilities.argmax(axis=1)), 1)
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    side = min(14.0, 3.5 + 0.35 * count)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.7)
    size = 9 if count <= 20 else max(2.5, 260 / count / 1.3)
    names = [shorten(title) for title in titles]
    axes.set_xticks(range(count), names, rotation=90, fontsize=size)
    axes.set_yticks(range(count), names, fontsize=size)
    if count <= 20:
        for row, column in np.ndindex(matrix.shape):
            if matrix[row, column]:
                color = "white" if shares[row, column] > 0.6 else "black"
                axes.text(
                    column,
                    row,
                    f"{matrix[row, column]:.0f}",
                    ha="center",
                    va="center",
                    color=color,
                    fontsize=8,
                )
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    axes.set_title(plain(heading))
    return figure


def sample_predictions(
    images: Sequence[np.ndarray], predictions: Predictions, titles: Sequence[str], heading: str
) -> Figure:
    """Draw a grid of images with true class, answer and its probability; wrong answers are in red.

    Args:
        images: uint8, (height, width, 3) each, one for each row of `predictions`.
        predictions: of those images.
        titles: K class names for people.
        heading: heads the figure.
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
        answer = int(predictions.probabilities[number].argmax())
        true = int(predictions.labels[number])
        share = f"({predictions.probabilities[number, answer]:.0%})"
        right = answer == true
        text = f"{shorten(titles[answer])} {share}" + ("" if right else f"\ntrue: {shorten(titles[true])}")
        axes.set_title(text, fontsize=8, color=GREEN if right else RED)
    return figure


def shorten(name: str) -> str:
    """Return a class name that fits a tick label: the first synonym, at most 22 characters, no math markup."""
    name = plain(name.split(",")[0])
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def plain(text: str) -> str:
    """Keep matplotlib from reading dollar signs in names as formulas."""
    return text.replace("$", r"\$")
