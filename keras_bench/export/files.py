"""Writes the files beside model.onnx in a bundle: labels, samples, and the checksums of all files."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_bench.bundle.sums import EXPECTED, LABELS, SIGNATURE, SUMS
from keras_bench.images import encode_png
from keras_bench.printable import printable_json


def write_labels(folder: Path, class_names: Sequence[str], class_titles: Sequence[str]) -> None:
    """Write labels.json: K class names in the order of the probabilities, and K titles to show to people."""
    _write_json(folder / LABELS, {"class_names": list(class_names), "class_titles": list(class_titles)})


def write_samples(
    folder: Path, images: Sequence[np.ndarray], expected: Mapping[str, np.ndarray], true_classes: Sequence[str]
) -> None:
    """Write sample images, their true classes, and the models' predictions when the bundle was made.

    Args:
        folder: the bundle.
        images: N images, each uint8, (height, width, 3).
        expected: probabilities of each model file, float32, (N, K).
        true_classes: name of the true class of each image, for `true` in expected.json.
    """
    names = [f"sample/{i + 1}.png" for i in range(len(images))]
    (folder / "sample").mkdir(exist_ok=True)
    for name, image in zip(names, images, strict=True):
        (folder / name).write_bytes(encode_png(image))
    content: dict[str, object] = {
        file: {name: [float(p) for p in row] for name, row in zip(names, rows, strict=True)}
        for file, rows in expected.items()
    }
    _write_json(folder / EXPECTED, {**content, "true": dict(zip(names, true_classes, strict=True))})


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS, the checksums of every other file in the bundle, in the format of `sha256sum -c`."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = sorted(name for name in paths if name not in (SUMS, SIGNATURE))
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(printable_json(text) + "\n", encoding="utf-8")
