"""Phase tl on cached features: the frozen backbone sees every image once, the head trains on what it gave."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_bench.console import Log, duration
from keras_bench.features.store import entry_for, evict
from keras_bench.jobs.prepare import Data, positions_of
from keras_bench.jobs.request import Job
from keras_bench.jobs.weights import InitialWeights
from keras_bench.records.results import FitOutcome


@dataclass(frozen=True)
class CachedFeatures:
    """What the frozen backbone gave.

    Attributes:
        train: one array a view of the training images, float32 (N, D), memory-mapped; the first is of plain images.
        val: of the validation images.
        test: of the test images.
        seconds: it took to compute train and val, now or when they were cached.
    """

    train: list[np.ndarray]
    val: np.ndarray
    test: np.ndarray
    seconds: float


def is_cached(job: Job, phase: str) -> bool:
    """Return whether a phase trains on cached features."""
    return phase == "tl" and job.config.tl.features == "cached"


def compute_features(
    job: Job, data: Data, weights: InitialWeights, model: Any, pipeline: Any, log: Log
) -> CachedFeatures:
    """Return the features of every split, computing what is not cached yet.

    Args:
        job: the run.
        data: its images.
        weights: what the backbone holds.
        model: with those weights.
        pipeline: the run's.
        log: shows progress.
    """
    from keras_bench.features.extract import extract
    from keras_bench.models.build import pooled_features

    backbone = pooled_features(model)
    passes = [("train", view) for view in range(job.config.tl.views)] + [("val", 0), ("test", 0)]
    total = sum(len(positions_of(data, split)) for split, _ in passes)
    found: dict[tuple[str, int], np.ndarray] = {}
    seconds = 0.0
    with log.progress("features of the frozen backbone", total, "images") as advance:
        for split, view in passes:
            positions = positions_of(data, split)
            about = _about(job, data, weights, positions, view)
            entry = entry_for(about)

            def batches(done: int, positions: np.ndarray = positions, view: int = view) -> Any:
                return pipeline.views(positions, job.config.augmentation, view, done)

            found[split, view] = extract(backbone, batches, len(positions), entry, about, advance)
            seconds += entry.read_facts()["seconds"] if split != "test" else 0.0
    evict(job.config.runtime.features_cache_mb << 20)
    train = [array for (split, _), array in found.items() if split == "train"]
    views = f"{len(train)} views" if len(train) > 1 else "1 view"
    log.line(
        f"features: {views} of each training image, {train[0].shape[1]:,} numbers an image; "
        f"train and val took {duration(seconds)}"
    )
    return CachedFeatures(train, found["val", 0], found["test", 0], seconds)


def _about(job: Job, data: Data, weights: InitialWeights, positions: np.ndarray, view: int) -> dict[str, Any]:
    """Return everything the features of one view of some images depend on."""
    about: dict[str, Any] = {
        "backbone": job.backbone.name,
        "alpha": job.config.model.alpha,
        "weights": weights.fingerprint,
        "image_size": job.image_size,
        "data": data.fingerprint,
        "positions": [int(position) for position in positions],
        "view": view,
    }
    if weights.path is None:
        about["seed"] = job.request.seed  # random weights
    if view:
        about |= {"augmentation": job.config.augmentation.model_dump(mode="json"), "seed": job.request.seed}
        about["batch_size"] = job.config.training.batch_size  # random changes are drawn batch by batch
    return about


def fit_head(
    job: Job, phase: Any, data: Data, model: Any, features: CachedFeatures, weights_file: Any, log: Log
) -> FitOutcome:
    """Train the head alone, then put it into the whole model and write that model's weights.

    Args:
        job: the run.
        phase: what to fit; its checkpoint is the head's.
        data: gives the labels.
        model: the whole model with its initial weights; gets the head of the best epoch.
        features: what the head trains on.
        weights_file: where the whole model's weights go.
        log: the screen.
    """
    from keras_bench.features.extract import feature_stream
    from keras_bench.jobs.stages import model_spec
    from keras_bench.models.build import build_head, copy_head
    from keras_bench.rundir import replacing
    from keras_bench.training.fit import fit_phase

    head = build_head(model_spec(job, data), features.val.shape[1])
    copy_head(model, head)
    phase.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    labels, batch_size = one_hot(data, "train"), job.config.training.batch_size
    epochs = job.config.tl.epochs
    outcome = fit_phase(
        head,
        phase,
        job.run,
        lambda start: feature_stream(features.train, labels, batch_size, job.request.seed, epochs, start),
        split_stream(job, data, "val", features.val),
        log,
    )
    head.load_weights(phase.checkpoint)
    copy_head(head, model)
    with replacing(weights_file) as path:
        model.save_weights(path)
    resolved = {**outcome.resolved, "feature_seconds": round(features.seconds, 1)}
    return replace(
        outcome,
        seconds=outcome.seconds + features.seconds,
        train_seconds=outcome.train_seconds + features.seconds,
        resolved=resolved,
    )


def split_stream(job: Job, data: Data, split: str, features: np.ndarray) -> Any:
    """Return the features of a split once, in order, with their labels, as tf.data batches."""
    import tensorflow as tf

    whole = tf.data.Dataset.from_tensor_slices((np.asarray(features), one_hot(data, split)))
    return whole.batch(job.config.training.batch_size).prefetch(2)


def head_of(job: Job, data: Data, model: Any, features: CachedFeatures) -> Any:
    """Return the head of a whole model alone."""
    from keras_bench.jobs.stages import model_spec
    from keras_bench.models.build import build_head, copy_head

    head = build_head(model_spec(job, data), features.val.shape[1])
    copy_head(model, head)
    return head


def one_hot(data: Data, split: str) -> np.ndarray:
    """Return the labels of a split, float32 (N, K)."""
    labels = data.index.labels[positions_of(data, split)]
    return np.eye(len(data.index.class_names), dtype=np.float32)[labels]
