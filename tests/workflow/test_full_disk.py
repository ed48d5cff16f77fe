"""Disks that are full at each stage of a run: one line each time, and once there is room the same command continues."""

import errno
import os
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from keras_bench import console, disk, files, frames
from keras_bench.cli.main import main
from keras_bench.runs.folders import run_folder
from keras_bench.training.feature_store import Entry

RUN = [
    "run", "--experiment", "digits", "--model", "MobileNet", "--phase", "tl", "--weights", "none",
    *("--set", "model.alpha=0.25", "--set", "dataset.limit_per_class=12", "--set", "tl.features=cached"),
    *("--set", "tl.epochs=2", "--set", "tl.learning_rate=0.01", "--set", "runtime.save_state_seconds=0"),
    *("--set", "explain.images=4", "--set", "latency.enabled=false", "--set", "export.int8=false"),
]  # fmt: skip
# In the order in which a run writes them. Files that grow are full at their first write.
STAGES = (
    "run.log", "*.pixels", "*.npz", "audit.json", "config.yaml", "features", "history.csv", "tail.weights.h5",
    "epoch0001.keras", "epoch0002.json", "best.weights.h5", "predictions-val.npz", "model.keras", "result.json",
    "run.json", "cost.json", "explanations.npz", "checks.json", "MobileNet-tl-seed0", "export.json",
    "results.csv", "learning_curves.png", "MODEL_CARD.md", "index.html", "summary.txt",
)  # fmt: skip
LARGE = (
    "run.log", "*.pixels", "features", "tail.weights.h5", "epoch0001.keras", "best.weights.h5", "model.keras",
    "explanations.npz", "MobileNet-tl-seed0", "learning_curves.png",
)  # fmt: skip
MESSAGE = re.compile(
    r"error: (\S+) cannot be written: the disk is full; (it needs [\d.,]+ (bytes|kB|MB), and )?[\d.,]+ (bytes|kB|MB|GB)"
    r" are free there\. Make room and repeat the command \(.*\)\n"
)


class Stage:
    """Fills the disk just before a file of this name is written for the first time."""

    def __init__(self, name, fill):
        self.name, self.fill, self.reached = name, fill, False

    def about_to_write(self, path):
        if not self.reached and Path(path).match(self.name):
            self.reached = True
            self.fill()


def patch_writers(monkeypatch, stage):
    """Tell the stage of every file, wherever it is written."""
    real = disk.writing

    @contextmanager
    def writing(path, needed=None):
        with real(path, needed):
            stage.about_to_write(path)
            yield

    for module in (files, console, frames):
        monkeypatch.setattr(module, "writing", writing)
    real_start = Entry.start

    def start(entry, shape):
        with real(entry.array):
            stage.about_to_write(Path("features"))
        return real_start(entry, shape)

    monkeypatch.setattr(Entry, "start", start)


def run_full_at_every_stage(root, stages, capsys, monkeypatch, fill, make_room):
    """Run one command with a disk that is full at one stage after another, until it has finished undisturbed."""
    monkeypatch.setenv("KERAS_BENCH_CACHE", str(root / "cache"))
    command = [*RUN, "--out", str(root / "runs")]
    wrong = []
    for name in stages:
        stage = Stage(name, fill)
        with monkeypatch.context() as patch:
            patch_writers(patch, stage)
            code = main(command)
        make_room()
        captured = capsys.readouterr()
        match = MESSAGE.fullmatch(captured.err.splitlines(keepends=True)[-1] if captured.err else "")
        names_it = match is not None and (name == "features" or Path(match[1]).match(name))
        if not (stage.reached and code == 1 and names_it and "Traceback" not in captured.err):
            wrong.append(
                f"{name}: reached {stage.reached}, exit code {code}, {captured.out[-500:]}{captured.err[-500:]}"
            )
    assert not wrong, "\n\n".join(wrong)
    assert main(command) == 0
    assert "damaged" not in capsys.readouterr().out
    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    run = run_folder(root / "runs", "digits", "MobileNet", 0)
    assert run.model("tl").is_file()
    assert run.explanations.is_file()
    assert run.model_card.is_file()
    assert not run.state("tl").exists()
    assert not [*root.rglob(".writing-*"), *root.rglob(".before-*"), *root.rglob("*.part*")]


@pytest.mark.slow
def test_a_run_on_a_disk_that_is_full_at_each_stage(tmp_path, capsys, monkeypatch):
    def fill():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run_full_at_every_stage(tmp_path, STAGES, capsys, monkeypatch, fill, lambda: None)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 96 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk, as root has")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_run_on_a_small_disk_that_is_full_at_each_stage(small_disk, capsys, monkeypatch):
    filler = small_disk / "filler"

    def fill():
        with filler.open("wb", buffering=0) as stream:
            for size in (1 << 20, 1 << 12):
                try:
                    while stream.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass

    run_full_at_every_stage(small_disk, LARGE, capsys, monkeypatch, fill, lambda: filler.unlink(missing_ok=True))
