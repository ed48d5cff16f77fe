"""Training and inference with keras-bench and with plain Keras, measured in turn and compared as ratios.

    make bench DATA=tiny-imagenet-40.zip [ARGS="--rounds 3"]
    python -m benchmarks.compare_training --data tiny-imagenet-40.zip --model ResNet50 --image-size 224 --parts tl

20 classes with 250 images each, batch size 32, random weights, since speed does not depend on their values. Plain Keras
runs only a few epochs of the frozen phase; the total is the first epoch plus the median of the others for each that is
missing.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import ONLY_TRAINING, result_of, train
from benchmarks.plain_keras import PREPROCESSING
from benchmarks.results import Ratio, keep, summarise
from keras_bench.console import Log
from keras_bench.data.archive import extracted
from keras_bench.data.digits import open_digits
from keras_bench.runs.folders import RunDir
from keras_bench.runs.history import read_history

TL_EPOCHS, LAST_EPOCHS = 15, 5
PARTS = ("tl", "ft", "last")


def main() -> None:
    arguments = _arguments()
    rows: list[Ratio] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = subset(train_folder(arguments.data, Path(scratch)), Path(scratch) / "subset", arguments)
        for number in range(1, arguments.rounds + 1):
            measured = [
                row for part in arguments.parts for row in MEASURES[part](folder, Path(scratch), arguments, number)
            ]
            for row in measured:
                print(row, flush=True)
            keep(measured, "training")
            rows += measured
    print("medians:")
    summarise(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a zip in Tiny ImageNet's layout; without it, digits are used")
    parser.add_argument("--model", choices=tuple(PREPROCESSING), default="MobileNet")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--views", type=int, nargs="+", default=[1, 4], help="numbers of cached views per image")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--plain-epochs", type=int, default=3, help="epochs of the frozen phase that plain Keras runs")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--images", type=int, default=250, help="images per class")
    return parser.parse_args()


def train_folder(data: Path | None, scratch: Path) -> Path:
    """Return a folder with one folder per class, which both sides read: Tiny ImageNet's train/, or digits as files."""
    if data is not None:
        return next(extracted(data, Log()).rglob("train"))
    index = open_digits()
    for position, name in enumerate(index.ids):
        (scratch / "digits" / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / "digits" / name).write_bytes(index.read(position))
    return scratch / "digits"


def subset(source: Path, target: Path, arguments: argparse.Namespace) -> Path:
    """Copy the first images of the first classes into one folder per class."""
    for folder in sorted(path for path in source.iterdir() if path.is_dir())[: arguments.classes]:
        (target / folder.name).mkdir(parents=True)
        images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
        for path in images[: arguments.images]:
            shutil.copy(path, target / folder.name / path.name)
    return target


def frozen_phase(folder: Path, scratch: Path, arguments: argparse.Namespace, number: int) -> list[Ratio]:
    """Compare the whole frozen phase, validation after each epoch included, from an empty cache."""
    epochs = run_plain(folder, arguments, tl=arguments.plain_epochs)["tl"]["epoch_seconds"]
    plain = epochs[0] + (TL_EPOCHS - 1) * statistics.median(epochs[1:])
    note = f"plain Keras extrapolated from {arguments.plain_epochs} epochs"
    rows = []
    for views in arguments.views:
        run = run_ours(folder, scratch / f"tl{number}-{views}", arguments, "tl", {"tl.views": views})
        measure = f"frozen phase of {TL_EPOCHS} epochs with {views} views, s"
        seconds = result_of(run, "tl").seconds
        rows.append(Ratio(measure, arguments.model, arguments.image_size, number, seconds, plain, False, note))
    return rows


def fine_tuning(folder: Path, scratch: Path, arguments: argparse.Namespace, number: int) -> list[Ratio]:
    """Compare epochs of full fine-tuning, the time to the first step, peak memory, latency and inference."""
    plain = run_plain(folder, arguments, tl=1, ft=3)
    settings = {"tl.epochs": 1, "ft.epochs": 3, "latency.enabled": "true", "export.enabled": "true"}
    run = run_ours(folder, scratch / f"ft{number}", arguments, "ft", settings)
    seconds = read_history(run.history("ft"))["train_seconds"].tolist()
    images = json.loads(run.dataset.read_text())["images"]["train"]
    result = result_of(run, "ft")
    latency = {
        (row["call"], row["batch_size"]): row["p50_ms"] for row in json.loads(run.latency.read_text())["measurements"]
    }
    first_step = (result.resolved["first_step_seconds"], plain["ft"]["first_step"])
    ours_rate = images / statistics.median(seconds[1:])
    plain_rate = plain["images"] / statistics.median(plain["ft"]["train_seconds"][1:])
    onnx_rate = 32 / (latency["onnxruntime", 32] / 1000)
    figures = (
        ("fine-tuning of all blocks, images/s", ours_rate, plain_rate, True, ""),
        ("time to the first step of fine-tuning, s", *first_step, False, ""),
        ("peak memory of training, MiB", result.peak_memory_mb, plain["peak_memory_mb"], False, ""),
        ("latency of one image, ms", latency["onnxruntime", 1], plain["latency_ms"], False, "ONNX Runtime; predict()"),
        ("inference, images/s", onnx_rate, plain["evaluation"], True, "ONNX Runtime, batch 32; predict() over files"),
    )  # fmt: skip
    return [Ratio(measure, arguments.model, arguments.image_size, number, *rest) for measure, *rest in figures]


def last_block(folder: Path, scratch: Path, arguments: argparse.Namespace, number: int) -> list[Ratio]:
    """Compare the whole phase that fine-tunes the last block; ours caches the features of the frozen blocks."""
    plain = sum(run_plain(folder, arguments, ft=LAST_EPOCHS, unfreeze="last")["ft"]["epoch_seconds"])
    rows = []
    for views in arguments.views:
        settings = {"tl.epochs": 1, "ft.epochs": LAST_EPOCHS, "ft.unfreeze": 1, "ft.features": "cached"}
        settings |= {"ft.views": views}
        run = run_ours(folder, scratch / f"last{number}-{views}", arguments, "ft", settings)
        measure = f"fine-tuning of the last block, {LAST_EPOCHS} epochs with {views} views, s"
        seconds = result_of(run, "ft").seconds
        rows.append(Ratio(measure, arguments.model, arguments.image_size, number, seconds, plain, False))
    return rows


MEASURES = {"tl": frozen_phase, "ft": fine_tuning, "last": last_block}


def run_plain(folder: Path, arguments: argparse.Namespace, tl: int = 0, ft: int = 0, unfreeze: str = "all") -> Any:
    """Run the plain Keras script and return the JSON it prints."""
    command = [sys.executable, "-m", "benchmarks.plain_keras", str(folder), "--model", arguments.model]
    command += ["--image-size", str(arguments.image_size), "--tl-epochs", str(tl), "--ft-epochs", str(ft)]
    command += ["--unfreeze", unfreeze]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def run_ours(folder: Path, out: Path, arguments: argparse.Namespace, phase: str, changes: dict[str, object]) -> RunDir:
    """Run keras-bench with an empty cache and return the run's folder."""
    settings: dict[str, object] = {
        **ONLY_TRAINING,
        "dataset.source": "folder",
        "dataset.image_size": arguments.image_size,
        "dataset.test_fraction": 0.01,
        "tl.epochs": TL_EPOCHS,
        "tl.features": "cached",
        "training.early_stopping_patience": TL_EPOCHS,
        "latency.batch_sizes": "[1, 32]",
        "latency.seconds": 3.0,
        "export.int8": "false",
        **({"model.alpha": 0.75} if arguments.model == "MobileNet" else {}),
        **changes,
    }
    return train(arguments.model, phase, folder, out, settings, cache=out / "cache")


if __name__ == "__main__":
    main()
