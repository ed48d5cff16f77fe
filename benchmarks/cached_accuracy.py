"""Accuracy of a head trained on N cached views, compared with a fresh view of every image in every epoch.

    KERAS_HOME=… python -m benchmarks.cached_accuracy --data tiny-imagenet-40.zip --seeds 8

MobileNet 0.75 with ImageNet weights at 128 pixels, 20 classes with 100 images each, 15 epochs, 1,000 test images. Fresh
views represent streaming: without augmentation, the two train identically except for rounding
(tests/training/test_cached_features.py), and a head trains on features within seconds, which makes many seeds
affordable. A seed determines the views, the initial head and the order of images. Within a seed, every number of views
uses the same draws, which alone change top-1 by a point; the differences are computed within a seed. Seeds share only
the images, so the standard error over seeds describes independent draws; it says nothing about other data.

The weights are those for 224 pixels, as when the first figures were measured.
"""

import argparse
import tempfile
import zipfile
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import append
from keras_bench.console import Log
from keras_bench.environment import describe_environment
from keras_bench.models.start import start_tensorflow
from keras_bench.runs.data import load_data, open_data, positions_of
from keras_bench.runs.job import Request, resolve
from keras_bench.runs.run import Run
from keras_bench.runs.weights import find_weights
from keras_bench.training.cached_features import CachedFeatures, compute_features, one_hot
from keras_bench.training.phase import fit_plan, starting_model

COLUMNS = (
    "views", "seeds", "top1", "difference_points", "standard_error", "views_drawn", "settings", "cpu", "commit",
)  # fmt: skip
FRESH = 0  # instead of a number of views: a new augmented view in every epoch, never the plain image


@dataclass(frozen=True)
class Bench:
    """What all seeds share.

    Attributes:
        run: data, configuration and weights.
        frozen: the frozen backbone, a Keras model.
        test: features of the test images, float32, (N, features).
    """

    run: Run
    frozen: Any
    test: np.ndarray


@dataclass(frozen=True)
class Draw:
    """The run and the cached features of one seed, shared by every number of views."""

    run: Run
    features: CachedFeatures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a zip in Tiny ImageNet's layout")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, default=24, help="at least 2; each computes the features of EPOCHS views")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="as in run")
    arguments = parser.parse_args()
    if not 1 <= min(arguments.views) <= max(arguments.views) <= arguments.epochs + 1:
        parser.error(f"--views: expected 1 to {arguments.epochs + 1}, one more than --epochs")
    if arguments.seeds < 2:
        parser.error("--seeds: expected at least 2; a single seed has no standard error")
    with tempfile.TemporaryDirectory() as scratch:
        bench = prepare(arguments, Path(scratch))
        accuracies = {views: [] for views in (FRESH, *arguments.views)}
        for seed in range(arguments.seeds):
            draw = draw_of(bench, seed)
            for views in accuracies:
                accuracies[views].append(train_head(bench, draw, views))
            latest = {views or "fresh": f"{values[-1]:.1%}" for views, values in accuracies.items()}
            print(f"seed {seed}:", latest, flush=True)
    keep(accuracies, [*(f"{name}={getattr(arguments, name)}" for name in ("epochs", "classes")), *arguments.settings])


def keep(accuracies: dict[int, list[float]], settings: list[str]) -> None:
    """Print and record the mean top-1 per number of views, and its difference to fresh views with standard error."""
    environment = describe_environment([])
    for views, values in accuracies.items():
        points = 100 * (np.array(values) - np.array(accuracies[FRESH]))
        error = points.std(ddof=1) / np.sqrt(len(points))
        print(f"{views or 'fresh'} views: top-1 {np.mean(values):.1%}, {points.mean():+.2f} points, error {error:.2f}")
        figures = (f"{np.mean(values):.4f}", f"{points.mean():.2f}", f"{error:.2f}")
        provenance = (environment["cpu"], environment["commit"])
        row = (views or "fresh", len(values), *figures, "per seed", " ".join(settings), *provenance)
        append("cached_accuracy", COLUMNS, row)


def prepare(arguments: argparse.Namespace, out: Path) -> Bench:
    """Read the data, and compute the features of the test images."""
    from keras_bench.models.forward import keras_forward
    from keras_bench.models.split import split_frozen

    settings = (
        "dataset.image_size=128",
        f"dataset.classes={first_classes(arguments.data, arguments.classes)}",
        "dataset.limit_per_class=100",
        "model.alpha=0.75",
        "model.weights_size=224",
        f"tl.epochs={arguments.epochs}",
        f"tl.views={arguments.epochs + 1}",
        f"training.early_stopping_patience={arguments.epochs}",
        "runtime.tensorboard=false",
        *arguments.settings,
    )
    job = resolve(Request("tiny-imagenet", "MobileNet", "tl", arguments.data, "imagenet", out=out, settings=settings))
    log = Log()
    weights = find_weights(job, log)
    data = load_data(job, *open_data(job, log), log)
    start_tensorflow(log)
    run = Run(job, data, log, weights)
    frozen, _ = split_frozen(set_frozen(run, starting_model(run, None)))
    forward = keras_forward(frozen)
    test = np.concatenate([forward(images) for images, _ in run.pipeline.evaluation(positions_of(data, "test"))])
    return Bench(run, frozen, test)


def draw_of(bench: Bench, seed: int) -> Draw:
    """Compute the features of the plain images, and of one augmented view of each image per epoch."""
    job = bench.run.job
    run = replace(bench.run, job=replace(job, request=replace(job.request, seed=seed)))
    return Draw(run, compute_features(run, "tl", bench.frozen))


def train_head(bench: Bench, draw: Draw, views: int) -> float:
    """Return the test top-1 of a head trained on this many views (or FRESH), at its best epoch on validation."""
    from keras_bench.models.split import split_frozen
    from keras_bench.training.feature_streams import feature_stream, ordered_stream
    from keras_bench.training.fit import Examples, fit_phase

    run, train, seed = draw.run, draw.features.train, draw.run.job.request.seed
    _, head = split_frozen(set_frozen(run, starting_model(run, None)))
    labels, batch = one_hot(run.data, "train"), run.config.training.batch_size

    def order_of(epoch: int) -> np.ndarray:
        return np.asarray(run.pipeline.order(len(labels), epoch))

    def stream(start: int) -> Any:
        if views != FRESH:
            return feature_stream(train[:views], labels, batch, order_of, seed, start)
        epochs = [
            feature_stream([train[epoch + 1]], labels, batch, order_of, seed, epoch)
            for epoch in range(start, run.config.tl.epochs)
        ]
        return reduce(lambda before, after: before.concatenate(after), epochs)

    plan = plan_of(run)
    plan.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    validation = ordered_stream(draw.features.val, one_hot(run.data, "val"), batch)
    fit_phase(head, plan, run.folder, Examples(head, stream, validation), run.log)
    head.load_weights(plan.checkpoint)
    run.folder.remove_state("tl")  # the next head starts from scratch
    predicted = head.predict(bench.test, batch_size=500, verbose=0).argmax(axis=1)
    return float((predicted == run.data.index.labels[positions_of(run.data, "test")]).mean())


def set_frozen(run: Run, model: Any) -> Any:
    """Freeze the backbone of a model and return it."""
    from keras_bench.training.fit import set_trainable

    set_trainable(model, plan_of(run))
    return model


def plan_of(run: Run) -> Any:
    """Return the plan of phase tl."""
    steps = run.pipeline.steps(len(positions_of(run.data, "train")))
    return replace(fit_plan(run, "tl", steps=steps), checkpoint=run.folder.tail_weights("tl"))


def first_classes(data: Path, count: int) -> str:
    """Return the first class names of the zip as a YAML list."""
    names = {Path(name).parts for name in zipfile.ZipFile(data).namelist()}
    class_names = sorted({parts[parts.index("train") + 1] for parts in names if "train" in parts[:-2]})
    return f"[{', '.join(class_names[:count])}]"


if __name__ == "__main__":
    main()
