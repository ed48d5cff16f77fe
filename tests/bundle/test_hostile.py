"""What `verify`, `predict` and a bundle's own `predict.py` say about files forged together with their sums."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from keras_bench.bundle.onnx_file import require_one_file
from keras_bench.bundle.sums import BundleError
from keras_bench.cli.main import main
from keras_bench.config import DatasetConfig
from keras_bench.export.files import write_sums
from tests.bundle_ways import refusal, ways
from tests.made_bundle import MATRIX, NAMES, tiny_model


def with_sums(bundle, name, content):
    """Replace a file as a forger would: the sums agree."""
    (bundle / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    write_sums(bundle)


LABELS = {
    "too few titles": ({"class_names": NAMES, "class_titles": NAMES[:2]}, "expected 3 class titles, received 2"),
    "numbers": ({"class_names": [1, 2, 3], "class_titles": NAMES}, "expected JSON with class_names"),
    "a text": ({"class_names": "abc", "class_titles": "abc"}, "expected JSON with class_names"),
    "a list": (NAMES, "expected JSON with class_names"),
    "nothing": ({}, "expected JSON with class_names"),
    "not UTF-8": (b'{"class_names": ["\xff"]}', "expected UTF-8 text"),
    "deep": (b"[" * 100_000, "expected JSON with class_names"),
}


@pytest.mark.parametrize(("content", "reason"), LABELS.values(), ids=LABELS)
def test_malformed_labels_are_refused(bundle, photo, own_main, capsys, content, reason):
    with_sums(bundle, "labels.json", content)
    for run in ways(bundle, photo, own_main).values():
        assert reason in refusal(capsys, run, 2)


def row(*values):
    return {"model.onnx": {"sample/1.png": list(values)}}


EXPECTED = {
    "too few": row(0.5, 0.5),
    "not a number": row(0.5, 0.5, float("nan")),
    "text": row("a", "b", "c"),
    "ragged": {"model.onnx": {"sample/1.png": [0.2, 0.3, 0.5], "sample/2.png": [1.0]}},
    "none": {"model.onnx": {}},
    "another model": {"other.onnx": {}},
    "a list": [1, 2],
    "an image outside": {"model.onnx": {"../photo.png": [0.2, 0.3, 0.5]}},
    "not an image": {"model.onnx": {"labels.json": [0.2, 0.3, 0.5]}},
}


@pytest.mark.parametrize("content", EXPECTED.values(), ids=EXPECTED)
def test_malformed_expectations_are_refused(bundle, photo, own_main, capsys, content):
    with_sums(bundle, "sample/expected.json", content)
    for way in ("verify", "predict.py --verify"):
        line = refusal(capsys, ways(bundle, photo, own_main)[way], 2)
        assert "expected.json: expected 3 probabilities" in line or "expected.json: a sample image cannot" in line


@pytest.mark.parametrize("content", [{}, {"data": 1}, [1], b"\xff", {"data": {"dataset": {"source": "moon"}}}])
def test_a_malformed_verification_is_refused(bundle, capsys, content):
    with_sums(bundle, "verification.json", content)
    line = refusal(capsys, lambda: main(["verify", str(bundle)]), 2)
    assert "verification.json cannot be read" in line
    assert line.endswith("use the version that wrote it, or ask for the bundle again")  # it is never rebuilt


def test_a_recorded_data_set_cannot_fetch_the_code_of_a_third_party(bundle, capsys, image_folder):
    dataset = DatasetConfig(source="tfds", tfds_name="huggingface:someone/dataset").model_dump(mode="json")
    with_sums(
        bundle,
        "verification.json",
        {
            "data": {"dataset": dataset, "fingerprint": "f", "test_images": 2},
            "agreement": {"images": 2, "onnx_top1": {"value": 1.0}},
        },
    )
    line = refusal(capsys, lambda: main(["verify", str(bundle), "--data", str(image_folder)]), 2)
    assert "expected a builder of tensorflow-datasets itself" in line


def external(location, nested=False):
    """The tiny model, whose matrix is in another file; nested: as a constant inside a branch of an If."""
    model = tiny_model(NAMES)
    matrix = next(tensor for tensor in model.graph.initializer if tensor.name == "matrix")
    matrix.ClearField("raw_data")
    matrix.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "36")):
        matrix.external_data.add(key=key, value=value)
    if nested:
        branch = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["matrix"], value=matrix)], "b", [], [])
        model.graph.node.insert(0, onnx.helper.make_node("If", ["yes"], ["matrix"], then_branch=branch))
        model.graph.initializer.remove(matrix)
    return model.SerializeToString()


def with_operator():
    model = tiny_model(NAMES)
    model.graph.node[0].domain = "somebody"
    model.opset_import.add(domain="somebody", version=1)
    return model.SerializeToString()


def without_classes():
    model = tiny_model(NAMES)
    model.metadata_props[0].value = "{not JSON"
    return model.SerializeToString()


def that_cannot_be_run():
    """The matrix fits no image, which shows only when the model is run."""
    model = tiny_model(NAMES)
    next(node for node in model.graph.node if node.op_type == "ReduceMean").input[1] = "other axes"
    model.graph.node.insert(0, onnx.helper.make_node("Shape", ["image"], ["other axes"], start=3))
    return model.SerializeToString()


def with_infinite_scores():
    model = tiny_model(NAMES)
    matrix = np.full_like(MATRIX, np.inf)
    next(tensor for tensor in model.graph.initializer if tensor.name == "matrix").CopyFrom(
        onnx.numpy_helper.from_array(matrix, "matrix")
    )
    return model.SerializeToString()


MODELS = {
    "outside": (lambda: external("../photo.png"), "reads tensors from other files"),
    "absolute": (lambda: external("/etc/passwd"), "reads tensors from other files"),
    "unlisted": (lambda: external("matrix.bin"), "reads tensors from other files"),
    "nested": (lambda: external("matrix.bin", nested=True), "reads tensors from other files"),
    "custom operator": (with_operator, "cannot load it"),
    "empty": (lambda: b"", "not an ONNX model, or a damaged one"),
    "text": (lambda: b"not a model at all", "not an ONNX model, or a damaged one"),
    "cut": (lambda: tiny_model(NAMES).SerializeToString()[:-20], "not an ONNX model, or a damaged one"),
    "zeros": (lambda: bytes(300), "cannot load it"),
    "classes that are not JSON": (without_classes, "class names are not the model's"),
    "cannot be run": (that_cannot_be_run, "the model cannot be run"),
    "infinite": (with_infinite_scores, "values that are not finite"),
}


@pytest.mark.parametrize(("make", "reason"), MODELS.values(), ids=MODELS)
def test_hostile_models_are_refused(bundle, photo, own_main, capsys, make, reason):
    (bundle / "matrix.bin").write_bytes(MATRIX.tobytes())
    with_sums(bundle, "model.onnx", make())
    for way in ("verify", "predict", "predict.py", "predict.py --verify"):
        assert reason in refusal(capsys, ways(bundle, photo, own_main)[way], 2), way


def test_mutated_models_end_in_a_bundle_error_or_load(bundle):
    """The reader of protobuf fields meets 300 damaged models; the same bytes never go to onnxruntime."""
    content = (bundle / "model.onnx").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        mutated = bytearray(content)
        for position in generator.integers(0, len(content), 3):
            mutated[position] = generator.integers(0, 256)
        (bundle / "model.onnx").write_bytes(mutated)
        try:
            require_one_file(bundle / "model.onnx")
        except BundleError:
            refused += 1
    assert 20 < refused < 300


IMPOSTOR = "from pathlib import Path\nPath({marker!r}).write_text('ran')\nraise SystemExit(0)\n"


def test_no_code_of_a_bundle_is_run(bundle, photo, tmp_path, capsys):
    """`verify` and `predict`, started inside a bundle whose every Python file would leave a marker."""
    marker = tmp_path / "marker"
    code = IMPOSTOR.format(marker=str(marker))
    names = ("predict.py", "numpy.py", "onnxruntime.py", "json.py", "sitecustomize.py", "keras_bench/__init__.py")
    for name in names:
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text(code)
    write_sums(bundle)
    program = "import sys; from keras_bench.cli.main import main; sys.exit(main())"
    for words in (["verify", "."], ["predict", ".", photo]):
        # -P as for the installed command, which does not look for modules in the current folder either.
        command = [sys.executable, "-P", "-c", program, *words]
        done = subprocess.run(command, cwd=bundle, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout
    assert not marker.exists()
    subprocess.run([sys.executable, str(bundle / "predict.py")], check=True)
    assert marker.exists()  # the trap works
