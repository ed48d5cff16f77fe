"""Where a model looks, and how that was checked, image by image."""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_bench.phases import Phase
from keras_bench.reading import arrays_of, record_of

# What people call each method.
METHOD_TITLES = {"saliency": "Saliency", "smoothgrad": "SmoothGrad", "gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++"}
EXPLANATION_METHODS = tuple(METHOD_TITLES)
RANDOM = "random"  # the map every method has to beat: the cells in random order


@dataclass(frozen=True)
class Explanations:
    """Maps of N test images by each method, small enough to keep, for drawing.

    Attributes:
        ids: str, (N,), the image's path inside the data set.
        images: uint8, (N, side, side, 3), RGB as the model saw it, reduced for display.
        maps: for each method uint8, (N, map side, map side), 0 where nothing, 255 where most evidence.
        explained: int64, (N,), the class each map explains: the model's prediction.
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
    """Whose activations class-activation maps use.

    Attributes:
        name: of the layer.
        side: cells a side of its map.
        last_side: cells a side of the backbone's last map, which is used where it is large enough.
    """

    name: str
    side: int
    last_side: int

    @property
    def note(self) -> str:
        """Say which layer is used where that is not the last map's; "" where it is."""
        if self.side == self.last_side:
            return ""
        own, last = f"{self.side}×{self.side}", f"{self.last_side}×{self.last_side}"
        return f"Grad-CAM uses layer {self.name} ({own}), since the last map is {last}"


@dataclass(frozen=True)
class MethodScores:
    """How one method (or the random map) fared on each of the N images.

    Attributes:
        deletion: area under the predicted class's probability while the most important cells are removed first; low is
            good.
            None where not computed.
        insertion: the same while they are added to a blurred image; high is good.
        pointing: 1.0 where the map's maximum lies in the object's box, else 0.0; None without a box.
        mass_in_box: share of the map's sum inside the box; None without a box.
        similarity_head: rank correlation with the map after the head was randomised; None where not computed.
        similarity_backbone: the same after head and backbone were randomised.
    """

    deletion: tuple[float | None, ...]
    insertion: tuple[float | None, ...]
    pointing: tuple[float | None, ...]
    mass_in_box: tuple[float | None, ...]
    similarity_head: tuple[float | None, ...]
    similarity_backbone: tuple[float | None, ...]


@dataclass(frozen=True)
class ExplanationChecks:
    """Everything checks.json holds.

    Attributes:
        phase: the phase explained, the run's final one.
        layer: whose activations the class-activation maps use.
        settings: what the numbers depend on: number of images, cells, smoothing, seed.
        ids: the N images.
        correct: whether the model's prediction is correct.
        box_share: the box's share of the image's area; None without a box.
        scores: for each method, and for "random".
        layer_side: cells a side of that layer's map; None in runs of earlier versions.
        last_side: cells a side of the backbone's last map, which is used where it is large enough; None as above.
    """

    phase: Phase
    layer: str
    settings: dict[str, Any]
    ids: tuple[str, ...]
    correct: tuple[bool, ...]
    box_share: tuple[float | None, ...]
    scores: dict[str, MethodScores]
    layer_side: int | None = None
    last_side: int | None = None

    @property
    def layer_note(self) -> str:
        """Say which layer Grad-CAM uses where that is not the last map's; "" where it is, or is not known."""
        if self.layer_side is None or self.last_side is None:
            return ""
        return CamLayer(self.layer, self.layer_side, self.last_side).note

    def to_json(self) -> dict[str, Any]:
        """Return plain values for checks.json, where `correct` is called `right`."""
        return {"right" if name == "correct" else name: value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(tree: dict[str, Any]) -> "ExplanationChecks":
        """Rebuild the value from checks.json's content."""
        return record_of(ExplanationChecks, {"correct" if name == "right" else name: tree[name] for name in tree})
