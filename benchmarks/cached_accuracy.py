"""What training the head on N cached views costs in accuracy, against a fresh view of every image in every epoch.

    KERAS_HOME=… python -m benchmarks.cached_accuracy --data tiny-imagenet-40.zip --seeds 8

MobileNet 0.75 with ImageNet weights at 128 pixels, 20 classes of 100 images, 15 epochs, 1,000 test images. A fresh view
stands for streaming: without augmentation both train the same but for rounding
(tests/training/test_cached_features.py), and on features a head takes seconds, so that many seeds can be had. A seed is
one whole draw: of its views, the start of its head and its order of images. All ways of a seed share that draw, which
alone moves top-1 by a point, and what is compared is the difference within a seed. Seeds share nothing but the images,
so the standard error over seeds is one over independent draws; it says nothing of other data.

The weights are those for 224 pixels, as they were when the first figures were measured.
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
FRESH = 0  # a view of its own in every epoch, never the plain one


@dataclass(frozen=True)
class Bench:
    """Everything that all seeds share."""

    run: Run
    frozen: Any
    test: np.ndarray


@dataclass(frozen=True)
class Draw:
    """Everything that the ways of one seed share."""

    run: Run
    features: CachedFeatures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a zip in Tiny ImageNet's layout")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, default=24, help="at least 2; each computes features of EPOCHS views")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="as in run")
    arguments = parser.parse_args()
    if not 1 <= min(arguments.views) <= max(arguments.views) <= arguments.epochs + 1:
        parser.error(f"--views: expected 1 to {arguments.epochs + 1}, one more than --epochs")
    if arguments.seeds < 2:
        parser.error("--seeds: expected at least 2; one alone has no standard error")
    with tempfile.TemporaryDirectory() as scratch:
        bench = prepare(arguments, Path(scratch))
        accuracies = {way: [] for way in (FRESH, *arguments.views)}
        for seed in range(arguments.seeds):
            draw = draw_of(bench, seed)
            for way in accuracies:
                accuracies[way].append(train_head(bench, draw, way))
            print(
                f"seed {seed}:", {way or "fresh": f"{values[-1]:.1%}" for way, values in accuracies.items()}, flush=True
            )
    keep(accuracies, [*(f"{name}={getattr(arguments, name)}" for name in ("epochs", "classes")), *arguments.settings])


def keep(accuracies: dict[int, list[float]], settings: list[str]) -> None:
    """Print and record the top-1 of every way, and its difference to fresh views within a seed with standard error."""
    environment = describe_environment([])
    for way, values in accuracies.items():
        gaps = 100 * (np.array(values) - np.array(accuracies[FRESH]))
        error = gaps.std(ddof=1) / np.sqrt(len(gaps))
        print(f"{way or 'fresh'} views: top-1 {np.mean(values):.1%}, {gaps.mean():+.2f} points, error {error:.2f}")
        figures = (f"{np.mean(values):.4f}", f"{gaps.mean():.2f}", f"{error:.2f}")
        place = (environment["cpu"], environment["commit"])
        row = (way or "fresh", len(values), *figures, "per seed", " ".join(settings), *place)
        append("cached_accuracy", COLUMNS, row)


def prepare(arguments: argparse.Namespace, out: Path) -> Bench:
    """Read the data, and compute the features of the test images."""
    from keras_bench.models.forward import keras_forward
    from keras_bench.models.split import split_frozen

    settings = (
        "dataset.image_size=128",
        f"dataset.classes={classes(arguments.data, arguments.classes)}",
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
    """Compute the features of the plain images and of a seed's own view of each image for every epoch."""
    job = bench.run.job
    run = replace(bench.run, job=replace(job, request=replace(job.request, seed=seed)))
    return Draw(run, compute_features(run, "tl", bench.frozen))


def train_head(bench: Bench, draw: Draw, way: int) -> float:
    """Return the top-1 on test of a head trained on `way` views, in the epoch that val chooses."""
    from keras_bench.models.split import split_frozen
    from keras_bench.training.feature_extraction import feature_stream, ordered_stream
    from keras_bench.training.fit import Examples, fit_phase
    from keras_bench.training.resume import discard_state

    run, views, seed = draw.run, draw.features.train, draw.run.job.request.seed
    _, head = split_frozen(set_frozen(run, starting_model(run, None)))
    labels, batch = one_hot(run.data, "train"), run.config.training.batch_size

    def order_of(epoch: int) -> np.ndarray:
        return np.asarray(run.pipeline.order(len(labels), epoch))

    def stream(start: int) -> Any:
        if way != FRESH:
            return feature_stream(views[:way], labels, batch, order_of, seed, start)
        epochs = [
            feature_stream([views[epoch + 1]], labels, batch, order_of, seed, epoch)
            for epoch in range(start, run.config.tl.epochs)
        ]
        return reduce(lambda before, after: before.concatenate(after), epochs)

    plan = plan_of(run)
    plan.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    validation = ordered_stream(draw.features.val, one_hot(run.data, "val"), batch)
    fit_phase(head, plan, run.folder, Examples(head, stream, validation), run.log)
    head.load_weights(plan.checkpoint)
    discard_state(run.folder.state("tl"))  # the next head starts afresh
    predicted = head.predict(bench.test, batch_size=500, verbose=0).argmax(axis=1)
    return float((predicted == run.data.index.labels[positions_of(run.data, "test")]).mean())


def set_frozen(run: Run, model: Any) -> Any:
    """Freeze the backbone of a model and return it."""
    from keras_bench.training.fit import set_trainable

    set_trainable(model, plan_of(run))
    return model


def plan_of(run: Run) -> Any:
    """Return how phase tl is fitted."""
    steps = run.pipeline.steps(len(positions_of(run.data, "train")))
    return replace(fit_plan(run, "tl", steps=steps), checkpoint=run.folder.tail_weights("tl"))


def classes(data: Path, count: int) -> str:
    """Return the first class names of the zip as a YAML list."""
    names = {Path(name).parts for name in zipfile.ZipFile(data).namelist()}
    found = sorted({parts[parts.index("train") + 1] for parts in names if "train" in parts[:-2]})
    return f"[{', '.join(found[:count])}]"


if __name__ == "__main__":
    main()
