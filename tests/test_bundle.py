"""Bundles as their recipients use them, with a model computable by hand: softmax of mean colour times a matrix."""

import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from keras_bench.bundle.classify import classify, find_images
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


def rows(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_predictions_equal_those_computed_by_hand_in_the_order_of_the_files(bundle, photos, tmp_path, capsys):
    assert main([str(tmp_path / "photos"), "--top", "3", "--format", "jsonl", "--batch-size", "5"], bundle) == 0
    predictions = rows(capsys)
    assert [row["path"] for row in predictions] == list(photos)
    for row in predictions:
        truth = expected(photos[row["path"]])
        assert [prediction["class"] for prediction in row["answers"]] == [NAMES[k] for k in np.argsort(-truth)]
        np.testing.assert_allclose(
            [prediction["probability"] for prediction in row["answers"]], np.sort(truth)[::-1], atol=1e-6
        )


def test_every_way_to_name_images(photos, tmp_path, monkeypatch):
    paths = list(photos)
    assert find_images([str(tmp_path / "photos")]) == paths
    assert find_images([str(tmp_path / "photos" / "**" / "*.png")]) == paths
    assert find_images([*paths[:2], "missing.jpg"]) == [*paths[:2], "missing.jpg"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(paths[:3]) + "\n\n"))
    assert find_images(["-"]) == paths[:3]
    odd = tmp_path / "photos" / "a[1].png"
    shutil.copy(paths[0], odd)
    assert find_images([str(odd)]) == [str(odd)]  # a name that looks like a pattern


def test_table_and_csv(bundle, photos, capsys):
    first = next(iter(photos))
    truth = expected(photos[first])
    assert main([first, "--format", "csv", "--top", "2"], bundle) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "path,class_1,title_1,probability_1,class_2,title_2,probability_2"
    assert f"{np.sort(truth)[-1]:.5f}"[:6] in lines[1]
    assert main([first, "--top", "9"], bundle) == 0
    table = capsys.readouterr().out
    assert len(table.splitlines()) == 4
    assert f"{truth[0]:7.2%}  red" in table
    assert "\x1b" not in table
    assert "\\x1b[31mcielo" in table


def damaged_files(folder):
    """Files that cannot be decoded, and part of the message about each."""
    folder.mkdir()
    jpeg = encoded(Image.fromarray(picture(0, 90, 90)))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    Image.new("1", (20_000, 20_000)).save(folder / "vast.png")
    return {
        "empty.jpg": "empty",
        "text.png": "not a JPEG",
        "cut.jpg": "truncated",
        "vast.png": "is more than 250 megapixels; shrink it",
    }


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_unreadable_files_are_skipped_and_listed(bundle, photos, tmp_path, capsys):
    reasons = damaged_files(tmp_path / "bad")
    Image.fromarray(picture(3, 1, 1)).save(tmp_path / "bad" / "dot.png")
    (tmp_path / "bad" / "lying.jpg").write_bytes(encoded(Image.fromarray(picture(4)), "PNG"))
    missing = str(tmp_path / "nowhere.jpg")
    assert main([str(tmp_path / "bad"), missing, "--format", "jsonl"], bundle) == 1
    captured = capsys.readouterr()
    classified = [json.loads(line) for line in captured.out.splitlines()]
    assert [os.path.basename(row["path"]) for row in classified] == ["dot.png", "lying.jpg"]
    truth = [expected(picture(3, 1, 1)), expected(picture(4))]
    for row, probabilities in zip(classified, truth, strict=True):
        assert row["answers"][0]["probability"] == pytest.approx(probabilities.max(), abs=1e-6)
    for name, reason in {**reasons, "nowhere.jpg": "No such file"}.items():
        line = next(line for line in captured.err.splitlines() if f"{name}: " in line)
        assert reason in line, line
    assert captured.err.splitlines()[-1] == "5 of 7 files could not be read"
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            RuntimeError("bfc_arena.cc:376 onnxruntime::BFCArena::AllocateRawInternal Failed to allocate memory"),
            "memory",
        ),
        (RuntimeError("std::bad_alloc"), "memory"),
        (MemoryError("Unable to allocate 9.0 GiB for an array"), "memory"),
        (RuntimeError("Invalid rank for input"), "export it again"),
    ],
)
def test_where_memory_runs_out_a_smaller_batch_is_advised_and_not_another_export(
    error, remedy, bundle, photos, capsys, monkeypatch
):
    def run(self, *_):
        raise error

    monkeypatch.setattr("onnxruntime.InferenceSession.run", run)
    assert main([next(iter(photos))], bundle) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert ("use a smaller --batch-size, or smaller images" in message) == (remedy == "memory")
    assert ("export it again" in message) == (remedy != "memory")


def test_where_memory_runs_out_before_the_model_is_run_the_advice_is_the_same(bundle, photos, capsys, monkeypatch):
    def stack(*_):
        raise MemoryError

    monkeypatch.setattr(np, "stack", stack)
    assert main([next(iter(photos))], bundle) == 2
    assert capsys.readouterr().err == "error: out of memory: use a smaller --batch-size, or smaller images\n"


def test_bad_arguments_are_reported_in_one_line(bundle, tmp_path, capsys):
    for words, reason in (
        ([], "no images: expected files"),
        (["--top", "0", "a.jpg"], "expected a whole number of at least 1, received '0'"),
        (["--format", "xml", "a.jpg"], "invalid choice: 'xml'"),
        (["--int8", "a.jpg"], "model.int8.onnx is missing from the bundle"),
    ):
        assert main(words, bundle) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert reason in error
    assert main([str(tmp_path), "a.jpg"]) == 2
    assert "is not a bundle: expected SHA256SUMS in it" in capsys.readouterr().err


RUNNERS = {
    "predict": ["-c", "import sys; from keras_bench.cli.main import main; sys.exit(main(sys.argv[1:]))", "predict"],
    "predict.py": [],
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_errors_of_the_system_are_one_line(bundle, runner):
    first = RUNNERS[runner] + [str(bundle / ("predict.py" if runner == "predict.py" else "."))]

    def run(*words, output=subprocess.PIPE):
        command = [sys.executable, *first, *words]
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        return done.returncode, done.stderr

    code, error = run(f"{'a' * 300}.jpg")
    assert code == 1
    assert "aaa.jpg: File name too long\n1 of 1 files could not be read\n" in error
    if os.path.exists("/dev/full"):
        for words in ([str(bundle / "sample")], ["--verify"]):
            with open("/dev/full", "w") as full:
                assert run(*words, output=full) == (
                    1, "error: standard output cannot be written: No space left on device\n"
                )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--threads", "99999999999999", "expected at most 1,024, received '99999999999999'"),
        ("--threads", "-5", "expected a whole number of at least 0, received '-5'"),
        ("--top", "9" * 5000, "expected a whole number of at least 1, received '99999999999999999999'… of 5,000 "),
        ("--top", "12345678901", "expected at most 1,000,000,000, received"),
        ("--batch-size", "1.5", "expected a whole number of at least 1, received '1.5'"),
        ("--max-megapixels", "10001", "expected at most 10,000, received '10001'"),
    ],
)
def test_numbers_out_of_range_are_refused_in_one_short_line(bundle, capsys, option, value, reason):
    assert main([f"{option}={value}", "a.jpg"], bundle) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert "_positive" not in error
    assert len(error) < 200
    assert len(error.splitlines()) == 1


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


ALONE = """
import importlib.abc, runpy, sys

class Only(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {"numpy", "PIL", "onnxruntime", "defusedxml", "olefile"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Only())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_bundle_predicts_with_three_packages_and_its_own_folder(bundle, photos, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(bundle, moved)
    first = next(iter(photos))
    command = [sys.executable, "-c", ALONE, str(moved / "predict.py"), first, "--format", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    best = json.loads(done.stdout)["answers"][0]
    assert best["probability"] == pytest.approx(expected(photos[first]).max(), abs=1e-6)
    done = subprocess.run([*command[:4], "--verify"], capture_output=True, text=True, cwd="/")
    assert "all checksums match; sample images agree within" in done.stdout


@pytest.mark.slow
def test_an_environment_of_three_packages_is_enough(bundle, photos, tmp_path):
    python = tmp_path / "alone" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "alone")], check=True)
    packages = ["onnxruntime", "numpy", "pillow"]
    done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install {packages}: {done.stderr[-200:]}")
    command = [str(python), "-W", "error", str(bundle / "predict.py"), *photos, "--format", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        row = json.loads(line)
        truth = expected(photos[row["path"]]).max()
        assert row["answers"][0]["probability"] == pytest.approx(truth, abs=1e-6)


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
    for row in rows(capsys):
        content = Path(row["path"]).read_bytes()
        pixels = decode(content)
        assert np.array_equal(receiver["decode"](content), pixels)
        probabilities = {answer["class"]: answer["probability"] for answer in row["answers"]}
        # The float32 sum of a few million pixels is not exact.
        np.testing.assert_allclose([probabilities[name] for name in NAMES], expected(pixels), atol=1e-3)
