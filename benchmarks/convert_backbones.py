"""Converts every backbone to ONNX and compares it with Keras, each in a fresh process; resumes where it was stopped.

    python -m benchmarks.convert_backbones                    # all that are not in benchmarks/results/convert.csv yet
    python -m benchmarks.convert_backbones --only VGG16 --image-size 64

Weights are random, but made "lively" (`make_lively`): a plain random network predicts nearly the same for every image,
which hides errors. A hundred random layers amplify rounding errors, so both sides are also compared with the same
network in float64: if they differ by more than 1e-3, ONNX Runtime must be at most twice as far from it as Keras.
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
CHAOS = 1e-2  # error of Keras itself above which predictions are mostly noise
SHAPES = ((3, 64, 64, 3), (1, 333, 250, 3), (1, 37, 411, 3))  # of images, besides the network's input size


def make_lively(model, calm: bool = False) -> None:  # type: ignore[no-untyped-def]
    """Give a random network predictions that differ from image to image.

    BatchNorm layers adopt the statistics of some random images, as after training, and the last layer is scaled so that
    its logits have a standard deviation of 0.5 over those images. This is large compared with the rounding errors that
    a hundred random layers amplify.

    Args:
        model: changed in place.
        calm: whether each residual branch contributes only a tenth, for networks that amplify rounding too much.
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
    # Dividing would inflate features that hardly vary, and their rounding errors with them.
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
    """Return a lively backbone with a head in float32, and the same network in float64."""
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


def convert_backbone(name: str, side: int) -> dict[str, object]:
    """Convert one backbone in this process and return its row of the table."""
    started = time.perf_counter()
    import onnxruntime
    import tensorflow as tf

    from keras_bench.models.onnx import to_onnx

    tf.config.experimental.enable_tensor_float_32_execution(False)  # as when a run converts and checks
    model, exact = lively_pair(name, side)
    conversion_started = time.perf_counter()
    content = to_onnx([(model, 1.0)], {"image_size": side}).SerializeToString()
    seconds = time.perf_counter() - conversion_started
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    exact_batches, keras_batches, onnx_batches = [], [], []
    for shape in (*SHAPES, (2, side, side, 3)):
        images = some_images(shape)
        resized = tf.image.resize(tf.cast(images, tf.float32), (side, side))
        exact_batches.append(np.asarray(exact(tf.cast(resized, tf.float64), training=False)))
        keras_batches.append(np.asarray(model(resized, training=False)))
        onnx_batches.append(session.run(["probabilities"], {"image": images})[0])
    expected, by_keras, by_onnx = (np.concatenate(parts) for parts in (exact_batches, keras_batches, onnx_batches))
    difference, onnx_error, keras_error = (
        np.abs(a - b).max() for a, b in ((by_keras, by_onnx), (by_onnx, expected), (by_keras, expected))
    )
    same = bool((by_onnx.argmax(axis=1) == by_keras.argmax(axis=1)).all())
    agrees = same and bool(difference <= TOLERANCE or onnx_error <= 2 * keras_error)
    spread = float(np.ptp(expected, axis=0).max())
    total = time.perf_counter() - started
    errors = (f"{value:.1e}" for value in (difference, onnx_error, keras_error))
    sizes = (f"{seconds:.1f}", f"{total:.1f}", f"{len(content) / 1e6:.1f}")
    values = (name, side, *sizes, *errors, f"{spread:.2f}", agrees)
    return dict(zip(COLUMNS, values, strict=True))


def main() -> int:
    """Convert the backbones that the table lacks; return 1 if one failed or did not agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", choices=list(BACKBONES), help="convert only this one, in this process, and print its row as JSON"
    )
    parser.add_argument("--image-size", type=int, help="default: 64, or the smallest that the family accepts")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.only:
        side = arguments.image_size or max(64, BACKBONES[arguments.only].family.min_size)
        print(json.dumps(convert_backbone(arguments.only, side)))
        return 0
    rows = missing_rows("benchmarks.convert_backbones", arguments.results, COLUMNS)
    failed = [name for name, row in rows if row is None or not row["agrees"]]
    print(f"failed: {failed}" if failed else "every backbone converts and agrees")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
