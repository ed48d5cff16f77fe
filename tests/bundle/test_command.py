"""The command line of `predict` and of a bundle's own predict.py, with a model computable by hand."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_bench.bundle.classify import find_images
from keras_bench.bundle.command import main
from tests.conftest import encoded
from tests.made_bundle import NAMES, expected, make_bundle, picture


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


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
