"""Two processes that decode the same images at the same time: the images are decoded once, and both read the same."""

import numpy as np

from keras_bench.cli.main import main
from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data.sources import open_source
from keras_bench.data.store import ImageStore, decoded_folder, limit_decoded
from keras_bench.images import decode
from tests.at_once import children

CHILD = """
import pathlib, sys
import numpy as np
from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data import store
from keras_bench.data.sources import open_source

index = open_source(DatasetConfig(source="folder"), pathlib.Path(sys.argv[2]), Log())
real, decoded = store.decode, []

def decode(*arguments):
    decoded.append(1)
    if len(decoded) == 30:
        print("halfway", flush=True)
        sys.stdin.readline()
    return real(*arguments)

store.decode = decode
images = store.ImageStore(index, 1 << 30)
images.fingerprint(Log())
print("ready", flush=True)
sys.stdin.readline()
images.load(Log())
np.save(sys.argv[1], np.stack([images.image(i) for i in range(len(index.ids))]))
print("decoded", len(decoded), flush=True)
"""


def expected(folder):
    index = open_source(DatasetConfig(source="folder"), folder, Log())
    return np.stack([decode(index.read(i)) for i in range(len(index.ids))])


def test_two_processes_decode_the_images_once_and_read_the_same(tmp_path, image_folder):
    paths = [tmp_path / "first.npy", tmp_path / "second.npy"]
    with children(CHILD, *((path, image_folder) for path in paths)) as both:
        printed = [child.read_until("halfway", "waiting for another process that is decoding") for child in both]
        for child in both:
            child.proceed()
        outputs = [child.finish().splitlines()[-1] for child in both]
    for path in paths:
        np.testing.assert_array_equal(np.load(path), expected(image_folder))
    assert sorted(outputs) == ["decoded 0", "decoded 62"]
    assert sum(lines[-1].startswith("waiting") for lines in printed) == 1


def test_images_that_another_process_is_decoding_are_not_removed(tmp_path, image_folder, tiny_imagenet_folder):
    ImageStore(open_source(DatasetConfig(source="tiny-imagenet"), tiny_imagenet_folder, Log()), 1 << 30).load(Log())
    with children(CHILD, (tmp_path / "images.npy", image_folder)) as (child,):
        child.read_until("halfway")
        limit_decoded(0)
        assert main(["cache", "--clear"]) == 0
        assert not list(decoded_folder().glob("[!.]*.pixels"))
        child.proceed()
        child.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), expected(image_folder))


def test_images_removed_while_they_are_being_opened_are_decoded_again(image_folder, monkeypatch):
    index = open_source(DatasetConfig(source="folder"), image_folder, Log())
    ImageStore(index, 1 << 30).load(Log())
    removed = []

    def utime(path):
        if not removed:
            removed.append(path)
            path.with_suffix(".pixels").unlink()

    monkeypatch.setattr("keras_bench.data.store.os.utime", utime)
    store = ImageStore(index, 1 << 30)
    store.load(Log())
    assert len(removed) == 1
    np.testing.assert_array_equal(store.batch(np.arange(62)), expected(image_folder))


def test_another_version_of_the_decoder_or_of_pillow_invalidates_the_cache(image_folder, monkeypatch):
    index = open_source(DatasetConfig(source="folder"), image_folder, Log())

    def path_now():
        store = ImageStore(index, 1 << 30)
        store.load(Log())
        return store.path

    paths = [path_now()]
    monkeypatch.setattr("keras_bench.images.DECODER_VERSION", 1000)
    paths.append(path_now())
    monkeypatch.setattr("keras_bench.images.PIL.__version__", "0.0")
    paths.append(path_now())
    assert len(set(paths)) == 3
    assert all(path.is_file() for path in paths)
