"""A bundle that is copied for every test, and what is done with it."""

import json
import runpy
import shutil

import pytest
from PIL import Image

from keras_bench.export.files import write_sums
from tests.conftest import encoded
from tests.made_bundle import make_bundle, picture


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A bundle with every file that a real one can have, and outside it a photo."""
    root = tmp_path_factory.mktemp("bundles")
    folder = make_bundle(root / "whole")
    shutil.copy(folder / "model.onnx", folder / "model.int8.onnx")
    probabilities = json.loads((folder / "sample" / "expected.json").read_text())
    probabilities["model.int8.onnx"] = probabilities["model.onnx"]
    (folder / "sample" / "expected.json").write_text(json.dumps(probabilities))
    write_sums(folder)
    Image.fromarray(picture(5)).save(root / "photo.png")
    return folder


@pytest.fixture
def bundle(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "bundle")


@pytest.fixture(scope="module")
def own_main(whole):
    """The `main` of the bundle's predict.py."""
    return runpy.run_path(str(whole / "predict.py"))["main"]


@pytest.fixture
def photo(whole):
    return str(whole.parent / "photo.png")


@pytest.fixture
def photos(tmp_path):
    """Twelve readable images of two sizes, and their pixels by path."""
    photos = {}
    for i in range(12):
        path = tmp_path / "photos" / ("a" if i % 2 else "b") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = picture(i, 20 + 5 * (i % 3 == 0))
        path.write_bytes(encoded(Image.fromarray(pixels), "PNG"))
        photos[str(path)] = pixels
    return dict(sorted(photos.items()))
