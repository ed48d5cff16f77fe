"""The model of a bundle: accepted only with its labels, and the same pixels and probabilities as in training."""

import json
import runpy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from keras_bench.bundle.classify import classify
from keras_bench.bundle.command import main
from keras_bench.bundle.model import Bundle, verify_samples
from keras_bench.bundle.sums import BundleError, check_sums
from keras_bench.export.files import write_labels, write_sums
from keras_bench.images import decode
from tests.conftest import encoded
from tests.made_bundle import NAMES, expected, make_bundle, picture, tiny_model


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


def test_the_limit_of_the_run_applies_unless_another_is_given(bundle, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (1200, 1000)).save(photo)
    assert main([str(photo)], bundle) == 0
    for recorded, limit in (("1", 1), ("", 250), ("-1", 250), ("0", 250), ("9" * 9, 250), ("10001", 250), ("x", 250)):
        model = tiny_model(NAMES)
        model.metadata_props.add(key="max_megapixels", value=recorded)
        onnx.save(model, bundle / "model.onnx")
        write_sums(bundle)
        assert Bundle(bundle).max_megapixels == limit
        assert main([str(photo)], bundle) == (1 if limit == 1 else 0)
        assert ("1200×1000 pixels are more than 1 megapixels" in capsys.readouterr().err) == (limit == 1)
        assert main([str(photo), "--max-megapixels", "2"], bundle) == 0
        assert verify_samples(bundle) < 1e-6


def test_a_changed_byte_is_refused_before_any_prediction(bundle, photos, capsys):
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(bytes(content))
    assert main([next(iter(photos))], bundle) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "model.onnx was changed or damaged" in captured.err


def test_labels_must_be_the_models(bundle):
    (bundle / "labels.json").unlink()
    with pytest.raises(BundleError, match=r"labels.json is missing"):
        Bundle(bundle)
    write_labels(bundle, NAMES[:2], NAMES[:2])
    write_sums(bundle)
    with pytest.raises(BundleError, match="its 2 class names are not the model's, which gives 3"):
        Bundle(bundle)
    write_labels(bundle, NAMES[::-1], NAMES[::-1])  # as many, in another order: every label would be wrong
    write_sums(bundle)
    with pytest.raises(BundleError, match="are not the model's"):
        Bundle(bundle)
    (bundle / "labels.json").write_text("[]")
    write_sums(bundle)
    with pytest.raises(BundleError, match="expected JSON with class_names"):
        Bundle(bundle)


def test_other_models_are_refused(bundle):
    onnx.save(tiny_model(NAMES, output="scores_of_something"), bundle / "model.onnx")
    write_sums(bundle)
    with pytest.raises(BundleError, match="expected image uint8"):
        Bundle(bundle)
    onnx.save(tiny_model(NAMES, opset=99), bundle / "model.onnx")
    write_sums(bundle)
    with pytest.raises(BundleError, match=r"onnxruntime .* cannot load it"):
        Bundle(bundle)


def test_checksums_are_those_of_the_system_tool(bundle):
    names = check_sums(bundle)
    others = {"labels.json", "predict.py", "verification.json", "MODEL_CARD.md"}
    assert {"model.onnx", *others, "sample/1.png", "sample/2.png", "sample/expected.json"} == set(names)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=bundle, check=True)


def test_sample_predictions_are_those_at_export(bundle):
    assert verify_samples(bundle) < 1e-6
    changed = json.loads((bundle / "sample" / "expected.json").read_text())
    changed["model.onnx"]["sample/1.png"][0] += 0.01
    (bundle / "sample" / "expected.json").write_text(json.dumps(changed))
    write_sums(bundle)
    with pytest.raises(BundleError, match=r"sample images are off by 0.01"):
        verify_samples(bundle)


def test_memory_stays_small_however_large_the_images_are(bundle, tmp_path, monkeypatch):
    paths = []
    for i in range(6):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(picture(i, 64, 64)).save(paths[-1])
    monkeypatch.setattr("keras_bench.bundle.classify.GROUP_BYTES", 2 * 64 * 64 * 3)
    sizes = []
    opened = Bundle(bundle)
    monkeypatch.setattr(opened, "predict", lambda images: sizes.append(len(images)) or np.zeros((len(images), 3)))
    assert [path for path, _ in classify(opened, paths)] == paths
    assert sizes == [2, 2, 2, 0]


KINDS = {
    "plain.jpg": lambda image: encoded(image),
    "odd.webp": lambda image: encoded(image.resize((33, 17)), "WEBP"),
    "gray.png": lambda image: encoded(image.convert("L"), "PNG"),
    "clear.png": lambda image: encoded(image.convert("RGBA"), "PNG"),
    "cmyk.jpg": lambda image: encoded(image.convert("CMYK")),
    "turned.jpg": lambda image: encoded(image, exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03"
                                                    b"\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"),
    "large.jpg": lambda image: encoded(image.resize((2500, 1900))),
}  # fmt: skip


def test_every_kind_of_file_is_read_as_training_reads_it(bundle, tmp_path, capsys):
    image = Image.fromarray(picture(7, 40, 24))
    for name, make in KINDS.items():
        (tmp_path / name).write_bytes(make(image))
    assert main([*(str(tmp_path / name) for name in KINDS), "--format", "jsonl", "--top", "3"], bundle) == 0
    receiver = runpy.run_path(str(bundle / "predict.py"))
    for row in [json.loads(line) for line in capsys.readouterr().out.splitlines()]:
        content = Path(row["path"]).read_bytes()
        pixels = decode(content)
        assert np.array_equal(receiver["decode"](content), pixels)
        probabilities = {answer["class"]: answer["probability"] for answer in row["answers"]}
        # The float32 sum of a few million pixels is not exact.
        np.testing.assert_allclose([probabilities[name] for name in NAMES], expected(pixels), atol=1e-3)
