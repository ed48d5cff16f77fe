"""Training on cached features: the frozen layers compute the features of every image once, the tail trains on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_bench.console import Log, duration
from keras_bench.data.augmentation import AUGMENTATION_VERSION
from keras_bench.disk import free_bytes, size_text
from keras_bench.errors import RunError
from keras_bench.images import decoder_name
from keras_bench.models.forward import Forward, is_worth_converting, load_engine
from keras_bench.models.split import network_digest, split_frozen
from keras_bench.phases import Phase
from keras_bench.runs.data import Data, positions_of, training_rows
from keras_bench.runs.job import Job
from keras_bench.training.feature_eviction import evict
from keras_bench.training.feature_store import FEATURES_VERSION, entry_for, features_folder, load_or_compute_features
from keras_bench.training.feature_streams import feature_stream, ordered_stream
from keras_bench.training.fit import Examples, FitPlan, set_trainable

if TYPE_CHECKING:
    from keras_bench.runs.run import Run

MAX_STEPS_PER_EXECUTION = 32  # a single step of the head takes 5.9 ms, of which 2.5 ms are the return to Python


@dataclass(frozen=True)
class CachedFeatures:
    """The outputs of the model's frozen part.

    Attributes:
        train: one array per view of the training images, float32 (N, ...), memory-mapped; the first view is unchanged.
        val: features of the validation images, likewise.
        seconds: time it took to compute them, now or when they were cached.
    """

    train: list[np.ndarray]
    val: np.ndarray
    seconds: float


def compute_features(run: Run, phase: Phase, frozen: keras.Model) -> CachedFeatures:
    """Return the features of training and validation images, computing those that are not cached yet.

    Args:
        run: the run.
        phase: "tl" or "ft".
        frozen: the frozen part of the model, with the run's initial weights.

    Raises:
        RunError: there is too little disk space.
    """
    job, log = run.job, run.log
    images = {split: positions_of(run.data, split) for split in ("train", "val")}
    passes = [("train", view) for view in range(run.config.views_of(phase))] + [("val", 0)]
    total = sum(len(images[split]) for split, _ in passes)
    engine = "onnxruntime" if _worth_converting(job, total) else "keras"
    network = {"network": network_digest(frozen), "precision": _precision(frozen), **_engine_versions(engine)}
    dependencies = [{**_image_dependencies(run, images[split], view), **network} for split, view in passes]
    entries = [entry_for(values) for values in dependencies]
    row_bytes = 4 * int(np.prod(frozen.output_shape[1:]))
    missing = [
        row_bytes * len(images[split]) - entry.reserved_bytes()
        for (split, _), entry in zip(passes, entries, strict=True)
        if not entry.is_finished
    ]
    _require_space(sum(missing))

    @cache  # converted once, and only if there are features to compute
    def forward() -> tuple[Forward, int]:
        compared = next(iter(run.pipeline.evaluation(images["val"])))[0]
        return load_engine(engine, frozen, compared, "features", log)

    features = []
    with log.progress(f"{phase}: features of the frozen part", total, "images") as advance:
        for (split, view), entry, values in zip(passes, entries, dependencies, strict=True):
            stream = partial(run.pipeline.views, images[split], job.config.augmentation, view)
            shape = (len(images[split]), *frozen.output_shape[1:])
            features.append(load_or_compute_features(forward, stream, shape, entry, values, advance, log))
    seconds = sum(stored.seconds for stored in features)
    evict(job.config.runtime.features_cache_mb << 20)
    *train, val = (stored.array for stored in features)
    _print_summary(phase, train, seconds, engine, log)
    return CachedFeatures(train, val, seconds)


def _worth_converting(job: Job, images: int) -> bool:
    return job.config.training.mixed_precision == "none" and is_worth_converting(images * job.image_size**2)


def _require_space(missing: int) -> None:
    """Refuse to compute features that do not fit on the disk.

    Args:
        missing: bytes of the features that are not cached, less what interrupted processes have reserved for them.

    Raises:
        RunError: there is too little disk space.
    """
    folder = features_folder()
    if missing > free_bytes(folder):
        raise RunError(
            f"cached features need {size_text(missing)} in {folder}, but only {size_text(free_bytes(folder))} are "
            "free; make room, or use fewer views, features: streamed, or another folder by $KERAS_BENCH_CACHE"
        )


def _precision(network: keras.Model) -> str:
    """Return the precision a network computes in, e.g. "float32", or "bfloat16+float32" if layers differ."""
    return "+".join(sorted({layer.compute_dtype for layer in network.layers}))


def _engine_versions(engine: str) -> dict[str, object]:
    """Return engine, device and versions, on which the rounding of features depends.

    Those of Keras and TensorFlow matter for either engine, since they resize and augment the images.
    """
    import onnxruntime

    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    if engine == "onnxruntime":
        versions["onnxruntime"] = onnxruntime.__version__
    device = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    return {"engine": engine, "device": device, "versions": versions}


def _print_summary(phase: Phase, train: list[np.ndarray], seconds: float, engine: str, log: Log) -> None:
    views = f"{len(train)} views" if len(train) > 1 else "1 view"
    name = {"onnxruntime": "ONNX Runtime", "keras": "Keras"}[engine]
    log.line(
        f"{phase}: features of {views} of each training image, {np.prod(train[0].shape[1:]):,} numbers per image; "
        f"train and val took {duration(seconds)} by {name}"
    )


def _image_dependencies(run: Run, positions: np.ndarray, view: int) -> dict[str, object]:
    """Return everything the features of one view of some images depend on, except the network and its engine."""
    job = run.job
    dependencies: dict[str, object] = {
        "version": FEATURES_VERSION,
        "decoder": decoder_name(),
        "backbone": job.backbone.name,
        "alpha": job.config.model.alpha,
        "weights": run.weights.fingerprint,
        "image_size": job.image_size,
        "data": run.data.fingerprint,
        "positions": [int(position) for position in positions],
        "view": view,
    }
    if run.weights.path is None:
        dependencies["seed"] = job.request.seed  # random weights
    if view:
        dependencies |= {"augmentation": job.config.augmentation.model_dump(mode="json"), "seed": job.request.seed}
        dependencies["augmentation_version"] = AUGMENTATION_VERSION
        dependencies["batch_size"] = job.config.training.portion_size  # random changes are drawn batch by batch
    return dependencies


def features_for(run: Run, plan: FitPlan, model: keras.Model) -> Examples:
    """Return streams of features for the layers after the model's frozen part, computing those not cached yet.

    Args:
        run: the run.
        plan: plan of the phase.
        model: the whole model with the weights the phase starts from.

    Raises:
        RunError: every block trains, or there is too little disk space.
    """
    set_trainable(model, plan)
    try:
        frozen, tail = split_frozen(model)
    except ValueError as error:
        raise RunError(f"{plan.phase}.features: cached: {error}; use streamed, or unfreeze fewer blocks") from error
    with run.log.timed("features of frozen parts"):
        features = compute_features(run, plan.phase, frozen)
    labels, batch_size = one_hot(run.data, "train"), run.config.training.portion_size
    rows, seed = training_rows(run.job, run.data), run.job.request.seed

    def order_of(epoch: int) -> np.ndarray:
        return rows[np.asarray(run.pipeline.order(len(rows), epoch))]

    return Examples(
        model=tail,
        training=lambda start: feature_stream(features.train, labels, batch_size, order_of, seed, start),
        validation=ordered_stream(features.val, one_hot(run.data, "val"), batch_size),
        seconds=features.seconds,
    )


def one_hot(data: Data, split: str) -> np.ndarray:
    """Return the one-hot labels of a split, float32 (N, K)."""
    labels = data.index.labels[positions_of(data, split)]
    return np.eye(len(data.index.class_names), dtype=np.float32)[labels]
