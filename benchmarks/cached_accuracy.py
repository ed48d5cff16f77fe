"""What training the head on cached features costs in accuracy: N views against streaming, on the same test images.

    KERAS_HOME=… python -m benchmarks.cached_accuracy --data tiny-imagenet-40.zip

MobileNet 0.75 with ImageNet weights at 128 pixels, 20 classes of 100 images, 15 epochs, three seeds. The difference to
streaming is averaged over seeds; its 95 % interval is a bootstrap over test images, the same for both sides.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.command import NO_POST_STAGE, result_of, train
from benchmarks.results import append
from keras_bench.environment import describe_environment
from keras_bench.evaluation.statistics import mean_interval
from keras_bench.records.predictions import Predictions

COLUMNS = ("views", "seeds", "top1", "difference_points", "low", "high", "seconds", "cpu", "commit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a zip in Tiny ImageNet's layout")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    environment = describe_environment([])
    place = (environment["cpu"], environment["commit"])
    with tempfile.TemporaryDirectory() as scratch:
        streamed, seconds = train_seeds(arguments, Path(scratch), 0)
        top1 = f"{streamed.mean():.4f}"
        append("cached_accuracy", COLUMNS, ("streamed", arguments.seeds, top1, 0, 0, 0, seconds, *place))
        for views in arguments.views:
            cached, seconds = train_seeds(arguments, Path(scratch), views)
            gap, low, high = difference(cached, streamed)
            print(f"{views} views: top-1 {cached.mean():.1%}, {gap:+.2f} points [{low:+.2f}, {high:+.2f}]", flush=True)
            figures = (f"{cached.mean():.4f}", f"{gap:.2f}", f"{low:.2f}", f"{high:.2f}", seconds)
            append("cached_accuracy", COLUMNS, (views, arguments.seeds, *figures, *place))


def train_seeds(arguments: argparse.Namespace, out: Path, views: int) -> tuple[np.ndarray, str]:
    """Return which test images each seed got right, bool (seeds, N), and the mean seconds of the phase; 0: streamed."""
    right, seconds = [], []
    variant = f"views{views}" if views else "streamed"
    settings: dict[str, object] = {
        **NO_POST_STAGE,
        "dataset.image_size": 128,
        "dataset.classes": classes(arguments.data),
        "dataset.limit_per_class": 100,
        "model.alpha": 0.75,
        "tl.features": "cached" if views else "streamed",
        **({"tl.views": views} if views else {}),
        "training.early_stopping_patience": 15,
    }
    for seed in range(arguments.seeds):
        run = train("MobileNet", "tl", arguments.data, out, settings, "imagenet", seed, variant)
        test = Predictions.from_npz(run.predictions("tl", "test"))
        right.append(test.probabilities.argmax(axis=1) == test.labels)
        seconds.append(result_of(run, "tl").seconds)
        print(f"{variant}, seed {seed}: top-1 {right[-1].mean():.1%}, {seconds[-1]:.0f} s", flush=True)
    return np.stack(right), f"{np.mean(seconds):.1f}"


def classes(data: Path) -> str:
    """Return the first 20 class names of the zip as a YAML list."""
    import zipfile

    names = {Path(name).parts for name in zipfile.ZipFile(data).namelist()}
    found = sorted({parts[parts.index("train") + 1] for parts in names if "train" in parts[:-2]})
    return f"[{', '.join(found[:20])}]"


def difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Return the mean difference of top-1 in points and its 95 % interval over test images."""
    gaps = 100 * (ours.astype(float) - theirs.astype(float)).mean(axis=0)
    found = mean_interval(gaps, resamples=10_000)
    return found.value, found.low, found.high


if __name__ == "__main__":
    main()
