"""The verb `lr-find`: the input it refuses, the command it ends with, and that it changes no run."""

import csv
import json
import shlex

import pytest

from keras_bench.cli.main import main
from keras_bench.files import write_text
from keras_bench.lr_find.find import next_command
from keras_bench.runs.folders import run_folder, runs_of
from keras_bench.runs.job import Request, resolve

SMALL = [
    "--experiment", "digits", "--model", "MobileNet", "--weights", "none", "--set", "model.alpha=0.25",
    "--set", "dataset.limit_per_class=12",
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--low", "0"], "--low, --high: expected rates with 0 < low < high <= 10, received 0 and 1"),
        (["--low", "0.1", "--high", "0.01"], "received 0.1 and 0.01"),
        (["--high", "100"], "received 1e-07 and 100"),
        (["--high", "nan"], "received 1e-07 and nan"),
        (["--low", "small"], "argument --low: invalid float value: 'small'"),
        (["--steps", "5"], "--steps: expected a whole number of at least 20, received 5"),
        (["--setps", "50"], "unknown option '--setps'; did you mean '--steps'"),
        (["--phase", "fit"], "invalid choice: 'fit'"),
        (["--seed", "-1"], "--seed: expected a whole number from 0 to 4294967295"),
        (["--dry-run"], "unknown option '--dry-run'"),
        (["--weights", "nowhere.h5"], "expected imagenet, none, run:… or an .h5 or .keras file"),
        (["--set", "tl.rate=1"], "unknown key 'rate'"),
        (["--set", "ft.features=cached"], "cached needs blocks that stay frozen"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words, message, capsys, tmp_path):
    assert main(["lr-find", *SMALL, "--phase", "tl", "--out", str(tmp_path / "runs"), *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "runs").exists()


def job(tmp_path, **words):
    return resolve(Request(experiment="digits", model="MobileNet", weights="none", out=tmp_path, **words))


def test_the_next_command_is_the_same_run_with_the_new_rate(tmp_path):
    settings = ("model.alpha=0.25", "tl.learning_rate=0.5", "tl.epochs=2")
    requested = job(tmp_path, phase="tl", settings=settings, seed=3, variant="wide")
    words = shlex.split(next_command(requested, 0.00123456))
    assert words == [
        "keras-bench", "run", "--experiment", "digits", "--model", "MobileNet", "--phase", "tl", "--weights", "none",
        "--seed", "3", "--out", str(tmp_path), "--variant", "wide",
        "--set", "model.alpha=0.25", "--set", "tl.epochs=2", "--set", "tl.learning_rate=0.0012",
    ]  # fmt: skip
    again = job(tmp_path, phase="tl", settings=tuple(word for word in words if "=" in word))
    assert again.config.tl.learning_rate == 0.0012


@pytest.mark.parametrize(("rate", "written"), [(3.2e-5, "3.2e-05"), (1e-7, "1e-07"), (2.0, "2")])
def test_small_rates_are_written_in_a_form_that_is_read_back_exactly(tmp_path, rate, written):
    command = next_command(job(tmp_path, phase="scratch"), rate)
    assert command.endswith(f"--set scratch.learning_rate={written}")
    again = job(tmp_path, phase="scratch", settings=(f"scratch.learning_rate={written}",))
    assert again.config.scratch.learning_rate == rate


def test_a_search_is_not_a_run(tmp_path):
    run = run_folder(tmp_path, "digits", "MobileNet", 0)
    write_text(run.config, "")
    folder = run.rate_search("tl")
    assert folder.root == tmp_path / "digits" / "MobileNet" / "lr-find" / "tl-seed0"
    for path in (folder.points, folder.search, folder.root / "config.yaml"):
        write_text(path, "")
    assert [each.root for each in runs_of(tmp_path / "digits")] == [run.root]
    assert run_folder(tmp_path, "digits", "MobileNet", 1, "wide").rate_search("ft").root == (
        tmp_path / "digits@wide" / "MobileNet" / "lr-find" / "ft-seed1"
    )


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def losses_of(folder):
    with folder.points.open() as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


@pytest.mark.slow
def test_a_search_before_and_after_a_run(tmp_path, capsys):
    words = [*SMALL, "--out", str(tmp_path), "--set", "tl.epochs=2", "--set", "tl.learning_rate=0.005"]
    folder = run_folder(tmp_path, "digits", "MobileNet", 0).rate_search("scratch")
    assert main(["lr-find", *words, "--phase", "scratch", "--steps", "40"]) == 0
    output = capsys.readouterr().out
    search = json.loads(folder.search.read_text())
    assert search["tried"] == len(losses_of(folder))
    assert search["starts_from"] == "random weights"
    assert search["inputs"]["model.alpha"] == 0.25
    steepest = search["suggestion"]["steepest"]
    assert 1e-6 < steepest < 1
    assert f"learning rate: {steepest:.2g}, where the smoothed loss falls fastest" in output
    assert f"--phase scratch --weights none --out {tmp_path}" in output
    assert f"--set scratch.learning_rate={steepest:.2g}" in output
    assert (folder.root / "curve.png").stat().st_size > 10_000
    assert f"curve: {folder.root / 'curve.png'}" in output
    assert sorted(path.name for path in folder.root.iterdir()) == [
        "curve.png", "curve.svg", "points.csv", "search.json",
    ]  # fmt: skip
    assert runs_of(tmp_path / "digits") == []
    assert main(["report", "digits", "--out", str(tmp_path)]) == 2  # there is still nothing to compare

    assert main(["lr-find", *words, "--phase", "ft", "--steps", "20"]) in (0, 1)
    assert "and a random head, since the run has no finished tl" in capsys.readouterr().out
    run = run_folder(tmp_path, "digits", "MobileNet", 0)
    assert json.loads(run.rate_search("ft").search.read_text())["starts_from"] == "random weights"
    without_tl = losses_of(run.rate_search("ft"))[0]
    quick = ["--set", "latency.enabled=false", "--set", "explain.enabled=false", "--no-export"]
    assert main(["run", *words, *quick, "--phase", "tl"]) == 0
    before = files_of(run.root)
    capsys.readouterr()
    # Starting at the best epoch of tl, it may be that no rate lowers the loss; the exit code is then 1.
    assert main(["lr-find", *words, "--phase", "ft", "--steps", "20"]) in (0, 1)
    assert f"starts from: the best epoch of the finished tl in {run.phase('tl')}" in capsys.readouterr().out
    search = json.loads(run.rate_search("ft").search.read_text())
    assert search["starts_from"] == str(run.best_weights("tl"))
    # The first loss, before any effective training: 2.330 with a random head, 2.316 with the head that tl trained.
    assert losses_of(run.rate_search("ft"))[0] < without_tl - 0.005
    assert main(["lr-find", *words, "--phase", "tl", "--steps", "40"]) == 0
    assert "--variant rate-" in capsys.readouterr().out  # a finished tl is never overwritten
    assert files_of(run.root) == before
    assert main(["lr-find", *words, "--phase", "ft", "--set", "tl.epochs=3"]) == 2
    assert "tl was finished with other settings: tl.epochs was 2, is now 3" in capsys.readouterr().err
