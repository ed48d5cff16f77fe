"""Checks that a bundle is complete and predicts as before, and measures its accuracy."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_bench.bundle.model import Bundle, verify_samples
from keras_bench.bundle.sums import (
    FLOAT_MODEL,
    INT8_MODEL,
    SIGNATURE,
    VERIFICATION,
    BundleError,
    ChangedBundleError,
    unlisted_files,
    unlisted_words,
)
from keras_bench.config import Config, DatasetConfig
from keras_bench.console import Log
from keras_bench.data.sources import SOURCES, open_source
from keras_bench.data.splits import split_images
from keras_bench.data.store import ImageStore
from keras_bench.errors import DamagedFileError, RunError, UserError
from keras_bench.evaluation.statistics import proportion_interval
from keras_bench.evaluation.words import share_words
from keras_bench.export.places import run_bundle
from keras_bench.export.signing import load_public_key, verify_signature
from keras_bench.reading import REBUILD_REMEDY, read_record

# Other names make tensorflow-datasets fetch and run the code of a third party ("kaggle:…", "huggingface:…").
_OWN_BUILDER = re.compile(r"\w+(/[^:]+)?(:[\d.*]+)?")


def verify_bundle(folder: Path, data: Path | None, limit: int | None, log: Log, key: Path | None = None) -> None:
    """Check a bundle's checksums and samples and, given images, its accuracy on their test split.

    No code in the bundle is run, and with a key no file but SHA256SUMS and its signature is read before the signature
    has been checked.

    Args:
        folder: the bundle.
        data: the data set the model was made with, or another with the same class names.
        limit: maximum number of test images, drawn by seed; None for all.
        log: the screen.
        key: the signer's public key, a PEM file; None: no signature is checked.

    Raises:
        UserError: the folder is not a bundle, a file in it is malformed, or the data set or the key does not fit it.
        RunError: a check failed: a file was changed or is missing, or the predictions or the signature do not agree.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a bundle that `keras-bench export` wrote")
    if key is not None:
        verify_signature(folder, load_public_key(key), key, log)
    files = [file for file in (FLOAT_MODEL, INT8_MODEL) if (folder / file).is_file()] or [FLOAT_MODEL]
    try:
        for file in files:
            difference = verify_samples(folder, file)
            log.line(f"{folder / file}: checksums match, sample images agree within {difference:.1e}")
        bundles = {file: Bundle(folder, file, threads=1) for file in files}
        unlisted = unlisted_words(unlisted_files(folder))
    except ChangedBundleError as error:
        raise RunError(f"not verified: {error}") from error
    except BundleError as error:
        raise UserError(f"not verified: {error}") from error
    if unlisted:
        log.warn(f"{folder}: {unlisted}")
    if key is None and (folder / SIGNATURE).is_file():
        log.line(
            f"{folder / SIGNATURE}: the bundle is signed, but the signature was not checked: give the key with --key"
        )
    if data is not None or SOURCES[_recorded(folder).dataset.source].bundled_with:
        _measure_accuracy(bundles, folder, data, limit, log)


@dataclass(frozen=True)
class _Recorded:
    """What verification.json says about the run's test images.

    Attributes:
        dataset: the run's settings of the data.
        fingerprint: of the images.
        top1: test accuracy of the float model, in [0, 1]; None if it was not measured on the whole test split.
    """

    dataset: DatasetConfig
    fingerprint: str
    top1: float | None


def _recorded(folder: Path) -> _Recorded:
    """Return what a bundle records about its test images.

    Raises:
        UserError: verification.json is malformed.
    """
    try:
        return read_record(folder / VERIFICATION, _recorded_of)
    except DamagedFileError as error:
        reason = str(error).removesuffix(REBUILD_REMEDY)
        raise UserError(f"{reason}, or ask for the bundle again") from error


def _recorded_of(content: dict[str, Any]) -> _Recorded:
    data, agreement = content["data"], content["agreement"]
    dataset = DatasetConfig(**data["dataset"])
    if dataset.tfds_name is not None and not _OWN_BUILDER.fullmatch(dataset.tfds_name):
        raise ValueError(f"tfds_name: expected a builder of tensorflow-datasets itself, received {dataset.tfds_name!r}")
    top1 = float(agreement["onnx_top1"]["value"])
    if not 0 <= top1 <= 1:
        raise ValueError(f"onnx_top1: expected an accuracy from 0 to 1, received {top1}")
    is_complete = agreement["images"] == data["test_images"]
    return _Recorded(dataset, str(data["fingerprint"]), top1 if is_complete else None)


def _measure_accuracy(bundles: dict[str, Bundle], folder: Path, data: Path | None, limit: int | None, log: Log) -> None:
    """Print the accuracy of each model on the test split that the run's settings give for the data set."""
    recorded = _recorded(folder)
    index = open_source(recorded.dataset, data, log)
    names = bundles[FLOAT_MODEL].class_names
    missing = [name for name in index.class_names if name not in names]
    if missing:
        raise UserError(
            f"{index.location}: the model does not know the class {missing[0]!r}; it was trained on {len(names)} others"
        )
    store = ImageStore(index, Config(name="verify").runtime.cache_memory_mb << 20, recorded.dataset.max_megapixels)
    same_data = store.fingerprint(log) == recorded.fingerprint
    store.load(log)
    positions = split_images(index, recorded.dataset, store.readable).positions["test"]
    if limit is not None and limit < len(positions):
        positions = np.sort(np.random.default_rng(0).permutation(positions)[:limit])
    model_labels = np.array([names.index(name) for name in index.class_names])
    labels = model_labels[index.labels[positions]]
    log.line(f"data: {index.location}: {'the data of the run' if same_data else 'not the data of the run'}")
    for file, bundle in bundles.items():
        correct = run_bundle(bundle, store, positions, file, log).argmax(axis=1) == labels
        expected = recorded.top1 if same_data and limit is None and file == FLOAT_MODEL else None
        log.line(f"{file}: top-1 {share_words(proportion_interval(correct))} on {len(positions):,} test images")
        if expected is not None and abs(expected - correct.mean()) * len(positions) > 0.5:
            raise RunError(
                f"not verified: top-1 was {expected:.4f} when the bundle was made, but is {correct.mean():.4f} here"
            )
