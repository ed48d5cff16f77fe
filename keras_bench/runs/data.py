"""Opens, splits and audits the data of a run, and writes the files that describe it. No TensorFlow."""

import os
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_bench.audit.findings import RUN_REMEDY, UNREADABLE, Audit
from keras_bench.audit.selection import (
    Selection,
    kept_in_val,
    leave_out,
    recorded_selection,
    shared_with_val,
    splits_frame,
)
from keras_bench.console import Log
from keras_bench.data.balance import epoch_rows
from keras_bench.data.index import SPLITS, ImageIndex, SplitTable
from keras_bench.data.sources import SOURCES, open_source
from keras_bench.data.splits import split_images
from keras_bench.data.store import ImageStore, limit_decoded
from keras_bench.disk import require_writable
from keras_bench.download import cache_folder
from keras_bench.errors import UserError
from keras_bench.evaluation.words import use_of_test_sentence
from keras_bench.files import write_record
from keras_bench.frames import write_frame
from keras_bench.images import is_above_limit
from keras_bench.reading import read_intact, read_json, read_record
from keras_bench.runs.damage import FILES, digests_of, is_unreadable, refuse_other_splits, splits_damaged
from keras_bench.runs.folders import ExperimentDir, RunDir
from keras_bench.runs.job import Job

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Data:
    """The data of a run, decoded and split.

    Attributes:
        index: the images and classes of the source.
        store: the decoded images.
        splits: the images of train, val and test.
        fingerprint: digest of ids, labels and contents.
        left_out: for "train" and "val", the reason why each image was left out, by id.
        kept: for "train" and "val", the reason why each duplicate or near-duplicate of a held-out image stays, by id.
    """

    index: ImageIndex
    store: ImageStore
    splits: SplitTable
    fingerprint: str
    left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    kept: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def data_path(job: Job) -> Path | None:
    """Return --data, else $KERAS_BENCH_DATA if the source reads it, else None."""
    override = os.environ.get("KERAS_BENCH_DATA")
    if job.request.data is None and override and SOURCES[job.config.dataset.source].reads_environment:
        return Path(override)
    return job.request.data


def require_data(job: Job) -> None:
    """Refuse a run without the images that only the user can provide, before anything is downloaded.

    Raises:
        UserError: the source needs a path and none was given, or the path does not exist.
    """
    path, source = data_path(job), SOURCES[job.config.dataset.source]
    if path is not None and not path.exists():
        raise UserError(f"--data {path}: no such file or folder")
    if path is None and source.needs_path:
        raise UserError(
            f"{job.config.name}: its images are not downloaded for you; give them with --data {source.metavar} "
            f"(with make: DATA={source.metavar}). Expected: {job.config.data_hint or source.layout}"
        )


def require_folders(job: Job) -> None:
    """Refuse a run whose results, bundles or cached data could not be written, before anything is downloaded.

    A cache that holds something may be read-only, since it may hold all that is needed; what is missing in it is
    refused where it would be written.

    Raises:
        UserError: a folder is a file, may not be written to, or its name is too long.
    """
    require_writable(job.folder.root, "--out")
    cache = cache_folder()
    is_warm = cache.is_dir() and any(cache.iterdir())
    with suppress(UserError) if is_warm else nullcontext():
        require_writable(cache, "$KERAS_BENCH_CACHE")
    if job.config.export.enabled:
        require_writable(job.exports, "--exports")


def open_data(job: Job, log: Log) -> tuple[ImageIndex, ImageStore, str]:
    """Return the images, their store and their fingerprint, which shows whether finished work is still valid."""
    index = open_source(job.config.dataset, data_path(job), log)
    store = ImageStore(index, job.config.runtime.cache_memory_mb << 20, job.config.dataset.max_megapixels)
    return index, store, store.fingerprint(log)


def load_data(job: Job, index: ImageIndex, store: ImageStore, fingerprint: str, log: Log) -> Data:
    """Decode the images, warn of unreadable ones, and split the rest."""
    store.load(log)
    limit_decoded(job.config.runtime.features_cache_mb << 20)
    for warning in index.warnings:
        log.warn(warning)
    if store.unreadable:
        _warn_of_unreadable(index, store, log)
    splits = split_images(index, job.config.dataset, store.readable)
    for warning in splits.warnings:
        log.warn(warning)
    _refuse_portions_beyond_epoch(job, len(splits.positions["train"]))
    return Data(index, store, splits, fingerprint)


def _warn_of_unreadable(index: ImageIndex, store: ImageStore, log: Log) -> None:
    are = "unreadable image is" if len(store.unreadable) == 1 else "unreadable images are"
    examples = "; ".join(f"{index.ids[i]}: {why}" for i, why in list(store.unreadable.items())[:3])
    log.warn(f"{len(store.unreadable):,} {are} left out (all are listed in dataset.json): {examples}")
    too_large = sum(map(is_above_limit, store.unreadable.values()))
    if too_large:
        which = "1 of them is" if too_large == 1 else f"{too_large:,} of them are"
        log.warn(f"{which} left out for the size alone; dataset.max_megapixels ({store.max_megapixels:g}) is the limit")


def _refuse_portions_beyond_epoch(job: Job, image_count: int) -> None:
    """Refuse to average gradients over more portions than an epoch has."""
    training = job.config.training
    portions = -(-image_count // training.portion_size)
    if portions < training.accumulation_steps:
        raise UserError(
            f"training.accumulation_steps: {image_count} training images fill {portions} portions of "
            f"{training.portion_size}, expected at least {training.accumulation_steps}: the weights would not be "
            "updated in every epoch; lower training.batch_size"
        )


def audit_data(job: Job, data: Data, log: Log, begun: bool = False) -> Data:
    """Warn of duplicates, imbalance and similar problems before hours of training, and leave leaked images out.

    One audit serves all runs on the same images and splits. A resumed run keeps the splits it began with, because an
    earlier version may have left out different images.

    Args:
        job: the run.
        data: the decoded data with the splits as drawn.
        log: the screen.
        begun: whether the run has finished or interrupted phases.

    Returns:
        the data without the train and val images that `dataset.remove_leaked` leaves out.

    Raises:
        UserError: a class has no image left in train or val.
    """
    audit = _matching_audit(job, data)
    if audit is None:
        with job.experiment_folder.lock_audit(log):
            audit = _matching_audit(job, data) or _make_audit(job, data, log)  # another process may have made it
    recorded = recorded_data(job, data) if begun else None
    for problem in [line for line in audit.problems if not line.startswith(UNREADABLE)]:  # `load_data` told of those
        if problem != audit.imbalance_problem or job.config.training.imbalance == "none":
            log.warn(problem if recorded is None else problem.partition(RUN_REMEDY)[0])
    if recorded is not None:
        return _resumed_data(job, recorded, audit, log)
    data = _with_selection(data, leave_out(data.index, data.splits, audit, job.config.dataset.remove_leaked, log))
    if begun:
        refuse_other_splits(job.folder, _splits_frame(data))
    return data


def _resumed_data(job: Job, recorded: Data, audit: Audit, log: Log) -> Data:
    """Return the data as the run recorded it, complete with the images that val and test share, and log both."""
    log.line(f"splits: as recorded when the run began, in {job.folder.splits}")
    dataset = read_intact(job.folder.dataset, dict) or {}
    in_val = kept_in_val(dataset, job.folder.splits, audit)
    if in_val is None or in_val:
        log.warn(use_of_test_sentence(None if in_val is None else len(in_val)))
    kept = {split: reasons for split, reasons in recorded.kept.items() if split != "val"}
    return replace(recorded, kept=kept if in_val is None else {**kept, "val": in_val})


def shared_of_run(run: RunDir, folder: ExperimentDir) -> int | None:
    """Return how many duplicates or near-duplicates of test images a run's val holds; None if unknown.

    Args:
        run: the run's folder, with dataset.json and splits.csv.
        folder: the experiment's folder, whose audit stands in where an earlier version recorded nothing.
    """
    dataset = read_json(run.dataset)
    return shared_with_val(dataset, run.splits, read_audit(folder, dataset["fingerprint"]))


def _matching_audit(job: Job, data: Data) -> Audit | None:
    """Return the recorded audit of exactly this data and these splits; None if there is none."""
    audit = read_audit(job.experiment_folder, data.fingerprint)
    return audit if audit is not None and audit.split == data.splits.digest() else None


def _make_audit(job: Job, data: Data, log: Log) -> Audit:
    from keras_bench.audit.inspect import audit_images  # the report reads audits and needs no hashing library

    if is_unreadable(job.experiment_folder.audit):
        log.warn(f"{job.experiment_folder.audit} is damaged; it is made again")
    audit = audit_images(data.index, data.splits, data.store, data.fingerprint, log)
    write_record(job.experiment_folder.audit, audit.to_json())
    return audit


def recorded_data(job: Job, data: Data) -> Data | None:
    """Return the data with the splits that the run's splits.csv records; None if that is missing or damaged."""
    if not job.folder.splits.is_file() or splits_damaged(job.folder):
        return None
    return _with_selection(data, recorded_selection(job.folder.splits, data.index, data.splits))


def _with_selection(data: Data, selection: Selection) -> Data:
    return replace(data, splits=selection.splits, left_out=selection.left_out, kept=selection.kept)


def read_audit(folder: ExperimentDir, fingerprint: str) -> Audit | None:
    """Return the recorded audit of exactly this data; None if there is none, or if it is damaged."""
    if not folder.audit.is_file() or is_unreadable(folder.audit):
        return None
    tree = read_json(folder.audit)
    needed = {field.name for field in fields(Audit) if field.default is MISSING}
    if not needed <= set(tree) <= {field.name for field in fields(Audit)}:  # written by another version
        return None
    audit = read_record(folder.audit, Audit.from_json)
    return audit if audit.fingerprint == fingerprint else None


def describe_data(data: Data) -> list[str]:
    """Return a summary for people: the source, its classes and images, and the size and origin of the splits."""
    index, positions = data.index, data.splits.positions
    sizes = sorted(data.store.sizes)
    size = f"{sizes[0][1]}×{sizes[0][0]} pixels" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    counts = ", ".join(f"{len(positions[split]):,} {split}" for split in SPLITS)
    return [
        f"data: {index.location}: {len(index.class_names)} classes, {len(index.ids):,} images of {size}",
        f"split: {counts}; test is {data.splits.test_origin}",
    ]


def write_data_files(run: RunDir, data: Data) -> None:
    """Write splits.csv and dataset.json, which list every image and class of the run."""
    write_frame(run.splits, _splits_frame(data))
    write_record(run.dataset, {**_dataset_json(data), FILES: digests_of(run.root, [run.splits])})


def _splits_frame(data: Data) -> "pd.DataFrame":
    selection = Selection(data.splits, data.left_out, data.kept)
    return splits_frame(data.index, data.store.unreadable, selection)


def _dataset_json(data: Data) -> dict[str, object]:
    index, splits = data.index, data.splits
    return {
        "source": index.source,
        **({"attribution": index.attribution} if index.attribution else {}),
        "fingerprint": data.fingerprint,
        "class_names": list(index.class_names),
        "class_titles": list(index.class_titles),
        "images": {split: len(splits.positions[split]) for split in SPLITS},
        "images_per_class": splits.counts(index.labels, index.class_names),
        "test_origin": splits.test_origin,
        "image_sizes": [f"{width}x{height}" for height, width in sorted(data.store.sizes)][:50],
        "unreadable": {index.ids[i]: why for i, why in sorted(data.store.unreadable.items())},
        "leaked": sorted(data.left_out.get("train", {})),
        "val_in_test": sorted(data.left_out.get("val", {})),
        "kept": {split: dict(reasons) for split, reasons in data.kept.items()},  # without "val" if unknown
        "warnings": [*index.warnings, *splits.warnings],
    }


def positions_of(data: Data, split: str) -> np.ndarray:
    """Return the positions of a split's images, int64, ascending."""
    return data.splits.positions[split]


def training_rows(job: Job, data: Data) -> np.ndarray:
    """Return the images of one epoch, as indices into `positions_of(data, "train")`, int64, ascending."""
    labels = data.index.labels[positions_of(data, "train")]
    return epoch_rows(labels, job.config.training.imbalance, job.request.seed)


def class_counts(data: Data) -> tuple[int, ...]:
    """Return the number of training images per class."""
    labels = data.index.labels[positions_of(data, "train")]
    return tuple(np.bincount(labels, minlength=len(data.index.class_names)).tolist())
