"""Any image-classification builder of tensorflow-datasets, by name.

The encoded images are copied from TFDS to the cache once: `keras_bench.images` then decodes them like all others, and
memory does not grow with the data set.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from keras_bench.console import Log
from keras_bench.data.index import ImageIndex
from keras_bench.download import cache_folder
from keras_bench.errors import UserError, one_line
from keras_bench.files import replacing_folder, sweep
from keras_bench.locks import sweep_unlocked

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_OFFICIAL = {"train": "train", "validation": "val", "val": "val", "test": "test"}


def open_tfds(name: str | None, data_dir: Path | None, log: Log) -> ImageIndex:
    """List the images of a TFDS builder; `train`, `validation` and `test` are its official splits.

    Args:
        name: the builder, e.g. "cifar10" or "imagenet_resized/64x64".
        data_dir: TFDS's own data folder; None uses its default (~/tensorflow_datasets).
        log: shows progress.

    Raises:
        UserError: the package is not installed, the builder is unknown or not for image classification, or TFDS could
            not prepare it.
    """
    if not name:
        raise UserError("the tfds source needs a builder: --set dataset.tfds_name=cifar10")
    builder = _builder(name, data_dir)
    info = builder.info
    if not info.supervised_keys or set(info.supervised_keys) != {"image", "label"}:
        raise UserError(f"dataset.tfds_name: {name} is not image classification (it lacks an image or a label)")
    folder = cache_folder() / "tfds" / re.sub(r"[^\w.-]", "_", f"{name}-{info.version}-{_digest(builder)}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            sweep(folder.parent, folder.name.__eq__)
            _prepare(builder, name)
            with replacing_folder(folder) as unfinished:
                _export_images(builder, unfinished, name, log)
    sweep_unlocked(folder.parent, lambda unfinished: folder.with_name(f"{unfinished}.lock"))
    listing = json.loads((folder / "listing.json").read_text())
    files = [folder / entry[0] for entry in listing["images"]]
    return ImageIndex(
        source="tfds",
        location=f"tensorflow-datasets {name} {info.version}",
        class_names=tuple(listing["class_names"]),
        class_titles=tuple(listing["class_names"]),
        ids=tuple(entry[0] for entry in listing["images"]),
        labels=np.array([entry[1] for entry in listing["images"]], dtype=np.int64),
        official=tuple(entry[2] for entry in listing["images"]),
        read=lambda i: files[i].read_bytes(),
    )


def _builder(name: str, data_dir: Path | None) -> tfds.core.DatasetBuilder:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            "the tfds source needs an extra: pip install '.[tfds]' in a checkout, otherwise "
            "pip install 'keras-bench[tfds]'"
        ) from error
    try:
        return tfds.builder(name, data_dir=data_dir)
    except ValueError as error:  # TFDS says an unknown name, config or version so
        raise UserError(f"dataset.tfds_name: {name}: {str(error).splitlines()[0]}") from error


def _digest(builder: tfds.core.DatasetBuilder) -> str:
    """Return a digest of the builder's data folder, so that no path of this machine appears in a file name."""
    return hashlib.sha256(str(builder.data_dir).encode()).hexdigest()[:8]


def _prepare(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Download the builder's files and convert them to those of TFDS, unless that was done before."""
    from tensorflow_datasets.core.download import download_manager, util

    try:
        builder.download_and_prepare()
    except (OSError, util.DownloadError, download_manager.NonMatchingChecksumError) as error:
        raise UserError(f"{name}: tensorflow-datasets could not prepare it ({one_line(error, limit=160)})") from error


def _export_images(builder: tfds.core.DatasetBuilder, folder: Path, name: str, log: Log) -> None:
    """Write the encoded images and their listing into an empty folder."""
    from tensorflow_datasets.core.decode import SkipDecoding

    names = builder.info.features["label"].names
    images = []
    for split, split_info in builder.info.splits.items():
        if split not in _OFFICIAL:
            continue
        examples = builder.as_dataset(split=split, decoders={"image": SkipDecoding()}, shuffle_files=False)
        with log.progress(f"reading {name} {split}", split_info.num_examples, "images") as advance:
            for i, example in enumerate(examples.as_numpy_iterator()):
                label = int(example["label"])
                data = example["image"]
                path = f"{split}/{label:04d}/{i:07d}.{_extension(data)}"
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
                images.append((path, label, _OFFICIAL[split]))
                advance(1)
    if not any(split == "train" for _, _, split in images):
        raise UserError(f"dataset.tfds_name: {name} has no train split")
    (folder / "listing.json").write_text(json.dumps({"class_names": names, "images": sorted(images)}))


def _extension(data: bytes) -> str:
    signatures = {b"\xff\xd8": "jpg", b"\x89P": "png", b"BM": "bmp", b"GI": "gif", b"RI": "webp"}
    return signatures.get(data[:2], "img")
