"""The model of a bundle with its class names, and its probabilities for images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_bench.bundle.onnx_file import (
    IMAGE,
    LESS_MEMORY,
    PROBABILITIES,
    is_out_of_memory,
    one_line,
    open_session,
    require_one_file,
)
from keras_bench.bundle.sums import (
    EXPECTED,
    FLOAT_MODEL,
    LABELS,
    BundleError,
    ChangedBundleError,
    check_sums,
    read_sums,
    readable,
)
from keras_bench.images import HIGHEST_LIMIT, MAX_MEGAPIXELS, UnreadableImageError, decode

SAMPLE_TOLERANCE = 1e-4  # of a probability, between the machine that made the bundle and this one
INT8_TOLERANCE = 0.05  # likewise for int8, whose kernels round differently from processor to processor


class Bundle:
    """An exported model and its class names, verified before the first prediction.

    Args:
        folder: the bundle.
        file: "model.onnx" or "model.int8.onnx".
        threads: threads per operation; 0: one per core.

    Attributes:
        class_names: K names, in the order of the probabilities.
        class_titles: K display names.
        metadata: the model file's metadata.
        max_megapixels: limit of `decode` in the run that made the bundle; the default if the bundle does not record it.

    Raises:
        ChangedBundleError: a file is missing or changed.
        BundleError: a file is malformed, the labels are not the model's, or the model's inputs or outputs are not a
            bundle's.
    """

    def __init__(self, folder: Path, file: str = FLOAT_MODEL, threads: int = 0) -> None:
        check_sums(folder, (file, LABELS))
        self.path = folder / file
        self.class_names, self.class_titles = _read_labels(folder / LABELS)
        require_one_file(self.path)
        self.session = open_session(self.path, threads)
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.max_megapixels = _recorded_limit(self.metadata)
        self._check_interface()

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (N, K) for uint8 images (N, height, width, 3), RGB in [0, 255], of any size.

        Raises:
            BundleError: the model cannot be run, or its output is not N rows of K finite numbers.
        """
        try:
            probabilities = np.asarray(self.session.run([PROBABILITIES], {IMAGE: images})[0])
        except Exception as error:  # onnxruntime's exception classes have no common base
            remedy = LESS_MEMORY if is_out_of_memory(error) else "export it again"
            raise BundleError(f"{self.path}: the model cannot be run ({one_line(error)}); {remedy}") from error
        expected = (len(images), len(self.class_names))
        if probabilities.shape != expected or not np.isfinite(probabilities).all():
            raise BundleError(
                f"{self.path}: expected finite probabilities of shape {expected}, received shape "
                f"{probabilities.shape} with {np.count_nonzero(~np.isfinite(probabilities)):,} values that are not "
                "finite; export it again"
            )
        return probabilities

    def predict(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 (N, K) for images of any sizes, each uint8 (height, width, 3); equal sizes run together."""
        probabilities = np.empty((len(images), len(self.class_names)), dtype=np.float32)
        indices_by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            indices_by_shape.setdefault(image.shape, []).append(i)
        for indices in indices_by_shape.values():
            probabilities[indices] = self.probabilities(np.stack([images[i] for i in indices]))
        return probabilities

    def _check_interface(self) -> None:
        """Check the model's inputs and outputs, and that its classes are those of the labels."""
        inputs = [(node.name, node.type, len(node.shape), *node.shape[-1:]) for node in self.session.get_inputs()]
        outputs = [(node.name, node.type, *node.shape[-1:]) for node in self.session.get_outputs()]
        expected_outputs = [(PROBABILITIES, "tensor(float)")]
        if inputs != [(IMAGE, "tensor(uint8)", 4, 3)] or [output[:2] for output in outputs] != expected_outputs:
            raise BundleError(
                f"{self.path}: expected image uint8 (N, H, W, 3) to probabilities float32, received {inputs} to "
                f"{outputs}"
            )
        try:
            model_classes = json.loads(self.metadata.get("class_names", "null"))
        except ValueError:
            model_classes = None
        count = outputs[0][-1]
        if model_classes != self.class_names or count != len(self.class_names):
            raise BundleError(
                f"{self.path.parent / LABELS}: its {len(self.class_names)} class names are not the model's, which "
                f"gives {count} probabilities; take both from the same bundle"
            )


def _recorded_limit(metadata: Mapping[str, str]) -> int:
    recorded = metadata.get("max_megapixels", "")
    is_valid = recorded.isdecimal() and len(recorded) < 9 and 1 <= int(recorded) <= HIGHEST_LIMIT
    return int(recorded) if is_valid else MAX_MEGAPIXELS


def _read_labels(path: Path) -> tuple[list[str], list[str]]:
    """Return the class names and as many titles."""
    try:
        with readable(path):
            content = json.loads(path.read_text(encoding="utf-8"))
        names, titles = content["class_names"], content["class_titles"]
        if not all(
            isinstance(labels, list) and all(isinstance(label, str) for label in labels) for labels in (names, titles)
        ):
            raise ValueError("not text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: expected JSON with class_names and class_titles; copy the bundle again") from error
    if len(names) != len(titles):
        raise BundleError(f"{path}: expected {len(names)} class titles, received {len(titles)}; copy the bundle again")
    return names, titles


def verify_samples(
    folder: Path, file: str = FLOAT_MODEL, threads: int = 0, max_megapixels: float | None = None
) -> float:
    """Classify the sample images and return the largest difference from their probabilities at export.

    Args:
        folder: the bundle.
        file: "model.onnx" or "model.int8.onnx".
        threads: threads per operation; 0: one per core.
        max_megapixels: limit of `decode`; None: the bundle's.

    Raises:
        ChangedBundleError: as for `Bundle`, or a probability differs by more than 1e-4 (int8: 0.05).
        BundleError: as for `Bundle`, or the recorded probabilities are malformed.
    """
    check_sums(folder)
    bundle = Bundle(folder, file, threads)
    expected = _read_expected(folder, file, len(bundle.class_names))
    try:
        limit = max_megapixels or bundle.max_megapixels
        images = [decode((folder / name).read_bytes(), limit) for name in expected]
    except (UnreadableImageError, OSError) as error:
        raise BundleError(f"{folder / EXPECTED}: a sample image cannot be read ({one_line(error)})") from error
    difference = float(np.abs(bundle.predict(images) - np.array(list(expected.values()))).max())
    tolerance = SAMPLE_TOLERANCE if file == FLOAT_MODEL else INT8_TOLERANCE
    if not difference <= tolerance:
        raise ChangedBundleError(f"{folder / file}: sample images are off by {difference:.2g}, more than {tolerance:g}")
    return difference


def _read_expected(folder: Path, file: str, count: int) -> dict[str, list[float]]:
    """Return the recorded probabilities of a model file, `count` finite numbers for each sample image's name."""
    path = folder / EXPECTED
    try:
        with readable(path):
            expected = json.loads(path.read_text(encoding="utf-8"))[file]
        rows = np.array(list(expected.values()), dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != count or not np.isfinite(rows).all():
            raise ValueError(f"received shape {rows.shape}")
        if not set(expected) <= set(read_sums(folder)):
            raise ValueError("it names images that the sums do not list")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{path}: expected {count} probabilities of {file} for each sample image; copy the bundle again"
        ) from error
    return expected
