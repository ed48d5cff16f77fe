"""Converts every backbone to ONNX and compares it with Keras, each in a fresh process; goes on where it was stopped.

    python -m benchmarks.convert_backbones                    # all that are not in benchmarks/results/convert.csv yet
    python -m benchmarks.convert_backbones --only VGG16 --image-size 64

Weights are random, made lively: a random network predicts nearly the same for every image, hiding any error.
A hundred random layers amplify rounding errors, so both sides are also compared with the same network in float64: where
they differ by more than 1e-3, ONNX Runtime must be at most twice as far from the truth as Keras.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.every_backbone import missing_rows
from keras_bench.backbones.table import BACKBONES

CLASSES = 10
RESULTS = Path(__file__).parent / "results" / "convert.csv"
COLUMNS = (
    *("backbone", "image_size", "convert_s", "total_s", "megabytes"),
    *("max_difference", "onnx_error", "keras_error", "spread", "agrees"),
)
TOLERANCE = 1e-3
CHAOS = 1e-2  # Keras's own error, above which predictions are noise and say nothing
SHAPES = ((3, 64, 64, 3), (1, 333, 250, 3), (1, 37, 411, 3))  # besides the network's own size


def make_lively(model, calm: bool = False) -> None:  # type: ignore[no-untyped-def]
    """Give a random network predictions that differ from image to image.

    BatchNorm layers take the statistics of some noise images, as training would have left them, and the last layer is
    scaled so that its scores have a deviation of 0.5 over those images: they differ by some tenths, and the rounding
    errors that a hundred random layers amplify stay small beside that. `calm`: each residual branch adds a tenth only.
    """
    import keras

    side = model.input_shape[1]
    images = some_images((32, side, side, 3)).astype(np.float32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable, layer.momentum = True, 0.0
    if calm:
        _quieten_branches(model)
    model(images, training=True)
    last = model.layers[-1]
    features = np.asarray(keras.Model(model.input, last.input)(images, training=False))
    features = features.reshape(len(images), -1).astype(np.float64)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    # Features that hardly vary would be blown up by dividing: rounding errors with them.
    scale = np.where(deviation > 1e-3 * deviation.max(), 1 / np.maximum(deviation, 1e-300), 0.0)
    kernel = (
        np.random.default_rng(0).normal(size=last.kernel.shape)
        * scale[:, None]
        * 0.5
        / np.sqrt(max(1, (scale > 0).sum()))
    )
    last.set_weights([kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)])


def _quieten_branches(model) -> None:  # type: ignore[no-untyped-def]
    import keras

    for add in (layer for layer in model.layers if isinstance(layer, keras.layers.Add)):
        for tensor in add.input:
            branch = tensor._keras_history.operation
            if isinstance(branch, keras.layers.Dropout):
                branch = branch.input._keras_history.operation
            if isinstance(branch, keras.layers.BatchNormalization):
                branch.gamma.assign(branch.gamma * 0.1)


def lively_pair(name: str, side: int, calm: bool = False):  # type: ignore[no-untyped-def]
    """Return a backbone with a head in float32 and the same in float64, both lively."""
    import keras

    from keras_bench.config import ModelConfig
    from keras_bench.models.build import ModelSpec, build_model

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    spec = ModelSpec(BACKBONES[name], side, CLASSES, ModelConfig(weights="none"))
    model = build_model(spec)
    make_lively(model, calm)
    keras.config.set_dtype_policy("float64")
    exact = build_model(spec)
    exact.set_weights(model.get_weights())
    images = some_images((3, side, side, 3))
    error = np.abs(np.asarray(model(images.astype(np.float32))) - np.asarray(exact(images.astype(np.float64)))).max()
    return lively_pair(name, side, calm=True) if error > CHAOS and not calm else (model, exact)


def some_images(shape: tuple[int, ...]) -> np.ndarray:
    """Return uint8 images with coarse and fine structure, the same for the same shape."""
    generator = np.random.default_rng(sum(shape))
    coarse = generator.integers(0, 256, (shape[0], 4, 4, 3)).repeat(-(-shape[1] // 4), 1).repeat(-(-shape[2] // 4), 2)
    fine = generator.integers(-40, 41, shape)
    return np.clip(coarse[:, : shape[1], : shape[2]] + fine, 0, 255).astype(np.uint8)


def convert_one(name: str, side: int) -> dict[str, object]:
    """Convert one backbone in this process and return its row of the table."""
    started = time.perf_counter()
    import onnxruntime
    import tensorflow as tf

    from keras_bench.models.onnx import to_onnx

    tf.config.experimental.enable_tensor_float_32_execution(False)  # as a run converts and checks
    model, exact = lively_pair(name, side)
    before = time.perf_counter()
    content = to_onnx([(model, 1.0)], {"image_size": side}).SerializeToString()
    seconds = time.perf_counter() - before
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    truth, keras_found, onnx_found = [], [], []
    for shape in (*SHAPES, (2, side, side, 3)):
        images = some_images(shape)
        resized = tf.image.resize(tf.cast(images, tf.float32), (side, side))
        truth.append(np.asarray(exact(tf.cast(resized, tf.float64), training=False)))
        keras_found.append(np.asarray(model(resized, training=False)))
        onnx_found.append(session.run(["probabilities"], {"image": images})[0])
    expected, ours, theirs = (np.concatenate(parts) for parts in (truth, keras_found, onnx_found))
    difference, onnx_error, keras_error = (
        np.abs(a - b).max() for a, b in ((ours, theirs), (theirs, expected), (ours, expected))
    )
    same = bool((theirs.argmax(axis=1) == ours.argmax(axis=1)).all())
    agrees = same and bool(difference <= TOLERANCE or onnx_error <= 2 * keras_error)
    spread = float(np.ptp(expected, axis=0).max())
    total = time.perf_counter() - started
    errors = (f"{value:.1e}" for value in (difference, onnx_error, keras_error))
    sizes = (f"{seconds:.1f}", f"{total:.1f}", f"{len(content) / 1e6:.1f}")
    values = (name, side, *sizes, *errors, f"{spread:.2f}", agrees)
    return dict(zip(COLUMNS, values, strict=True))


def main() -> int:
    """Convert what is missing; returns 1 where one failed or did not agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(BACKBONES), help="this one, in this process, as JSON")
    parser.add_argument("--image-size", type=int, help="default: 64, or the least that the family takes")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.only:
        side = arguments.image_size or max(64, BACKBONES[arguments.only].family.min_size)
        print(json.dumps(convert_one(arguments.only, side)))
        return 0
    rows = missing_rows("benchmarks.convert_backbones", arguments.results, COLUMNS)
    failed = [name for name, row in rows if row is None or not row["agrees"]]
    print(f"failed: {failed}" if failed else "every backbone converts and agrees")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
