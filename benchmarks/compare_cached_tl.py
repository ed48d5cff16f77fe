"""The whole frozen phase: ours on cached features against plain Keras, which runs the backbone in every epoch.

    python -m benchmarks.compare_cached_tl --data tiny-imagenet-40.zip --model MobileNet --views 1 4

Both train 15 epochs with validation after each, on 20 classes of 250 images at 224 pixels, batch 32, with random
weights (speed does not depend on their values). Of plain Keras a few epochs are run, and the rest is extrapolated.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.compare_tl import measure_plain, train_folder
from keras_bench.environment import describe_environment
from keras_bench.rundir import run_folder

CLASSES, IMAGES, EPOCHS = 20, 250, 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a zip in Tiny ImageNet's layout; without it, digits are used")
    parser.add_argument("--model", choices=("MobileNet", "EfficientNetB0", "ResNet50"), default="MobileNet")
    parser.add_argument("--views", type=int, nargs="+", default=[1])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--plain-epochs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = subset(train_folder(arguments.data, Path(scratch)), Path(scratch) / "subset")
        plain = plain_seconds(folder, arguments)
        print(f"plain Keras: {plain:,.0f} s for {EPOCHS} epochs, from {arguments.plain_epochs}", flush=True)
        for views in arguments.views:
            ours, features = our_seconds(folder, Path(scratch) / f"views{views}", arguments, views)
            print(
                f"N={views}: {ours:,.0f} s, of it features {features:,.0f} s: {plain / ours:.1f} times faster",
                flush=True,
            )
    environment = describe_environment([])
    print(f"{environment['cpu']}, {environment['cores']} cores, commit {environment['commit']}")


def subset(source: Path, target: Path) -> Path:
    """Copy the first images of the first classes into one folder a class."""
    for folder in sorted(path for path in source.iterdir() if path.is_dir())[:CLASSES]:
        (target / folder.name).mkdir(parents=True)
        images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
        for path in images[:IMAGES]:
            shutil.copy(path, target / folder.name / path.name)
    return target


def plain_seconds(folder: Path, arguments: argparse.Namespace) -> float:
    """Return the seconds plain Keras takes for all epochs: the first as measured, the rest at the others' median."""
    epochs = measure_plain(folder, arguments.plain_epochs, arguments.image_size, arguments.model)["epoch_seconds"]
    return epochs[0] + (EPOCHS - 1) * statistics.median(epochs[1:])


def our_seconds(folder: Path, out: Path, arguments: argparse.Namespace, views: int) -> tuple[float, float]:
    """Return the seconds of our whole phase, and of the features in them, from an empty cache."""
    words = ["run", "--experiment", "tiny-imagenet", "--model", arguments.model, "--phase", "tl", "--weights", "none"]
    words += ["--data", str(folder), "--out", str(out), "--no-export"]
    settings = {
        "dataset.source": "folder",
        "dataset.image_size": arguments.image_size,
        "dataset.test_fraction": 0.01,
        "tl.epochs": EPOCHS,
        "tl.features": "cached",
        "tl.views": views,
        "training.early_stopping_patience": EPOCHS,
        "explain.enabled": "false",
        "latency.enabled": "false",
        **({"model.alpha": 0.75} if arguments.model == "MobileNet" else {}),
    }
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    environment = {**os.environ, "KERAS_BENCH_CACHE": str(out / "cache")}
    subprocess.run(
        [sys.executable, "-m", "keras_bench", *words], check=True, stdout=subprocess.DEVNULL, env=environment
    )
    result = run_folder(out, "tiny-imagenet", arguments.model, 0).read_result("tl")
    assert result is not None
    return result.seconds, float(result.resolved["feature_seconds"])


if __name__ == "__main__":
    main()
