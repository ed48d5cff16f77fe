import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data.sources import open_source
from keras_bench.errors import UserError
from keras_bench.images import decode

tfds = pytest.importorskip("tensorflow_datasets")


class KerasBenchDigits(tfds.core.GeneratorBasedBuilder):
    """A builder like those of TFDS, of scans that need no network."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 8, 3)),
            "label": tfds.features.ClassLabel(names=["zero", "one", "two"]),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._examples(range(120)), "test": self._examples(range(120, 180))}

    def _generate_examples(self):
        yield from ()

    def _examples(self, positions):
        scans = load_digits()
        for position in positions:
            if scans.target[position] < 3:
                gray = scans.images[position].astype(np.uint8) * 15
                yield position, {"image": np.stack([gray] * 3, axis=-1), "label": int(scans.target[position])}


class KerasBenchText(tfds.core.GeneratorBasedBuilder):
    """A builder without images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"text": tfds.features.Text()}))

    def _split_generators(self, dl_manager):
        return {}

    def _generate_examples(self):
        yield from ()


@pytest.mark.filterwarnings("default")  # tensorflow-datasets and its readers use deprecated features of NumPy and etils
def test_a_builder_is_exported_once_and_read_like_files(tmp_path):
    config = DatasetConfig(source="tfds", tfds_name="keras_bench_digits")
    index = open_source(config, tmp_path, Log())
    assert index.class_names == ("zero", "one", "two")
    digits = load_digits()
    kept = digits.target[:180][digits.target[:180] < 3]
    assert len(index.ids) == len(kept)
    assert index.official.count("train") == (digits.target[:120] < 3).sum()
    expected = {(digits.images[i] * 15).astype(np.uint8).tobytes(): digits.target[i] for i in range(180)}
    for position, label in enumerate(index.labels):
        image = decode(index.read(position))
        assert expected[image[..., 0].tobytes()] == label
        assert index.ids[position].endswith(".png")
    again = open_source(config, tmp_path, Log())
    assert again.ids == index.ids


@pytest.mark.filterwarnings("default")  # as above
def test_unknown_and_unsuitable_builders_are_refused(tmp_path):
    with pytest.raises(UserError, match="dataset.tfds_name: no_such_builder: "):
        open_source(DatasetConfig(source="tfds", tfds_name="no_such_builder"), tmp_path, Log())
    with pytest.raises(UserError, match="keras_bench_text is not image classification"):
        open_source(DatasetConfig(source="tfds", tfds_name="keras_bench_text"), tmp_path, Log())
    with pytest.raises(UserError, match="needs a builder: --set dataset.tfds_name=cifar10"):
        open_source(DatasetConfig(source="tfds"), tmp_path, Log())


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"pip install 'keras-bench\[tfds\]'"):
        open_source(DatasetConfig(source="tfds", tfds_name="cifar10"), None, Log())
