"""Training on cached features: the frozen part of the model sees every image once, the rest trains on what it gave."""

import shutil
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from keras_bench.config.schema import TransferConfig
from keras_bench.console import Log, duration
from keras_bench.environment import usable_cores
from keras_bench.errors import RunError
from keras_bench.images import decoder_name
from keras_bench.runs.data import Data, positions_of, training_rows
from keras_bench.runs.job import Job
from keras_bench.runs.results import FitOutcome
from keras_bench.runs.weights import InitialWeights
from keras_bench.training.auxiliary import fit_part
from keras_bench.training.feature_store import VERSION, entry_for, evict, extract, features_folder

# Below so many pixels in all, converting the network to ONNX takes longer than ONNX Runtime saves. The rule must not
# depend on a clock: the two differ by rounding errors, and a run must give the same digits again.
PIXELS_WORTH_CONVERTING = 50_000_000
MOST_STEPS = 32  # a step of the head alone: 5.9 ms one at a time, of which 2.5 ms are the way back to Python
TOLERANCE = 1e-3  # of the largest feature; between ONNX Runtime and Keras


@dataclass(frozen=True)
class CachedFeatures:
    """What the frozen part gave.

    Attributes:
        train: one array a view of the training images, float32 (N, ...), memory-mapped; the first is of plain images.
        val: of the validation images.
        seconds: it took to compute them, now or when they were cached.
    """

    train: list[np.ndarray]
    val: np.ndarray
    seconds: float


def is_cached(job: Job, phase: str) -> bool:
    """Return whether a phase trains on cached features."""
    settings = job.config.phase(phase)
    return isinstance(settings, TransferConfig) and settings.features == "cached"


def views_of(job: Job, phase: str) -> int:
    """Return how many views of each training image a cached phase computes; unchanged views would all be the same."""
    settings = job.config.phase(phase)
    assert isinstance(settings, TransferConfig)
    return 1 if job.config.augmentation.is_off else settings.views


def compute_features(
    job: Job, phase: str, data: Data, weights: InitialWeights, frozen: Any, pipeline: Any, log: Log
) -> CachedFeatures:
    """Return the features of training and validation images, computing what is not cached yet.

    Args:
        job: the run.
        phase: "tl" or "ft".
        data: its images.
        weights: what the run started from; what is frozen still holds it.
        frozen: the part of the model to run.
        pipeline: the run's.
        log: shows progress.

    Raises:
        RunError: the disk is too full.
    """
    from keras_bench.models.split import network_digest

    images = {split: positions_of(data, split) for split in ("train", "val")}
    passes = [("train", view) for view in range(views_of(job, phase))] + [("val", 0)]
    total = sum(len(images[split]) for split, _ in passes)
    engine = "onnxruntime" if _worth_converting(job, total) else "keras"
    given = {"network": network_digest(frozen), "precision": _precision(frozen), **_origin(engine)}
    abouts = [{**_about(job, data, weights, images[split], view), **given} for split, view in passes]
    entries = [entry_for(about) for about in abouts]
    missing = sum(
        len(images[split]) for (split, _), entry in zip(passes, entries, strict=True) if not entry.is_finished
    )
    _check_disk(4 * missing * int(np.prod(frozen.output_shape[1:])))

    @cache  # converted once, and only if something is to be computed
    def forward() -> Any:
        return _forward(engine, frozen, next(iter(pipeline.evaluation(images["val"])))[0], log)

    found = []
    with log.progress(f"{phase}: features of the frozen part", total, "images") as advance:
        for (split, view), entry, about in zip(passes, entries, abouts, strict=True):
            stream = partial(pipeline.views, images[split], job.config.augmentation, view)
            shape = (len(images[split]), *frozen.output_shape[1:])
            found.append(extract(forward, stream, shape, entry, about, advance, log))
    seconds = sum(stored.seconds for stored in found)
    evict(job.config.runtime.features_cache_mb << 20)
    *train, val = (stored.array for stored in found)
    _describe(phase, train, seconds, engine, log)
    return CachedFeatures(train, val, seconds)


def _worth_converting(job: Job, images: int) -> bool:
    import tensorflow as tf

    if job.config.training.mixed_precision != "none" or tf.config.list_physical_devices("GPU"):
        return False
    return images * job.image_size**2 >= PIXELS_WORTH_CONVERTING


def _check_disk(needed: int) -> None:
    folder = features_folder()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"cached features need {needed / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free; "
            "use fewer views, features: streamed, or another folder by $KERAS_BENCH_CACHE"
        )


def _precision(network: Any) -> str:
    """Return what a network computes in, e.g. "float32"; "bfloat16+float32" where layers differ."""
    return "+".join(sorted({layer.compute_dtype for layer in network.layers}))


def _origin(engine: str) -> dict[str, Any]:
    """Return what computes features: other versions, and other devices, round differently.

    Keras and TensorFlow count with either engine, since they resize and augment the images.
    """
    import keras
    import onnxruntime
    import tensorflow as tf

    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    if engine == "onnxruntime":
        versions["onnxruntime"] = onnxruntime.__version__
    device = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    return {"engine": engine, "device": device, "versions": versions}


def _forward(engine: str, frozen: Any, images: Any, log: Log) -> tuple[Any, int]:
    """Return what computes features, and how many threads may call it at a time.

    ONNX Runtime where it was chosen and gives Keras's numbers for some images, else Keras.
    """
    from keras_bench.models.forward import keras_forward, onnx_forward
    from keras_bench.models.onnx import network_to_onnx

    plain = keras_forward(frozen)
    if engine == "keras":
        return plain, 1
    fast = onnx_forward(network_to_onnx(frozen).SerializeToString())
    expected, found = plain(images), fast(images)
    difference = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12)
    if not difference <= TOLERANCE:
        log.warn(f"ONNX Runtime's features differ from Keras's by {difference:.1e} of the largest: Keras computes them")
        return plain, 1
    return fast, usable_cores()


def _describe(phase: str, train: list[np.ndarray], seconds: float, engine: str, log: Log) -> None:
    views = f"{len(train)} views" if len(train) > 1 else "1 view"
    by = {"onnxruntime": "ONNX Runtime", "keras": "Keras"}[engine]
    log.line(
        f"{phase}: features of {views} of each training image, {np.prod(train[0].shape[1:]):,} numbers an image; "
        f"train and val took {duration(seconds)} by {by}"
    )


def _about(job: Job, data: Data, weights: InitialWeights, positions: np.ndarray, view: int) -> dict[str, Any]:
    """Return everything the features of one view of some images depend on, but the network and what runs it."""
    about: dict[str, Any] = {
        "version": VERSION,
        "decoder": decoder_name(),
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
        from keras_bench.data.augmentation import VERSION as AUGMENTATION_VERSION

        about |= {"augmentation": job.config.augmentation.model_dump(mode="json"), "seed": job.request.seed}
        about["augmentation_version"] = AUGMENTATION_VERSION
        about["batch_size"] = job.config.training.portion_size  # random changes are drawn batch by batch
    return about


def fit_on_features(
    job: Job, phase: Any, data: Data, weights: InitialWeights, model: Any, pipeline: Any, log: Log
) -> FitOutcome:
    """Train what lies behind the frozen part on its features, and write the weights of the whole model.

    Args:
        job: the run.
        phase: what to fit.
        data: its images and labels.
        weights: what the run started from.
        model: the whole model with the weights the phase starts from.
        pipeline: the run's.
        log: the screen.

    Raises:
        RunError: every block trains, or the disk is too full.
    """
    from keras_bench.models.split import split_frozen
    from keras_bench.training.feature_extraction import feature_stream, ordered_stream
    from keras_bench.training.fit import set_phase_of

    set_phase_of(model, phase)
    try:
        frozen, rest = split_frozen(model)
    except ValueError as error:
        raise RunError(f"{phase.name}.features: cached: {error}; use streamed, or unfreeze fewer blocks") from error
    with log.timed("features of frozen parts"):
        features = compute_features(job, phase.name, data, weights, frozen, pipeline, log)
    labels, batch_size = one_hot(data, "train"), job.config.training.portion_size
    rows = training_rows(job, data)

    def order_of(epoch: int) -> np.ndarray:
        return rows[np.asarray(pipeline.order(len(rows), epoch))]

    outcome = fit_part(
        job,
        phase,
        model,
        rest,
        lambda start: feature_stream(features.train, labels, batch_size, order_of, job.request.seed, start),
        ordered_stream(features.val, one_hot(data, "val"), batch_size),
        log,
    )
    resolved = {**outcome.resolved, "feature_seconds": round(features.seconds, 1)}
    return replace(
        outcome,
        seconds=outcome.seconds + features.seconds,
        train_seconds=outcome.train_seconds + features.seconds,
        resolved=resolved,
    )


def one_hot(data: Data, split: str) -> np.ndarray:
    """Return the labels of a split, float32 (N, K)."""
    labels = data.index.labels[positions_of(data, split)]
    return np.eye(len(data.index.class_names), dtype=np.float32)[labels]
