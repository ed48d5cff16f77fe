"""Figures of every backbone at its default size: published ImageNet accuracy, and costs counted by us.

Both are CSV files beside this module, one row per backbone:

published.csv: top-1 and top-5 in percent on ImageNet's validation images, digit for digit as the row's source states
    them (`FACT_SOURCES`). https://github.com/keras-team/keras/pull/16421 gives those of ConvNeXt to more digits.
counted.csv: written by `python -m benchmarks.count_backbones`, with the library versions used for counting.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

Number = TypeVar("Number", int, float)

COUNTED = Path(__file__).parent / "counted.csv"
PUBLISHED = Path(__file__).parent / "published.csv"
FACT_SOURCES = {
    "keras.io": "the table of https://keras.io/api/applications/",
    "keras.io 21k": (
        "the table of https://keras.io/api/applications/; these weights saw ImageNet-21k before ImageNet "
        "(https://keras.io/api/applications/convnext/)"
    ),
    "docstring": "the docstring of keras.applications.MobileNetV3Small and MobileNetV3Large, which gives no top-5",
    "torchvision": (
        "its IMAGENET1K_V1 weights (https://pytorch.org/vision/stable/models/resnet.html), since Keras has none"
    ),
}


@dataclass(frozen=True)
class BackboneFacts:
    """Figures of one backbone at its default size and alpha 1; None if a figure is unknown.

    Attributes:
        top1: published share of ImageNet's validation images whose first prediction is correct, percent.
        top5: the same for the first five predictions.
        source: key of `FACT_SOURCES`; "" if no accuracy was found.
        parameters: number of parameters of the network without its classifier.
        multiply_adds: multiply-adds of one image's forward pass through it (`keras_bench.cost.count.multiply_adds`).
        flops: floating-point operations of the same pass as TensorFlow's profiler counts them, about twice as many.
    """

    top1: float | None
    top5: float | None
    source: str
    parameters: int | None
    multiply_adds: int | None
    flops: int | None


def facts_of(model: str) -> BackboneFacts:
    """Return the figures of a backbone; every field is empty if none is known."""
    published, counted = _row_by_model(PUBLISHED).get(model, {}), _row_by_model(COUNTED).get(model, {})
    return BackboneFacts(
        top1=_figure_of(published, "top1", float),
        top5=_figure_of(published, "top5", float),
        source=published.get("source", ""),
        parameters=_figure_of(counted, "parameters", int),
        multiply_adds=_figure_of(counted, "multiply_adds", int),
        flops=_figure_of(counted, "flops", int),
    )


@cache
def _row_by_model(path: Path) -> dict[str, dict[str, str]]:
    # Not a DataFrame: `models` prints the table in the time that importing pandas would take.
    with path.open(newline="", encoding="utf-8") as stream:
        return {row["model"]: row for row in csv.DictReader(stream)}


def _figure_of(row: dict[str, str], name: str, kind: Callable[[str], Number]) -> Number | None:
    text = row.get(name)
    return kind(text) if text else None
