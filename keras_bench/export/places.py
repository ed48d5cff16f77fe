"""Where a run's bundles are stored, whether they are current, and their predictions for a data set. No TensorFlow."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from keras_bench.bundle.model import Bundle
from keras_bench.config.schema import ExportConfig
from keras_bench.console import Log
from keras_bench.cost.cost_file import file_identity
from keras_bench.data.index import ImageIndex
from keras_bench.data.store import ImageStore
from keras_bench.environment import usable_cores
from keras_bench.export.earlier import changed_in_bundle
from keras_bench.parallel import map_in_order
from keras_bench.phases import Phase
from keras_bench.reading import read_intact, read_record
from keras_bench.runs.damage import is_unreadable
from keras_bench.runs.fingerprint import changed_settings
from keras_bench.runs.job import Job

BUNDLE_BATCH = 32


def bundle_name(job: Job, phase: Phase) -> str:
    """Return the name of a phase's bundle in the experiment's exports folder."""
    return f"{job.folder.model_name}-{phase}-seed{job.folder.seed}"


def export_finished(job: Job, phase: Phase) -> bool:
    """Return whether the phase's bundle is intact and was made from this very model with these settings."""
    if not _has_bundle(job, phase) or damaged_exports(job, phase):
        return False
    folder = job.exports / bundle_name(job, phase)
    bundle, recorded = read_record(job.folder.export(phase), lambda content: (content["bundle"], content["made_of"]))
    same_folder = (job.folder.root / bundle).resolve() == folder.resolve()
    return same_folder and not changed_settings(recorded, made_of(job, phase), ExportConfig().model_dump(mode="json"))


def damaged_exports(job: Job, phase: Phase) -> list[Path]:
    """Return export.json if it is damaged, and the files of the phase's bundle that are damaged or missing."""
    record, folder = job.folder.export(phase), job.exports / bundle_name(job, phase)
    damaged = [record] if is_unreadable(record) else []
    return [*damaged, *(changed_in_bundle(folder) if folder.is_dir() else [])]


def phases_to_export(job: Job) -> tuple[Phase, ...]:
    """Return the phases of a trained run that shall have a bundle, in order.

    With `export.phases` at "final" they are the final phase, and each other phase that has a bundle already: one that
    was asked for by name, or made when every phase was exported, is kept as whole and as current as that of the final
    phase. A bundle whose folder someone removed stays removed.
    """
    if job.config.export.phases == "all":
        return job.phases
    final = read_intact(job.folder.run, lambda content: content["final_phase"])
    return tuple(phase for phase in job.phases if phase == final or _is_kept(job, phase))


def _is_kept(job: Job, phase: Phase) -> bool:
    return _has_bundle(job, phase) or is_unreadable(job.folder.export(phase))


def _has_bundle(job: Job, phase: Phase) -> bool:
    return job.folder.export(phase).is_file() and (job.exports / bundle_name(job, phase)).is_dir()


def made_of(job: Job, phase: Phase) -> dict[str, object]:
    """Return everything a bundle depends on."""
    settings = job.config.export.model_dump(mode="json", exclude={"enabled", "phases"})
    return {**file_identity(job.folder, phase), **settings}


def run_bundle(
    bundle: Bundle, store: ImageStore, positions: Sequence[int] | np.ndarray, title: str, log: Log
) -> np.ndarray:
    """Return a bundle's probabilities, float32 (N, K), for the images at N positions of a data set.

    Each core runs its own batch, so the bundle should be opened with one thread: EfficientNetB0 in 8 bits at 224 pixels
    then ran at 68 images/s, against 56 with two threads on one batch.
    """
    batches = (
        [store.image(int(position)) for position in positions[start : start + BUNDLE_BATCH]]
        for start in range(0, len(positions), BUNDLE_BATCH)
    )
    predictions = []
    with log.progress(title, len(positions), "images") as advance:
        for probabilities in map_in_order(bundle.predict, batches, usable_cores()):
            predictions.append(probabilities)
            advance(len(probabilities))
    return np.concatenate(predictions)


def positions_by_id(index: ImageIndex, ids: Iterable[str]) -> np.ndarray:
    """Return the position of each image id in a data set, int64, (N,)."""
    position_of = {image_id: position for position, image_id in enumerate(index.ids)}
    return np.array([position_of[str(image_id)] for image_id in ids], dtype=np.int64)
