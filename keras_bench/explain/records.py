"""Explanation maps and the scores of their checks, image by image."""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_bench.phases import Phase
from keras_bench.reading import arrays_of, is_intact, record_of
from keras_bench.runs.damage import changed_files
from keras_bench.runs.folders import RunDir

# The name of each method in tables and figures.
METHOD_TITLES = {"saliency": "Saliency", "smoothgrad": "SmoothGrad", "gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++"}
EXPLANATION_METHODS = tuple(METHOD_TITLES)
RANDOM = "random"  # the baseline every method has to beat: the cells in random order


@dataclass(frozen=True)
class Explanations:
    """Maps of N test images by each method, reduced for display.

    Attributes:
        ids: path of each image inside the data set, str, (N,).
        images: the images as the model sees them, reduced, uint8, (N, side, side, 3), RGB.
        maps: maps of each method, uint8, (N, map side, map side), from 0 for no evidence to 255 for the most.
        explained: the class each map explains, which is the model's prediction, int64, (N,).
    """

    ids: np.ndarray
    images: np.ndarray
    maps: dict[str, np.ndarray]
    explained: np.ndarray

    def to_npz(self) -> bytes:
        """Return the content of explanations.npz; it holds no pickled objects."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = {f"map:{method}": values for method, values in self.maps.items()}
        arrays |= {"ids": self.ids.astype(np.str_), "images": self.images, "explained": self.explained}
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()

    @staticmethod
    def from_npz(path: Path) -> "Explanations":
        """Read an explanations.npz file."""
        with arrays_of(path) as arrays:
            maps = {name.removeprefix("map:"): arrays[name] for name in arrays if name.startswith("map:")}
            return Explanations(arrays["ids"], arrays["images"], maps, arrays["explained"])


@dataclass(frozen=True)
class CamLayer:
    """The layer whose activations class-activation maps use.

    Attributes:
        name: name of the layer.
        side: cells per side of its map.
        last_side: cells per side of the backbone's last map, which is used if it is large enough.
    """

    name: str
    side: int
    last_side: int

    @property
    def note(self) -> str:
        """A sentence that names the layer if it is not that of the last map; "" otherwise."""
        if self.side == self.last_side:
            return ""
        size, last_size = f"{self.side}×{self.side}", f"{self.last_side}×{self.last_side}"
        return f"Grad-CAM uses layer {self.name} ({size}), since the last map is {last_size}"


@dataclass(frozen=True)
class MethodScores:
    """The scores of one method, or of the random map, on each of N images; None where a score was not computed.

    Attributes:
        deletion: area under the predicted class's probability as cells are removed, most important first; low is good.
        insertion: area under that probability as the cells are added to a blurred image; high is good.
        pointing: 1.0 if the map's maximum lies in the object's box, else 0.0; None without a box.
        mass_in_box: share of the map's sum inside the box; None without a box.
        similarity_head: rank correlation with the map after the head is randomised.
        similarity_backbone: rank correlation with the map after head and backbone are randomised.
    """

    deletion: tuple[float | None, ...]
    insertion: tuple[float | None, ...]
    pointing: tuple[float | None, ...]
    mass_in_box: tuple[float | None, ...]
    similarity_head: tuple[float | None, ...]
    similarity_backbone: tuple[float | None, ...]


@dataclass(frozen=True)
class ExplanationChecks:
    """The content of checks.json.

    Attributes:
        phase: the phase explained, the run's final one.
        layer: the layer whose activations the class-activation maps use.
        settings: everything the scores depend on: number of images, cells, smoothing, seed, the model.
        ids: ids of the N images.
        correct: whether the model's prediction for each image is correct.
        box_share: the box's share of each image's area; None without a box.
        scores: scores of each method, and of "random".
        layer_side: cells per side of that layer's map; None in runs of earlier versions.
        last_side: cells per side of the backbone's last map, which is used if it is large enough; None likewise.
    """

    phase: Phase
    layer: str
    settings: dict[str, object]
    ids: tuple[str, ...]
    correct: tuple[bool, ...]
    box_share: tuple[float | None, ...]
    scores: dict[str, MethodScores]
    layer_side: int | None = None
    last_side: int | None = None

    @property
    def layer_note(self) -> str:
        """A sentence that names Grad-CAM's layer if it is not that of the last map; "" otherwise, or if unknown."""
        if self.layer_side is None or self.last_side is None:
            return ""
        return CamLayer(self.layer, self.layer_side, self.last_side).note

    def to_json(self) -> dict[str, object]:
        """Return plain values for checks.json, where `correct` is called `right`."""
        return {"right" if name == "correct" else name: value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(tree: dict[str, object]) -> "ExplanationChecks":
        """Rebuild the value from checks.json's content."""
        return record_of(ExplanationChecks, {"correct" if name == "right" else name: tree[name] for name in tree})


def explanations_intact(run: RunDir) -> bool:
    """Return whether explanations.npz exists and is as it was written."""
    is_changed = run.explanations in changed_files(run.explanation_checks)
    return not is_changed and is_intact(run.explanations, Explanations.from_npz)
