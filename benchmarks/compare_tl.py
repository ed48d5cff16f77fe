"""The frozen phase, ours against plain Keras, in turn in one run: images/s, peak memory, their ratios.

    make bench DATA=tiny-imagenet-40.zip [ARGS="--rounds 3"]

Both use random weights of MobileNet 0.75 (speed does not depend on their values), 128 pixels, batch 32. The first
epoch of each holds the building of the graph and is left out.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from keras_bench.console import Log
from keras_bench.data.archive import extracted
from keras_bench.data.digits import open_digits
from keras_bench.environment import describe_environment
from keras_bench.rundir import run_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a zip in Tiny ImageNet's layout; without it, digits are used")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = train_folder(arguments.data, Path(scratch))
        ratios = []
        for number in range(arguments.rounds):
            ours = run_ours(folder, Path(scratch) / f"runs{number}", arguments.epochs)
            plain = run_plain(folder, arguments.epochs)
            ratios.append((ours[0] / plain[0], ours[1] / plain[1]))
            for who, (rate, memory) in (("ours", ours), ("plain Keras", plain)):
                print(f"round {number + 1}: {who} {rate:.0f} images/s, {memory:.0f} MB", flush=True)
    report(ratios)


def train_folder(data: Path | None, scratch: Path) -> Path:
    """One folder a class that both sides read: Tiny ImageNet's train/, or digits written as files."""
    if data is not None:
        root = extracted(data, Log())
        return next(root.rglob("train"))
    index = open_digits()
    for position, name in enumerate(index.ids):
        (scratch / "digits" / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / "digits" / name).write_bytes(index.read(position))
    return scratch / "digits"


def run_ours(folder: Path, out: Path, epochs: int) -> tuple[float, float]:
    words = ["run", "--experiment", "tiny-imagenet", "--model", "MobileNet", "--phase", "tl", "--weights", "none"]
    words += ["--data", str(folder), "--out", str(out), "--set", "dataset.source=folder", "--set", "model.alpha=0.75"]
    words += ["--set", "dataset.image_size=128", "--set", f"tl.epochs={epochs}", "--set", "dataset.test_fraction=0.01"]
    words += ["--no-export", "--set", "explain.enabled=false", "--set", "latency.enabled=false"]
    subprocess.run([sys.executable, "-m", "keras_bench", *words], check=True, stdout=subprocess.DEVNULL)
    run = run_folder(out, "tiny-imagenet", "MobileNet", 0)
    with run.history("tl").open() as stream:
        seconds = [float(row["train_seconds"]) for row in csv.DictReader(stream)][1:]
    images = json.loads(run.dataset.read_text())["images"]["train"]
    result = run.read_result("tl")
    assert result is not None
    return images / statistics.median(seconds), result.peak_memory_mb


def measure_plain(folder: Path, epochs: int, image_size: int = 128, model: str = "MobileNet") -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.plain_keras_tl", str(folder), "--epochs", str(epochs)]
    command += ["--image-size", str(image_size), "--model", model]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return dict(json.loads(output.splitlines()[-1]))


def run_plain(folder: Path, epochs: int) -> tuple[float, float]:
    measured = measure_plain(folder, epochs)
    return measured["images"] / statistics.median(measured["train_seconds"][1:]), measured["peak_memory_mb"]


def report(ratios: list[tuple[float, float]]) -> None:
    for name, column in (("images/s", 0), ("peak memory", 1)):
        values = sorted(ratio[column] for ratio in ratios)
        middle = statistics.median(values)
        print(f"{name}, ours / plain Keras: median {middle:.2f} (min {values[0]:.2f}, max {values[-1]:.2f})")
    environment = describe_environment([])
    print(
        f"{environment['cpu']}, {environment['cores']} cores, TensorFlow {environment['packages']['tensorflow']}, "
        f"Keras {environment['packages']['keras']}, commit {environment['commit']}"
    )


if __name__ == "__main__":
    main()
