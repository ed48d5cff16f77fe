"""One pass over the same images with a frozen network and with a whole model: ours, plain Keras, the network alone.

    python -m benchmarks.compare_passes --data tiny-imagenet-40.zip --model MobileNet --image-size 128

Plain Keras is `predict` on the same input pipeline, once with TensorFlow's default settings and once with oneDNN
kernels, which keras-bench enables. "Network alone" is ONNX Runtime on one batch that is already in memory, with threads
that share a batch or process one batch each, whichever is faster: the difference to 100 % is the cost of the input. The
sides run in turn, each in a fresh process, with random weights, since speed does not depend on their values.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Ratio, keep, summarise
from keras_bench.environment import usable_cores

BATCH = 32


def main() -> None:
    arguments = _arguments()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments)))
        return
    rows: list[Ratio] = []
    for number in range(1, arguments.rounds + 1):
        rates = {side: in_fresh_process(side) for side in SIDES}
        for row in ratios(rates, arguments, number):
            print(row, flush=True)
            rows.append(row)
    keep(rows, "passes")
    print("medians:")
    summarise(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a zip in Tiny ImageNet's layout")
    parser.add_argument("--model", default="MobileNet")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=tuple(SIDES), help="measure one side only and print JSON")
    return parser.parse_args()


def in_fresh_process(side: str) -> dict[str, float]:
    """Return the rates of one side, in images/s."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if side != "plain":
        environment["TF_ENABLE_ONEDNN_OPTS"] = "1"
    command = [sys.executable, "-m", "benchmarks.compare_passes", *sys.argv[1:], "--side", side]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return dict(json.loads(output.splitlines()[-1]))


def ratios(rates: dict[str, dict[str, float]], arguments: argparse.Namespace, number: int) -> list[Ratio]:
    """Return the comparisons of one round, from the rates of each side."""
    ours, plain, with_onednn = rates["ours"], rates["plain"], rates["plain, oneDNN"]
    alone = max(ours["alone"], ours["alone, threads share a batch"])
    comparisons = (
        ("features of plain images, images/s", ours["features"], plain["features"], "predict()"),
        (
            "features of plain images, images/s, both with oneDNN",
            ours["features"],
            with_onednn["features"],
            "predict()",
        ),
        ("features of augmented images, images/s", ours["augmented"], plain["features"], "predict() on plain images"),
        ("share of the network alone, features of plain images", ours["features"], alone, "not plain Keras"),
        ("share of the network alone, augmented images", ours["augmented"], alone, "not plain Keras"),
        ("evaluation, images/s", ours["evaluation"], plain["evaluation"], "predict()"),
    )
    return [
        Ratio(measure, arguments.model, arguments.image_size, number, first, second, True, note)
        for measure, first, second, note in comparisons
    ]


def _prepare(arguments: argparse.Namespace) -> tuple:
    """Return the pipeline, the positions of its images, the whole model and its frozen part."""
    import keras

    from keras_bench.backbones.table import BACKBONES
    from keras_bench.config import AugmentationConfig, DatasetConfig, ModelConfig
    from keras_bench.console import Log
    from keras_bench.data.pipeline import Pipeline
    from keras_bench.data.sources import open_source
    from keras_bench.data.store import ImageStore
    from keras_bench.models.build import ModelSpec, build_model
    from keras_bench.models.phases import set_phase
    from keras_bench.models.split import split_frozen

    log = Log()
    index = open_source(DatasetConfig(source="tiny-imagenet"), arguments.data, log)
    store = ImageStore(index, 2 << 30)
    store.load(log)
    keras.utils.set_random_seed(0)
    alpha = 0.75 if arguments.model == "MobileNet" else None
    spec = ModelSpec(BACKBONES[arguments.model], arguments.image_size, len(index.class_names), ModelConfig(alpha=alpha))
    model = build_model(spec)
    set_phase(model, spec.backbone, "tl")
    pipeline = Pipeline(store, arguments.image_size, BATCH, len(index.class_names), 0)
    return pipeline, np.arange(arguments.images), model, split_frozen(model)[0], AugmentationConfig()


def measure_ours(arguments: argparse.Namespace) -> dict[str, float]:
    """Return images/s for features of plain and of augmented images, for the network alone, and for evaluation."""
    import onnxruntime
    import tensorflow as tf

    from keras_bench.console import Log
    from keras_bench.evaluation.predict import predict_split
    from keras_bench.models.forward import keras_forward, onnx_forward
    from keras_bench.models.onnx import network_to_onnx
    from keras_bench.parallel import map_in_order

    tf.config.experimental.enable_tensor_float_32_execution(False)  # as in a run, for everything it reports
    pipeline, positions, model, frozen, augmentation = _prepare(arguments)
    content = network_to_onnx(frozen).SerializeToString()
    forward, keras_model_forward, cores = onnx_forward(content), keras_forward(model), usable_cores()
    batch = np.asarray(next(iter(pipeline.evaluation(positions)))[0])
    count = len(positions)

    def feature_rate(batches: Callable[[], Iterable[Any]]) -> float:
        return _rate(count, lambda: [len(features) for features in map_in_order(forward, batches(), cores)])

    shared = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = shared.get_inputs()[0].name
    return {
        "alone": feature_rate(lambda: repeat(batch, count // BATCH)),
        "alone, threads share a batch": _rate(
            count, lambda: [shared.run(None, {name: batch}) for _ in range(count // BATCH)]
        ),
        "features": feature_rate(lambda: pipeline.views(positions, augmentation, 0)),
        "augmented": feature_rate(lambda: pipeline.views(positions, augmentation, 1)),
        "evaluation": _rate(
            count,
            lambda: predict_split(
                keras_model_forward, pipeline.evaluation(positions), pipeline.store.index, positions, "", Log()
            ),
        ),
    }


def measure_plain(arguments: argparse.Namespace) -> dict[str, float]:
    """Return images/s of `predict`, with the frozen part and with the whole model."""
    pipeline, positions, model, frozen, _ = _prepare(arguments)
    return {
        "features": _rate(len(positions), lambda: frozen.predict(pipeline.evaluation(positions), verbose=0)),
        "evaluation": _rate(len(positions), lambda: model.predict(pipeline.evaluation(positions), verbose=0)),
    }


SIDES = {"ours": measure_ours, "plain": measure_plain, "plain, oneDNN": measure_plain}


def _rate(images: int, work) -> float:  # type: ignore[no-untyped-def]
    """Return images/s of a second call, when everything is traced and in memory."""
    work()
    started = time.perf_counter()
    work()
    return images / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
