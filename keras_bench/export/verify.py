"""Checks that a bundle is complete and predicts as before, and measures its accuracy."""

from pathlib import Path

import numpy as np

from keras_bench.bundle import FLOAT_MODEL, INT8_MODEL, Bundle, BundleError, verify_samples
from keras_bench.config import Config, DatasetConfig
from keras_bench.console import Log
from keras_bench.data.sources import SOURCES, open_source
from keras_bench.data.splits import split_images
from keras_bench.data.store import ImageStore
from keras_bench.errors import RunError, UserError
from keras_bench.evaluation.statistics import proportion_interval
from keras_bench.evaluation.words import share_words
from keras_bench.export.places import run_bundle
from keras_bench.reading import read_json, read_record


def verify_bundle(folder: Path, data: Path | None, limit: int | None, log: Log) -> None:
    """Check a bundle's checksums and samples and, given images, its accuracy on their test split.

    Args:
        folder: the bundle.
        data: the data set the model was made with, or another with the same class names.
        limit: maximum number of test images, drawn by seed; None for all.
        log: the screen.

    Raises:
        UserError: the folder is not a bundle, or the data set does not fit it.
        RunError: a check failed.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a bundle that `keras-bench export` wrote")
    files = [file for file in (FLOAT_MODEL, INT8_MODEL) if (folder / file).is_file()] or [FLOAT_MODEL]
    try:
        for file in files:
            difference = verify_samples(folder, file)
            log.line(f"{folder / file}: checksums match, sample images agree within {difference:.1e}")
        bundles = {file: Bundle(folder, file, threads=1) for file in files}
    except BundleError as error:
        raise RunError(f"not verified: {error}") from error
    if data is not None or SOURCES[_recorded_dataset(folder).source].bundled_with:
        _measure_accuracy(bundles, folder, data, limit, log)


def _recorded_dataset(folder: Path) -> DatasetConfig:
    """Return the dataset settings of the run that the bundle was made from."""
    return read_record(folder / "verification.json", lambda content: DatasetConfig(**content["data"]["dataset"]))


def _measure_accuracy(bundles: dict[str, Bundle], folder: Path, data: Path | None, limit: int | None, log: Log) -> None:
    """Print the accuracy of each model on the test split that the run's settings give for the data set."""
    verification, config = read_json(folder / "verification.json"), _recorded_dataset(folder)
    index = open_source(config, data, log)
    names = bundles[FLOAT_MODEL].class_names
    missing = [name for name in index.class_names if name not in names]
    if missing:
        raise UserError(
            f"{index.location}: the model does not know the class {missing[0]!r}; it was trained on {len(names)} others"
        )
    store = ImageStore(index, Config(name="verify").runtime.cache_memory_mb << 20)
    same_data = store.fingerprint(log) == verification["data"]["fingerprint"]
    store.load(log)
    positions = split_images(index, config, store.readable).positions["test"]
    if limit is not None and limit < len(positions):
        positions = np.sort(np.random.default_rng(0).permutation(positions)[:limit])
    model_labels = np.array([names.index(name) for name in index.class_names])
    labels = model_labels[index.labels[positions]]
    log.line(f"data: {index.location}: {'the data of the run' if same_data else 'not the data of the run'}")
    for file, bundle in bundles.items():
        correct = run_bundle(bundle, store, positions, file, log).argmax(axis=1) == labels
        recorded = _recorded_top1(verification, file) if same_data and limit is None else None
        log.line(f"{file}: top-1 {share_words(proportion_interval(correct))} on {len(positions):,} test images")
        if recorded is not None and abs(recorded - correct.mean()) * len(positions) > 0.5 and file == FLOAT_MODEL:
            raise RunError(
                f"not verified: top-1 was {recorded:.4f} when the bundle was made, but is {correct.mean():.4f} here"
            )


def _recorded_top1(verification: dict[str, dict[str, dict[str, float]]], file: str) -> float | None:
    """Return the test top-1 recorded for a model file; None if it was not measured on the whole test split."""
    top1 = verification["agreement"]["onnx_top1"] if file == FLOAT_MODEL else verification["int8"]["test_top1"]
    is_complete = verification["agreement"]["images"] == verification["data"]["test_images"]
    return float(top1["value"]) if top1 and is_complete else None
