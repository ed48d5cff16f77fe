"""Damaged weights files: one line that names the file, before any image is read, and no crash of HDF5's library."""

import json
import subprocess
import sys
import zipfile
from hashlib import md5
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_bench.cli.main import main
from keras_bench.errors import RunError, UserError
from keras_bench.runs import weights_file
from keras_bench.runs.weights_file import check_weights_file, fault_of
from tests.damage import DAMAGE
from tests.logs import WarningsLog


def write_h5(path, value=0.5):
    """Arrays of several types as in a weights file, with attributes."""
    generator = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for layer in range(8):
            group = file.create_group(f"conv_{layer}")
            group.attrs["weight_names"] = [b"kernel", b"bias"]
            group["kernel"] = generator.normal(size=(3, 3, 8, 16)).astype(np.float32)
            group["bias"] = np.full(16, value, np.float32)
        file["count"] = np.int64(3)
        file.attrs["layer_names"] = [f"conv_{layer}".encode() for layer in range(8)]
    return path


def write_keras(path, config=None, value=0.5):
    weights = write_h5(path.with_suffix(".inner.h5"), value).read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config or {"class_name": "Functional", "config": {"layers": []}}))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", weights)
    return path


def test_whole_files_pass(tmp_path):
    for path in (write_h5(tmp_path / "whole.h5"), write_keras(tmp_path / "whole.keras")):
        assert fault_of(path) == ""
        check_weights_file(path)


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("write", [write_h5, write_keras])
def test_damage_is_found(tmp_path, write, kind):
    path = write(tmp_path / ("weights.h5" if write is write_h5 else "weights.keras"))
    DAMAGE[kind](path)
    # HDF5 has no checksum of its values, so only a published checksum finds a changed byte of one. The last bytes of a
    # zip are the length of its comment, which nobody reads.
    unseen = ("one byte near the start", "one byte in the middle", "last byte") if write is write_h5 else ("last byte",)
    if kind not in unseen or fault_of(path):
        with pytest.raises(UserError) as refusal:
            check_weights_file(path)
        assert str(refusal.value).startswith(f"weights: {path}: ")
        assert str(refusal.value).endswith("; copy or download it again, or use other weights")
        assert "\n" not in str(refusal.value)


def links_to(path, target):
    with h5py.File(path, "w") as file:
        file["values"] = np.ones(4)
        target(file)
    return path


def virtual(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "values", shape=(4,))
    file.create_virtual_dataset("elsewhere", layout)


CONTENTS = {
    "text.h5": (
        lambda path: path.write_text("hello, world"),
        "expected an HDF5 file (.h5), received something else of",
    ),
    "zeros.h5": (lambda path: path.write_bytes(bytes(99)), "received only zeros at its start of 99 bytes"),
    "page.h5": (lambda path: path.write_text("<!DOCTYPE html>"), "received a web page of 15 bytes"),
    "empty.h5": (lambda path: path.write_bytes(b""), "received an empty file"),
    "zip.h5": (write_keras, "received a zip of"),
    "h5.keras": (write_h5, "expected a .keras file, which is a zip, received HDF5 (.h5) of"),
    "empty.keras": (lambda path: path.write_bytes(b""), "received an empty file"),
    "other.keras": (lambda path: zipfile.ZipFile(path, "w").close(), "config.json is missing in it"),
    "nan.h5": (lambda path: write_h5(path, np.nan), "bias holds values that are not finite"),
    "infinite.keras": (lambda path: write_keras(path, value=np.inf), "bias holds values that are not finite"),
    "nothing.h5": (lambda path: h5py.File(path, "w").close(), "it holds no weights"),
    "lambda.keras": (
        lambda path: write_keras(path, {"config": {"layers": [{"class_name": "Lambda", "config": {}}]}}),
        "it holds a Lambda layer, which is code",
    ),
    "external.h5": (
        lambda path: links_to(path, lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/"))),
        "x is a link to another file",
    ),
    "stored.h5": (
        lambda path: links_to(
            path, lambda file: file.create_dataset("y", (9,), "u1", external=[("/etc/passwd", 0, 9)])
        ),
        "y is stored in another file",
    ),
    "virtual.h5": (lambda path: links_to(path, virtual), "elsewhere is stored in another file"),
    "vast.h5": (
        lambda path: links_to(path, lambda file: file.create_dataset("vast", (1 << 40,), "f4", chunks=(1 << 20,))),
        "vast claims 4,398,046,511,104 bytes, more than the file holds",
    ),
}


@pytest.mark.parametrize(("name", "write", "fault"), [(name, *case) for name, case in CONTENTS.items()], ids=CONTENTS)
def test_files_that_hold_something_else_are_named(tmp_path, name, write, fault):
    write(tmp_path / name)
    assert fault in fault_of(tmp_path / name)


def test_a_group_that_holds_itself_is_read_once(tmp_path):
    path = links_to(tmp_path / "loop.h5", lambda file: file.create_group("a").__setitem__("again", file["/"]))
    assert fault_of(path) == ""


MUTATE = """
import random, sys
from pathlib import Path
from keras_bench.runs.weights_file import fault_of
source, work, start, end = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
content = source.read_bytes()
for number in range(start, end):
    generator, mutated = random.Random(number), bytearray(content)
    if number % 4 == 0:
        mutated = mutated[: generator.randrange(len(mutated))]
    for _ in range(number % 4):
        mutated[generator.randrange(len(mutated) if number % 2 else 4096)] = generator.randrange(256)
    work.write_bytes(mutated)
    print(number, fault_of(work), flush=True)
"""


def test_three_hundred_mutations_end_in_a_fault_or_a_crash_that_is_reported(tmp_path):
    """HDF5's library ends the process on some of them, which is why a process of its own reads the file."""
    source, work = write_h5(tmp_path / "source.h5"), tmp_path / "work.h5"
    number, faults = 0, 0
    while number < 300:
        command = [sys.executable, "-c", MUTATE, str(source), str(work), str(number), "300"]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = done.stdout.splitlines()
        faults += sum(len(line.split(" ", 1)[1]) > 0 for line in lines)
        number += len(lines)
        if done.returncode:
            assert done.returncode < 0, done.stderr  # ended by a signal, not by an exception
            with pytest.raises(UserError, match="it is damaged: reading it ended with SIG"):
                check_weights_file(work)
            number += 1
    assert faults > 75  # all that were cut, and some others


def test_a_crash_is_one_line(tmp_path, monkeypatch):
    path = write_h5(tmp_path / "weights.h5")
    crashed = subprocess.CompletedProcess([], -11, "", "")
    monkeypatch.setattr(weights_file, "run_child", lambda command, capture: crashed)
    with pytest.raises(UserError, match=r"weights.h5: it is damaged: reading it ended with SIGSEGV; copy or download"):
        check_weights_file(path)


def test_a_check_that_was_killed_is_no_damage(tmp_path, monkeypatch):
    killed = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(weights_file, "run_child", lambda command, capture: killed)
    with pytest.raises(RunError, match=r"weights.h5: its check was ended by SIGKILL, as the system does when memory"):
        check_weights_file(write_h5(tmp_path / "weights.h5"))


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_member_that_unpacks_to_far_more_than_a_model_is_refused_before_it_is_read(tmp_path, name):
    path = tmp_path / "vast.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in ("config.json", "metadata.json", "model.weights.h5"):
            archive.writestr(member, bytes(70 << 20) if member == name else b"{}")
    assert fault_of(path) == f"it is damaged, or no model: {name} claims more bytes than it can hold"


@pytest.mark.parametrize("name", ["weights.h5", "weights.keras", "weights.npz", "folder.h5"])
def test_a_run_refuses_bad_weights_before_it_reads_an_image(tmp_path, capsys, name):
    path = tmp_path / name
    if name == "folder.h5":
        path.mkdir()
    else:
        path.write_bytes(bytes(1000))
    words = [
        "run",
        "--experiment",
        "digits",
        "--model",
        "MobileNet",
        "--weights",
        str(path),
        "--out",
        str(tmp_path / "runs"),
    ]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert not list(tmp_path.rglob("run.log"))


@pytest.mark.parametrize("words", [["suite"], ["run", "--dry-run"], ["sweep"], ["sweep", "--dry-run"]], ids=" ".join)
def test_damaged_weights_are_refused_before_the_first_run_and_in_its_plan(tmp_path, capfd, words):
    path = write_h5(tmp_path / "weights.h5", value=np.nan)  # only a reader of all values sees it
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("experiment: digits\nmodels: [MobileNet]\ngrid: {training.batch_size: [8, 16]}\n")
    options = [str(sweep)] if words[0] == "sweep" else ["--experiment", "digits", "--model", "MobileNet"]
    options += ["--phase", "tl"]
    assert main([*words, *options, "--weights", str(path), "--out", str(tmp_path / "runs")]) == 2
    output, errors = capfd.readouterr()
    (line,) = errors.splitlines()
    assert f"{path}: " in line
    assert "holds values that are not finite" in line
    assert "── 1/" not in output  # no run was started


def test_a_published_file_is_judged_by_its_checksum_alone(tmp_path, monkeypatch):
    from keras_bench.runs.weights import find_whole_weights
    from tests.runs.test_weights_size import job

    folder = tmp_path / "keras-home" / "models"
    folder.mkdir(parents=True)
    path = write_h5(folder / "efficientnetb0_notop.h5")
    with pytest.raises(
        UserError, match="is not the published file \\(md5 should be 50bc09e76180e00e4465e1a485ddc09d\\)"
    ):
        find_whole_weights(job("EfficientNetB0"), WarningsLog())
    log = WarningsLog()
    find_whole_weights(job("EfficientNetB0", weights=str(path)), log)
    assert [text for text in log.warned if "has the name of the published file, but is not that file (md5" in text]
    checked = []
    monkeypatch.setattr("keras_bench.runs.weights.check_weights_file", checked.append)
    checksum = md5(Path(path).read_bytes()).hexdigest()
    published = ("https://example.org/efficientnetb0_notop.h5", path.name, checksum)
    monkeypatch.setattr("keras_bench.backbones.table.Backbone.weights_source", lambda *_: published)
    assert find_whole_weights(job("EfficientNetB0"), WarningsLog()).is_published
    assert checked == []
    DAMAGE["last byte"](path)  # a value, of which HDF5 keeps no checksum
    with pytest.raises(UserError, match="is not the published file"):
        find_whole_weights(job("EfficientNetB0"), WarningsLog())
