"""Names that attack a terminal, a spreadsheet or a page pass through every command, and terminals of any encoding."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_bench.cli.main import VERBS, main
from keras_bench.evaluation.predictions import Predictions
from keras_bench.runs.folders import run_folder
from tests.made import make_run
from tests.nasty import NASTY_NAMES, NOT_UTF8, check_cells, check_files, check_shown, make_nasty_folder

VERB_NAMES = [verb.__name__.rpartition(".")[2].replace("_", "-") for verb in VERBS]
SETTINGS = [
    "--experiment", "folder", "--model", "MobileNet", "--weights", "none", "--phase", "scratch",
    "--set", "model.alpha=0.25", "--set", "dataset.image_size=32", "--set", "scratch.epochs=1",
    "--set", "latency.enabled=false", "--set", "explain.images=4", "--set", "explain.smooth_samples=2",
]  # fmt: skip


def ascii_screen(monkeypatch):
    """Replace standard output and error by a terminal that has ASCII only; return a function that returns its text."""
    streams = [io.BytesIO(), io.BytesIO()]
    for name, raw in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    return lambda: b"".join(raw.getvalue() for raw in streams).decode("ascii")


@pytest.mark.parametrize("verb", VERB_NAMES)
def test_the_help_of_every_verb_is_shown_on_an_ascii_terminal(monkeypatch, verb):
    screen = ascii_screen(monkeypatch)
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    assert "usage: keras-bench" in screen()


@pytest.mark.parametrize(
    "words",
    [
        ["models"],
        ["doctor"],
        ["cache"],
        ["run", "--experiment", "digits", "--show-config"],
        ["run", "--experiment", "\x1b[2J\u202e"],
        ["run", "--\x9b31m"],
        ["predict", "\x1b[2J", "\udce9.jpg"],
        ["verify", "caf\udce9\x1b[2J"],
        ["report", "made", "--out", "\udce9\x1b[2J"],
    ],
    ids=ascii,
)
def test_commands_that_read_only_and_errors_are_shown_on_an_ascii_terminal(monkeypatch, words):
    screen = ascii_screen(monkeypatch)
    assert main(words) in (0, 1, 2)
    assert screen()
    check_shown(screen())


def test_an_audit_of_nasty_names(capfd, tmp_path):
    data = make_nasty_folder(tmp_path / "\x1b]0;photos\x07", images=4)
    words = ["audit", str(data), "--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
    assert main(words) == 1
    output = "".join(capfd.readouterr())
    check_shown(output)
    assert r"\x1b]0;owned\x07 title" in output
    assert r"caf\xe9" in output
    assert check_files(tmp_path) == 2
    assert set(json.loads((tmp_path / "a.json").read_text())["class_titles"]) == {*NASTY_NAMES, r"caf\xe9"}


def test_an_audit_of_nasty_names_on_an_ascii_terminal(monkeypatch, tmp_path):
    screen = ascii_screen(monkeypatch)
    assert main(["audit", str(make_nasty_folder(tmp_path / NOT_UTF8, images=4))]) == 1
    check_shown(screen())
    assert r"crab \U0001f980" in screen()


def test_a_report_on_nasty_names(capfd, tmp_path):
    run = make_run(tmp_path, "MobileNet", names=NASTY_NAMES, titles=[f"{name}, title" for name in NASTY_NAMES])
    make_run(tmp_path, "VGG16", names=NASTY_NAMES, titles=[f"{name}, title" for name in NASTY_NAMES])
    assert main(["report", "made", "--out", str(tmp_path)]) == 0
    check_shown("".join(capfd.readouterr()))
    assert check_files(tmp_path) > 20
    assert r"\\x1b\]0;owned\\x07 title" in run.model_card.read_text(encoding="utf-8")
    assert "'=cmd|' C calc'!A0" in run.class_report("ft").read_text(encoding="utf-8")
    assert Predictions.from_npz(run.predictions("ft", "test")).class_names.tolist() == NASTY_NAMES


def command(words, tmp_path, encoding):
    """Run a command in a fresh process whose terminal has this encoding; "C": in the POSIX locale."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    if encoding == "C":
        environment |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        del environment["PYTHONIOENCODING"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, env=environment, cwd=tmp_path)
    output = (done.stdout + done.stderr).decode({"C": "ascii"}.get(encoding, encoding))
    assert "Traceback" not in output
    check_shown(output)
    return done.returncode, output


@pytest.mark.slow
def test_nasty_names_from_the_images_to_the_bundle(tmp_path):
    data, bench = make_nasty_folder(tmp_path / "photos"), ["-m", "keras_bench"]
    bundle = tmp_path / "exports" / "folder" / "MobileNet-scratch-seed0"
    words = [*bench, "run", *SETTINGS, "--data", data]
    assert command(words, tmp_path, "ascii")[0] == 0
    assert "nothing to do" in command(words, tmp_path, "utf-8")[1]
    assert command([*words, "--seed", 1, "--no-export"], tmp_path, "C")[0] == 0
    run = run_folder(tmp_path / "runs", "folder", "MobileNet", 0)
    other = run_folder(tmp_path / "runs", "folder", "MobileNet", 1)
    assert command([*bench, "report", "folder"], tmp_path, "latin-1")[0] == 0
    assert command([*bench, "verify", bundle, "--data", data], tmp_path, "C")[0] == 0
    assert command([*bench, "ensemble", run.root, other.root, "--data", data, "--no-export"], tmp_path, "ascii")[0] == 0
    assert command([*bench, "suite", *SETTINGS, "--data", data, "--dry-run"], tmp_path, "ascii")[0] == 0
    assert command([*bench, "cache"], tmp_path, "ascii")[0] == 0
    for encoding in ("ascii", "cp1252", "utf-8", "C"):
        code, table = command([bundle / "predict.py", data, "--format", "csv"], tmp_path, encoding)
        assert code == 1  # one image is damaged
        check_cells(table[: table.index("unreadable")])
        assert command([bundle / "predict.py", data], tmp_path, encoding)[0] == 1
        _, lines = command([*bench, "predict", bundle, data, "--format", "jsonl"], tmp_path, encoding)
        rows = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
        assert len(rows) == 10 * (len(NASTY_NAMES) + 1)
        assert encoding == "C" or all((data / row["path"]).is_file() for row in rows)
    assert check_files(tmp_path) > 40
    names = json.loads(run.dataset.read_text(encoding="utf-8"))["class_names"]
    assert sorted(names) == sorted([*NASTY_NAMES, r"caf\xe9"])
    test = Predictions.from_npz(run.predictions("scratch", "test"))
    assert sorted(test.class_names.tolist()) == sorted(names)
    assert np.all([(data / image_id.replace(r"caf\xe9", NOT_UTF8)).is_file() for image_id in test.ids])
