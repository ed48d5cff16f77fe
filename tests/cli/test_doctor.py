"""The verb `doctor`: 0 where all is well, 1 and the name of what is not where one thing is wrong."""

import dataclasses
import hashlib
import json
import socket
from importlib import metadata

import h5py
import numpy as np
import pytest

from keras_bench.backbones.table import BACKBONES
from keras_bench.cli.main import main
from keras_bench.models import normalization, start
from keras_bench.models.preprocessing import differing_backbones
from keras_bench.runs import machine
from keras_bench.runs.machine import Check, check_folder, check_memory, check_packages, check_weight_files

GIB = 1 << 30


@pytest.fixture(autouse=True)
def _healthy(tmp_path, monkeypatch):
    """A machine with room, from which nothing can be reached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "memory", lambda: (8 * GIB, 4 * GIB))
    usage = machine.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage._replace(free=20 * GIB))

    def refuse(*_):
        raise AssertionError("doctor uses the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "keras-home" / "models"
    folder.mkdir(parents=True)
    return folder


def problems(capsys, code):
    assert main(["doctor"]) == code
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem: ")]


def test_all_is_well(capsys):
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "problem" not in output
    assert f"│ tensorflow          │ {metadata.version('tensorflow')}" in output
    assert "8.6 GB, 4.3 GB free" in output
    assert "of every backbone as in keras.applications" in output
    assert output.splitlines()[-1] == "all is well; next: keras-bench run --experiment digits --dry-run"


def test_a_wrong_normalisation_is_named_by_backbone(capsys, monkeypatch):
    monkeypatch.setattr(normalization, "IMAGENET_DEVIATION", (0.225, 0.224, 0.229))
    torch = {"ResNet18", "ResNet34", "DenseNet121", "DenseNet169", "DenseNet201"}
    expected = torch | {f"EfficientNetB{size}" for size in range(8)}
    # Largest for blue at 255: (1 - 0.406) / 0.225 - (1 - 0.406) / 0.229 = 0.0461.
    lines = problems(capsys, 1)
    assert {line.split(": ")[2] for line in lines} == expected
    assert all("pixels differ from keras.applications by up to 0.046; install" in line for line in lines)


def test_channels_in_the_wrong_order_are_seen(monkeypatch):
    monkeypatch.setattr(normalization, "CAFFE_MEAN_BGR", normalization.CAFFE_MEAN_BGR[::-1])
    differing = differing_backbones()
    assert set(differing) == {"VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152"}
    np.testing.assert_allclose(list(differing.values()), 123.68 - 103.939, atol=1e-4)


def test_damaged_weights_are_named(capsys, weights, monkeypatch):
    (weights / "efficientnetb0_notop.h5").write_bytes(b"half a file")
    listed = dataclasses.replace(BACKBONES["VGG16"], weights_checksum=hashlib.md5(b"the weights").hexdigest())
    monkeypatch.setitem(BACKBONES, "VGG16", listed)
    name = listed.weights_source()[1]
    (weights / name).write_bytes(b"the weights")
    (line,) = problems(capsys, 1)
    received = hashlib.md5(b"half a file").hexdigest()
    expected = f"(expected md5 50bc09e76180e00e4465e1a485ddc09d, received {received}); delete {weights}"
    assert line.startswith(f"problem: weights: efficientnetb0_notop.h5 is not the published file {expected}")
    assert Check("weights", f"{name}, md5 matches") in check_weight_files()


def test_weights_without_a_published_checksum_that_were_cut_off_are_seen(weights):
    path = weights / "mobilenet_7_5_160_tf_no_top.h5"
    with h5py.File(path, "w") as file:
        file["kernel"] = np.arange(10_000.0)
    (check,) = check_weight_files()
    assert check == Check("weights", f"{path.name}, can be opened; no checksum is published for it")
    path.write_bytes(path.read_bytes()[:-1000])
    (check,) = check_weight_files()
    assert "cannot be read" in check.value
    assert "truncated" in check.value
    assert str(path) in check.remedy


def test_versions_outside_their_ranges_are_problems_and_missing_extras_are_not(monkeypatch):
    required = ["numpy<1", "no-such-package>=2", "pillow", 'no-such-extra>=1; extra == "search"']
    old = ['keras>=99; extra == "tfds"', 'pytest>=99; extra == "dev"', 'scipy>=99; python_version < "3"']
    monkeypatch.setattr(metadata, "requires", lambda _: required + old)
    version = metadata.version
    assert check_packages()[2:] == [
        Check("numpy", f"{version('numpy')}, expected <1", "pip install 'numpy<1'"),
        Check("no-such-package", "not installed, expected >=2", "pip install 'no-such-package>=2'"),
        Check("pillow", version("pillow")),
        Check("no-such-extra", "not installed (the extra search)"),
        Check("keras", f"{version('keras')}, expected >=99", "pip install 'keras>=99'"),
    ]


def test_an_old_python_is_a_problem_and_a_checkout_that_is_not_installed_is_not(monkeypatch):
    monkeypatch.setattr(machine.platform, "python_version", lambda: "3.10.1")
    assert check_packages()[0].remedy.startswith("use Python ")
    monkeypatch.setattr(machine, "DISTRIBUTION", "not-installed-anywhere")
    checks = check_packages()
    assert "not installed, so the versions it requires are unknown" in checks[1].value
    assert Check("keras", metadata.version("keras")) in checks
    assert not any(check.remedy for check in checks)


def test_a_cache_that_is_a_file_is_a_problem(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    (line,) = problems(capsys, 1)
    assert line.startswith(f"problem: cache: {tmp_path / 'file'} is a file, expected a folder; ")


def test_folders_without_room_or_permission_are_problems(tmp_path, monkeypatch):
    usage = machine.shutil.disk_usage(tmp_path)
    assert check_folder("runs", tmp_path / "runs") == Check("runs", f"{tmp_path / 'runs'}, 21.5 GB free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage._replace(free=GIB - 1))
    assert "free some space" in check_folder("runs", tmp_path / "runs").remedy
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    assert check_folder("runs", tmp_path / "runs").value == f"{tmp_path} is not writable"


def test_little_memory_is_a_problem_and_unknown_memory_is_not(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (8 * GIB, GIB - 1))
    assert "training.batch_size" in check_memory().remedy
    monkeypatch.setattr(machine, "memory", lambda: (None, None))
    assert check_memory() == Check("memory", "unknown on this system")


def test_damaged_features_are_named(capsys, tmp_path):
    folder = tmp_path / "cache" / "features"
    folder.mkdir(parents=True)
    for key, facts in (("whole", {"bytes": 3}), ("short", {"bytes": 4}), ("bare", {})):
        (folder / f"{key}.npy").write_bytes(b"abc")
        (folder / f"{key}.json").write_text(json.dumps(facts))
    (folder / "torn.npy").write_bytes(b"abc")
    (folder / "torn.json").write_text('{"bytes"')
    lines = problems(capsys, 1)
    assert {line.split(": ")[3].split()[0] for line in lines} == {
        str(folder / f"{key}.npy") for key in ("short", "bare", "torn")
    }


def test_a_tensorflow_that_cannot_be_imported_is_a_problem(capsys, monkeypatch):
    def broken(_):
        raise ImportError("libcudnn.so.9: cannot open\nshared object file")

    monkeypatch.setattr(start, "start_tensorflow", broken)
    (line,) = problems(capsys, 1)
    assert line.startswith("problem: TensorFlow: cannot be imported (libcudnn.so.9: cannot open shared object file); ")
