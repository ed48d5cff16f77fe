"""The five studies by their make targets, each from end to end on a small stand-in for its data."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from keras_bench.runs.folders import RunDir
from tests.stand_ins import INTEL_CLASSES, WORDNET_IDS, make_cifar10, make_imagenet100, make_intel, make_messy

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# One epoch per phase on 32 pixels. Most of the time goes into building graphs, so each test switches on only the part
# that its study is about among those that follow training; together they cover all of them.
SHORT = {
    "dataset.image_size": 32, "tl.epochs": 1, "ft.epochs": 1, "scratch.epochs": 1, "training.batch_size": 8,
    "explain.enabled": "false", "explain.images": 6, "explain.curve_images": 4, "explain.randomized_images": 4,
    "explain.smooth_samples": 2, "explain.cells": 4, "explain.steps": 4, "latency.enabled": "false",
    "latency.batch_sizes": "[1]", "latency.calls": 5, "latency.seconds": 1, "latency.warm_up": 1,
    "export.enabled": "false", "export.int8": "false", "runtime.tensorboard": "false",
}  # fmt: skip


def environment():
    """Return this process's environment without the variables that an outer make passes to inner ones."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


def make(target, out, data=None, *words, **changes):
    """Run a target as a user would, with this interpreter's packages; return exit code, output and errors."""
    arguments = [*words, "--out", str(out)]
    for key, value in {**SHORT, **{key.replace("__", "."): value for key, value in changes.items()}}.items():
        arguments += ["--set", f"'{key}={value}'"]
    command = ["make", "-o", ".venv/.installed", f"KERAS_BENCH={sys.executable} -m keras_bench", target]
    command += [f"ARGS={' '.join(arguments)}"] + ([f"DATA={data}"] if data else [])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    return done.returncode, done.stdout, done.stderr


def finished(target, out, data, *words, **changes):
    code, output, errors = make(target, out, data, *words, **changes)
    assert code == 0, output[-3000:] + errors[-3000:]
    return output


def rows(folder):
    with (folder / "results.csv").open() as stream:
        return {(row["model"], row["phase"]): row for row in csv.DictReader(stream)}


def test_help_lists_every_study():
    words = {"cwd": ROOT, "capture_output": True, "text": True, "env": environment(), "check": True}
    output = subprocess.run(["make", "help"], **words).stdout
    for name in ("tiny-imagenet", "intel", "imagenet100", "cifar10", "folder"):
        assert re.search(rf"^  {name}-all  +study \d: ", output, re.MULTILINE)


@pytest.mark.slow
def test_without_its_data_a_study_stops_at_once_with_one_line(tmp_path):
    for name in ("intel", "imagenet100", "folder"):
        code, _, errors = make(f"{name}-all", tmp_path / "runs", dataset__image_size=75)
        assert code == 2
        lines = [line for line in errors.splitlines() if not line.startswith("make")]
        assert len(lines) == 1
        assert lines[0].startswith(f"error: {name}: its images are not downloaded for you")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_tiny_imagenet(tmp_path, tiny_imagenet_zip):
    models = ("VGG16", "ResNet50", "EfficientNetB0")
    finished("tiny-imagenet-all", tmp_path, tiny_imagenet_zip, "--weights", "none")
    assert set(rows(tmp_path / "tiny-imagenet")) == {(model, phase) for model in models for phase in ("tl", "ft")}
    assert "† Other data here: not comparable" in (tmp_path / "tiny-imagenet" / "index.html").read_text()


@pytest.mark.slow
def test_intel(tmp_path):
    data = shutil.make_archive(str(tmp_path / "intel"), "zip", make_intel(tmp_path / "data with spaces"))
    output = finished("intel-all", tmp_path, data, "--weights", "none", explain__enabled="true")
    assert "seg_pred: neither train, val nor test: its 5 images are taken as unlabelled" in output
    folder = tmp_path / "intel"
    assert set(rows(folder)) == {(model, phase) for model in ("EfficientNetB0", "ResNet50") for phase in ("tl", "ft")}
    dataset = json.loads((folder / "ResNet50" / "seed0" / "dataset.json").read_text())
    assert dataset["class_names"] == list(INTEL_CLASSES)
    assert dataset["images"] == {"train": 18, "val": 6, "test": 12}
    page = (folder / "index.html").read_text()
    assert "not comparable" not in page
    claim = re.search(r"<tr><td[^>]*>EfficientNetB0 has the more focused Grad-CAM</td>.*?</tr>", page, re.DOTALL)[0]
    assert re.search(r"as published|the opposite|no difference shown", claim)
    # Grad-CAM of both models on the same images, side by side.
    explained = [
        json.loads(RunDir(folder / model / "seed0").explanation_checks.read_text())["ids"]
        for model in ("ResNet50", "EfficientNetB0")
    ]
    assert explained[0] == explained[1]
    assert (folder / "figures" / "explanations.png").is_file()


@pytest.mark.slow
def test_imagenet100(tmp_path):
    data = make_imagenet100(tmp_path / "data")
    finished("imagenet100-all", tmp_path, data)
    folder = tmp_path / "imagenet100"
    models = ("ResNet50", "ResNet34", "ResNet18", "EfficientNetB0")
    assert set(rows(folder)) == {(model, "scratch") for model in models}
    for model in models:
        run = RunDir(folder / model / "seed0")
        log = run.log.read_text()
        table = log[log.index("scratch: every class on test") :]
        assert all(word in table for word in ("precision", "recall", "F1", "images"))
        for k in range(len(WORDNET_IDS)):
            assert re.search(rf"│ title {k}, synonym +│ +\d\.\d{{3}} │ +\d\.\d{{3}} │ +\d\.\d{{3}} │ +2 │", table)
        assert json.loads(run.dataset.read_text())["images"] == {"train": 24, "val": 8, "test": 16}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # tensorflow-datasets uses names that NumPy and etils deprecate
def test_cifar10(tmp_path):
    data = make_cifar10(tmp_path / "tensorflow_datasets", train=6, test=2)
    words = ["--model", "EfficientNetB0", "--model", "ResNet18", "--weights", "none"]
    output = finished("cifar10-all", tmp_path, data, *words, latency__enabled="true")
    folder = tmp_path / "cifar10"
    assert set(rows(folder)) == {("EfficientNetB0", "tl"), ("EfficientNetB0", "ft"), ("ResNet18", "scratch")}
    dataset = json.loads((folder / "ResNet18" / "seed0" / "dataset.json").read_text())
    assert dataset["class_names"][:2] == ["airplane", "automobile"]
    assert dataset["images"] == {"train": 50, "val": 10, "test": 20}
    page = (folder / "index.html").read_text()
    for part in (page, output[output.index("test top-1") :]):
        assert "ResNet18 (scratch)" in part
    assert all(float(row["compiled_cpu_batch1_p50_ms"]) > 0 for row in rows(folder).values())
    assert 'below them ("study") the published figures' in page
    assert '<span class="ends">study 97.0</span>' in page


@pytest.mark.slow
def test_folder(tmp_path):
    data = make_messy(tmp_path / "photos")
    before = {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in data.rglob("*")}
    models = ("ResNet50", "EfficientNetB0", "InceptionV3")
    words = ["--weights", "none"]
    output = finished(
        "folder-all", tmp_path, data, *words, dataset__image_size=75, export__enabled="true", export__phases="all"
    )
    folder = tmp_path / "folder"
    assert set(rows(folder)) == {(model, phase) for model in models for phase in ("tl", "ft")}
    assert "3 unreadable images are left out (all are listed in dataset.json)" in output
    assert "3 files in class folders have no image extension" in output
    dataset = json.loads((folder / "ResNet50" / "seed0" / "dataset.json").read_text())
    assert {name.rsplit("/", 1)[1] for name in dataset["unreadable"]} == {"half.jpg", "empty.png", "page.jpg"}
    assert dataset["images"] == {"train": 50, "val": 6, "test": 6}
    for model in models:
        assert (tmp_path / "exports" / "folder" / f"{model}-ft-seed0" / "model.onnx").is_file()
        assert (folder / model / "seed0" / "figures" / "confusion_matrix.png").is_file()
    assert {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in data.rglob("*")} == before
