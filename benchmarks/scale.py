"""Cost of a run as a function of its number of images: seconds per part, peak memory, deviation from a line.

    python -m benchmarks.scale --data tiny-imagenet-40.zip

The frozen phase of MobileNet 0.75 at 128 pixels with random weights, once with cached features, once streamed, and once
streamed without keeping decoded images, each in a fresh process with a separate cache. The line goes through the two
smaller sizes.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.command import ONLY_TRAINING, result_of, train
from benchmarks.results import append
from keras_bench.environment import describe_environment

COLUMNS = ("way", "images", "seconds", "per_image_ms", "peak_memory_mb", "parts", "cpu", "commit")
WAYS: dict[str, dict[str, object]] = {
    "cached": {"tl.features": "cached", "tl.epochs": 5},
    "streamed": {"tl.features": "streamed", "tl.epochs": 1},
    "streamed from disk": {"tl.features": "streamed", "tl.epochs": 1, "runtime.cache_memory_mb": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a zip in Tiny ImageNet's layout")
    parser.add_argument("--classes", type=int, default=40, help="number of classes in that zip")
    parser.add_argument(
        "--images",
        type=int,
        nargs=3,
        default=[1000, 5000, 20_000],
        help="training and validation images, from few to many",
    )
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    environment = describe_environment([])
    with tempfile.TemporaryDirectory() as scratch:
        for way in arguments.ways:
            seconds = []
            for images in arguments.images:
                parts, memory = measure(arguments, way, images, Path(scratch) / f"{way}-{images}")
                seconds.append(sum(parts.values()))
                figures = (f"{seconds[-1]:.1f}", f"{1000 * seconds[-1] / images:.2f}", f"{memory:.0f}")
                print(f"{way}, {images:,} images: {figures[0]} s, peak memory {figures[2]} MiB; {parts}", flush=True)
                provenance = (environment["cpu"], environment["commit"])
                append("scale", COLUMNS, (way, images, *figures, json.dumps(parts), *provenance))
            print(
                f"{way}: {seconds[2] / expected(arguments.images, seconds) - 1:+.1%} compared with the line", flush=True
            )


def expected(images: list[int], seconds: list[float]) -> float:
    """Return the seconds at the largest size on the line through the smaller two."""
    slope = (seconds[1] - seconds[0]) / (images[1] - images[0])
    return seconds[1] + slope * (images[2] - images[1])


def measure(arguments: argparse.Namespace, way: str, images: int, out: Path) -> tuple[dict[str, float], float]:
    """Return the seconds of each part that depends on the number of images, and the peak memory of the run in MiB."""
    settings = {
        **ONLY_TRAINING,
        "dataset.image_size": 128,
        "dataset.limit_per_class": images // arguments.classes,
        "model.alpha": 0.75,
        **WAYS[way],
    }
    run = train("MobileNet", "tl", arguments.data, out, settings, cache=out / "cache")
    parts = json.loads(run.timing.read_text())
    growing = ("features of frozen parts", "forward and backward", "validation")
    return {part: parts[part] for part in growing if part in parts}, result_of(run, "tl").peak_memory_mb


if __name__ == "__main__":
    main()
