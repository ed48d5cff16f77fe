"""Where a run's bundles lie, whether they are up to date, and what they predict for a data set. No TensorFlow."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_bench.bundle import LABELS, Bundle
from keras_bench.config.schema import ExportConfig
from keras_bench.console import Log
from keras_bench.cost.measure import file_identity
from keras_bench.data.index import ImageIndex
from keras_bench.data.store import ImageStore
from keras_bench.environment import usable_cores
from keras_bench.parallel import map_in_order
from keras_bench.phases import Phase
from keras_bench.reading import read_record
from keras_bench.runs.fingerprint import changed_settings
from keras_bench.runs.job import Job

BUNDLE_BATCH = 32


def bundle_name(job: Job, phase: Phase) -> str:
    """Return the name of a phase's bundle below the experiment's folder of exports."""
    return f"{job.folder.model_name}-{phase}-seed{job.folder.seed}"


def export_finished(job: Job, phase: Phase) -> bool:
    """Return whether the phase's bundle is there, made of this very model with these settings."""
    place = job.exports / bundle_name(job, phase)
    if not (job.folder.export(phase).is_file() and (place / LABELS).is_file()):
        return False
    bundle, before = read_record(job.folder.export(phase), lambda content: (content["bundle"], content["made_of"]))
    same_place = (job.folder.root / bundle).resolve() == place.resolve()
    return same_place and not changed_settings(before, made_of(job, phase), ExportConfig().model_dump(mode="json"))


def made_of(job: Job, phase: Phase) -> dict[str, Any]:
    """Return everything a bundle depends on."""
    return {**file_identity(job.folder, phase), **job.config.export.model_dump(mode="json", exclude={"enabled"})}


def run_bundle(
    bundle: Bundle, store: ImageStore, positions: Sequence[int] | np.ndarray, title: str, log: Log
) -> np.ndarray:
    """Return a bundle's probabilities, float32 (N, K), of the images at some positions of a data set.

    Each core runs a batch of its own, so the bundle should be opened with one thread: EfficientNetB0 in 8 bits at 224
    pixels ran at 68 images/s so, and at 56 with two threads on one batch.
    """
    batches = (
        [store.image(int(position)) for position in positions[start : start + BUNDLE_BATCH]]
        for start in range(0, len(positions), BUNDLE_BATCH)
    )
    parts = []
    with log.progress(title, len(positions), "images") as advance:
        for found in map_in_order(bundle.predict, batches, usable_cores()):
            parts.append(found)
            advance(len(found))
    return np.concatenate(parts)


def positions_by_id(index: ImageIndex, ids: Iterable[str]) -> np.ndarray:
    """Return the position of each image id in a data set, int64, (N,)."""
    place = {name: i for i, name in enumerate(index.ids)}
    return np.array([place[str(name)] for name in ids], dtype=np.int64)
