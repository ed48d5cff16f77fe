"""Paths on standard input, for `keras-bench predict` and for a bundle's own predict.py."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from tests.bundle_ways import ALONE
from tests.conftest import encoded
from tests.made_bundle import expected, make_bundle, picture

PREDICT = "import sys; from keras_bench.cli.main import main; sys.exit(main(['predict', *sys.argv[1:]]))"
NAMES = ("plain.png", "two\nlines.png", "return\r\n.png", " ", "\n", "-0", "[a].png", "größe\udcff.png")


@pytest.fixture(params=["predict", "predict.py"])
def predict(request, tmp_path):
    """Run a command in the folder of the photos with these bytes on standard input; None: it is closed."""
    bundle = make_bundle(tmp_path / "bundle")
    runners = {"predict": [PREDICT, str(bundle)], "predict.py": [ALONE, str(bundle / "predict.py")]}
    (tmp_path / "photos").mkdir()

    def run(content, *words):
        command = [sys.executable, "-c", *runners[request.param], *words]
        if content is None:
            command = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
        done = subprocess.run(command, input=content, capture_output=True, cwd=tmp_path / "photos")
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


def write_photos(folder):
    """Write one image under every odd name, and return the highest probability of each."""
    highest = {}
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(encoded(Image.fromarray(picture(number)), "PNG"))
        highest[name] = expected(picture(number)).max()
    return highest


@pytest.mark.skipif(os.name != "posix", reason="such names are possible only there")
@pytest.mark.parametrize("option", ["-0", "--null"])
@pytest.mark.parametrize("end", [b"\0", b""])
def test_paths_that_end_with_nul_may_hold_anything_else(predict, tmp_path, option, end):
    highest = write_photos(tmp_path / "photos")
    content = b"\0".join(os.fsencode(name) for name in NAMES) + end
    code, output, errors = predict(content, "-", option, "--format", "jsonl")
    assert (code, errors) == (0, "")
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["path"] for row in rows] == list(NAMES)
    for row in rows:
        assert row["answers"][0]["probability"] == pytest.approx(highest[row["path"]], abs=1e-6)


def test_nul_or_newline_that_does_not_fit_is_explained(predict, tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "photos" / "a.png")
    hint = "standard input: expected one path per line, received NUL characters; give --null if they end the paths\n"
    assert predict(b"a.png\0b.png\0", "-") == (2, "", f"error: {hint}")
    alone = "error: --null: expected - among the images, for paths on standard input; received none\n"
    assert predict(b"", "a.png", "--null") == (2, "", alone)
    code, _, errors = predict(b"a.png\nb.png\n", "-", "--null")
    assert code == 1
    assert errors.startswith(r"unreadable: a.png\nb.png\n: ")
    assert predict(b"", "-", "--null")[::2] == (
        2, "error: no images: expected files, folders, patterns, or - for paths on standard input\n"
    )  # fmt: skip
    assert predict(b"", "a.png", "--threads", "-5")[0] == 2  # -0 is an option, so argparse might take -5 for one


@pytest.mark.skipif(os.name != "posix", reason="needs sh")
def test_a_closed_standard_input_is_one_line(predict):
    code, _, errors = predict(None, "-")
    assert (code, errors) == (2, "error: - names standard input, which is closed\n")
