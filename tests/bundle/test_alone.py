"""A bundle as its recipients use it, without keras-bench."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.bundle_ways import ALONE
from tests.made_bundle import expected, make_bundle


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


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
