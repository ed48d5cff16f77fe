"""Writes the files beside model.onnx in a bundle: labels, samples, the runner, and the checksums of all files."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_bench.bundle import EXPECTED, LABELS, PREDICT, SIGNATURE, SUMS
from keras_bench.images import encode_png
from keras_bench.printable import printable_json

_EMBEDDED = ("keras_bench.images", "keras_bench.printable")  # modules whose source predict.py contains


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


def write_runner(folder: Path) -> None:
    """Write predict.py: the runner, with its imports of this package replaced by the source of what they import."""
    runner = _source("keras_bench.bundle")
    for module in _EMBEDDED:
        line = next(line for line in runner.splitlines(keepends=True) if line.startswith(f"from {module} import "))
        if "(" in line:
            raise ValueError(f"bundle.py: expected its import of {module} on one line, which predict.py replaces")
        before, _, after = runner.partition(line)
        body = _source(module).split('"""', 2)[2].lstrip("\n")  # without its docstring
        runner = before + body.replace("from __future__ import annotations\n\n", "") + after
    (folder / PREDICT).write_text(runner, encoding="utf-8")


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS, the checksums of every other file in the bundle, in the format of `sha256sum -c`."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = sorted(name for name in paths if name not in (SUMS, SIGNATURE))
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _source(module: str) -> str:
    """Return a module's source text."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    return Path(str(spec.origin)).read_text(encoding="utf-8")


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(printable_json(text) + "\n", encoding="utf-8")
