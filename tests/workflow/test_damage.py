"""Every file of two finished runs, damaged in every way, under every verb that reads it.

Nothing damaged is believed: each command names the file, and makes it again where that is possible without training;
no number of the comparison changes.
"""

import csv
import io
import json
import os
import re
import shutil
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import h5py
import pytest
from matplotlib.figure import Figure

from keras_bench.cli.main import main
from keras_bench.cost import latency
from keras_bench.errors import UserError
from keras_bench.processes import subprocess
from keras_bench.reading import read_json
from keras_bench.workflow import suite
from keras_bench.workflow.launch import run_command
from tests.damage import DAMAGE, change_digit

MODELS = ("MobileNet", "MobileNetV2")
SETTINGS = [
    "--experiment", "digits", "--phase", "ft", "--weights", "none",
    *("--set", "model.alpha=0.25", "--set", "dataset.limit_per_class=20", "--set", "runtime.tensorboard=false"),
    # Enough for most of the digits: predictions of a network that has learned nothing would not show a mix-up.
    *("--set", "model.batch_norm=train", "--set", "model.batch_norm_momentum=0.8", "--set", "model.dropout=0"),
    *("--set", "training.batch_size=8", "--set", "training.early_stopping_patience=50", "--set", "tl.epochs=1"),
    *("--set", "ft.epochs=16", "--set", "ft.learning_rate=0.003", "--set", "ft.learning_rate_schedule=cosine"),
    *("--set", "explain.images=4", "--set", "explain.curve_images=4", "--set", "explain.randomized_images=4"),
    *("--set", "explain.steps=4", "--set", "explain.smooth_samples=2", "--set", "explain.cells=4"),
    *("--set", "export.int8=false", "--set", "export.verify_images=20", "--set", "latency.batch_sizes=[1]"),
]  # fmt: skip
RUN, SUITE = ("--model", MODELS[0]), [word for model in MODELS for word in ("--model", model)]
TEXT = (".json", ".csv", ".yaml", ".txt", ".html", ".md", ".py", ".svg")


def flip(path):
    """Change one byte: in a text file one digit, so that it can still be read."""
    (change_digit if path.suffix in TEXT or path.name == "SHA256SUMS" else DAMAGE["one byte in the middle"])(path)


DAMAGES = {key: DAMAGE[key] for key in ("empty", "cut to half")} | {"missing": Path.unlink, "one byte flipped": flip}

ROOT, EXPERIMENT, BUNDLE = "digits/MobileNet/seed0", "digits", "exports/digits/MobileNet-tl-seed0"
# What only training can make, and what is made from it.
LOST = [f"{ROOT}/{name}" for name in ("tl/result.json", "ft/result.json")]
CURVES = [f"{ROOT}/tl/history.csv"]  # results stand without
CORE = [
    f"{ROOT}/{name}"
    for name in (
        "config.yaml", "environment.json", "dataset.json", "splits.csv", "run.json", "tl/predictions-val.npz",
        "ft/predictions-test.npz", "tl/best.weights.h5", "ft/model.keras",
    )
]  # fmt: skip
PARTS = [
    *(f"{ROOT}/{name}" for name in ("cost.json", "latency.json", "explain/checks.json", "explain/explanations.npz")),
    *(f"{ROOT}/{name}" for name in ("tl/export.json", "thumbnails/files.json", "figures/sample_predictions.png")),
    *(f"{EXPERIMENT}/{name}" for name in ("audit.json", "explained.json")),
    f"{ROOT}/thumbnails/*.jpg",
]
COMPARISON = [
    *(f"{EXPERIMENT}/{name}" for name in ("results.csv", "summary.txt", "index.html", "comparison.json")),
    *(f"{EXPERIMENT}/figures/{name}" for name in ("coverage.png", "reliability.svg")),
    *(f"{ROOT}/{name}" for name in ("tl/classes.csv", "MODEL_CARD.md", "figures/confusion_matrix.png")),
]
BUNDLES = [
    f"{BUNDLE}/{name}"
    for name in (
        "model.onnx", "labels.json", "SHA256SUMS", "predict.py", "verification.json", "MODEL_CARD.md",
        "sample/1.png", "sample/expected.json",
    )
]  # fmt: skip


def measured(command, capture=False):
    """Stand in for the processes that measure latency, whose figures nothing here depends on."""
    assert capture, command
    words = dict(zip(command[4::2], command[5::2], strict=True))
    figures = dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "mean_ms", "memory_mb", "base_memory_mb"), 1.0)
    content = {"call": words["--call"], "device": words["--device"], "accelerator": None, **figures}
    content |= {"threads": 1, "warm_up": 1, "calls": 5}
    sizes = map(int, words["--batch-sizes"].split(","))
    lines = [json.dumps({**content, "batch_size": size}) + "\n" for size in sizes]
    return subprocess.CompletedProcess(command, 0, "".join(lines), "")


def drawn(figure, stream, **options):
    """Stand in for drawing, which takes most of a command's time, and whose pixels nothing here depends on."""
    stream.write("<svg><g id='1'/></svg>" * 9 if isinstance(stream, io.StringIO) else b"<svg><g id='1'/></svg>" * 9)


@pytest.fixture(scope="module")
def in_process():
    """Keep TensorFlow, which takes seconds to start, in this process; draw nothing and measure no latencies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", drawn)
        patch.setattr(latency, "run_child", measured)
        patch.setattr(suite, "run_alone", lambda job, dry_run: main(["run", *run_command(job, dry_run)[3:]]))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, in_process):
    """The folder of two finished runs, tl then ft, with all their parts."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BENCH_CACHE", str(out / "cache"))
        assert main(["suite", *SETTINGS, *SUITE, "--out", str(out / "runs")]) == 0
    learned = [float(value) for key, value in numbers(out / "runs").items() if key[1:] == ("ft", "test_top1")]
    assert min(learned) > 0.2  # of ten classes
    return out / "runs"


def command(verb, out):
    return {
        "run": ["run", *RUN, *SETTINGS, "--out", str(out)],
        "report": ["report", "digits", "--out", str(out)],
        "export": ["export", str(out / ROOT), "--exports", str(out / "exports")],
        "suite": ["suite", *SETTINGS, *SUITE, "--out", str(out)],
    }[verb]


def called(verb, out):
    """Return the exit code and the output of one command; an exception fails the test."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = main(command(verb, out))
    text = output.getvalue() + errors.getvalue()
    assert "Traceback" not in text
    assert len([line for line in errors.getvalue().splitlines() if line.startswith("error:")]) <= 1
    return code, text


def numbers(folder):
    """Return every number of results.csv by run, phase and column."""
    with (folder / "digits" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return {(row["model"], row["phase"], column): value for row in rows for column, value in row.items() if value != ""}


def weights(file):
    """Return the bytes of each array in an HDF5 file, by its name."""
    values = {}
    with h5py.File(file) as groups:
        groups.visititems(
            lambda name, item: values.update({name: item[()].tobytes()} if hasattr(item, "dtype") else {})
        )
    return values


def meaning(path):
    """Return the content of a file without what differs between two writings of the same."""
    content = path.read_bytes()
    if path.name == "best.weights.h5":
        return weights(path)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            # Keras numbers the names of layers within one process, and writes addresses of objects.
            config = re.sub(rb'_\d+(?=["/])|(?<="shared_object_id": )\d+', b"", archive.read("config.json"))
            return config, weights(io.BytesIO(archive.read("model.weights.h5")))
    if path.suffix == ".json" and path.parent.name != "sample":
        if path.name == "labels.json":
            return json.loads(content)
        return sorted(read_json(path)) if path.name != "explained.json" else read_json(path)["ids"]  # digests included
    if path.suffix in (".npz", ".csv", ".yaml", ".jpg", ".py") or path.name == "1.png":
        return content
    return len(content) > 100


def is_like(path, original):
    """Return whether a file exists, can be read and means the same as the original."""
    try:
        return meaning(path) == meaning(original)
    except (OSError, ValueError, UserError, zipfile.BadZipFile, AssertionError):
        return False


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """Return a function that copies the finished runs to a fresh folder."""
    monkeypatch.setenv("KERAS_BENCH_CACHE", str(finished.parent / "cache"))

    def copy(name):
        out = tmp_path / name.replace(" ", "-")
        shutil.copytree(finished, out, copy_function=shutil.copy2)
        return out

    return copy


OUTCOMES = {}


@pytest.fixture(scope="module", autouse=True)
def table():
    """Write the outcomes as a table in Markdown where DAMAGE_TABLE says."""
    yield
    if target := os.environ.get("DAMAGE_TABLE"):
        verbs = ("run", "report", "export", "suite")
        files = dict.fromkeys(file for file, _ in OUTCOMES)
        rows = [[f"`{file}`", *("; ".join(OUTCOMES.get((file, verb), ["—"])) for verb in verbs)] for file in files]
        lines = [["file", *verbs], ["---"] * 5, *rows]
        Path(target).write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))


def outcome(file, verb, code, text, path, is_whole):
    """Return in words what a command did about a damaged file."""
    if "a run is left out" in text or "no run can be compared" in text:
        return f"run left out, named (exit {code})"
    if code:
        return f"named (exit {code})"
    if is_whole:
        return "made again"
    if "the results stand" in text:
        return "goes on, named"
    return "shown without, named" if str(path.name) in text or path.parent.name in text else "not read"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["run", "report", "export", "suite"])
@pytest.mark.parametrize("file", [*LOST, *CURVES, *CORE, *PARTS, *COMPARISON, *BUNDLES])
def test_whatever_is_damaged_is_named_or_made_again(file, verb, finished, copy):
    before, original = numbers(finished), next(finished.glob(file))
    for damage, change in DAMAGES.items():
        out = copy(damage)
        path = out / original.relative_to(finished)
        change(path)
        code, text = called(verb, out)
        is_whole = is_like(path, original)
        was = outcome(file, verb, code, text, path, is_whole)
        seen = OUTCOMES.setdefault((file.removeprefix(f"{ROOT}/"), verb), [])
        seen += [was] if was not in seen else []
        context = f"{file}, {damage}, {verb}: {was}\n{text}"
        check(file, verb, damage, code, text, path, is_whole, context)
        if not (path.name == "results.csv" and verb == "export"):  # which does not read it
            after = numbers(out)
            assert {key: value for key, value in after.items() if value != before.get(key)} == {}, context
        if damage == "one byte flipped":  # the most easily believed
            check_again(file, verb, out, code, path, is_whole, context)
        shutil.rmtree(out)


def check_again(file, verb, out, code, path, is_whole, context):
    """Assert that the same command does nothing more, or says the same."""
    again, said = called(verb, out)
    assert again == code, context + said
    if is_whole and verb in ("run", "suite"):
        assert "it is made again" not in said, context + said
        assert verb == "suite" or "nothing to do" in said, context + said
    elif code:
        assert path.name in said, context + said


def is_named(path, text):
    """Return whether a text says of a file what is wrong with it."""
    return any(f"{path} {what}" in text for what in ("is damaged", "is missing", "was changed since it was written"))


def check(file, verb, damage, code, text, path, is_whole, context):
    """Assert what is promised about one damaged file under one verb."""
    if file in LOST:
        assert code == (0 if verb == "report" else 1), context
        assert is_named(path, text), context
        assert f"remove {path.parent}" in text, context
        assert verb != "suite" or "not finished: MobileNet (exit code 1)" in text, context
        assert not is_whole, context
    elif file in CURVES:
        assert code == 0, context
        assert not is_whole, context
        assert verb == "export" or is_named(path, text), context
        assert text.count("the results stand, but reports leave out the learning curves") == (verb != "export"), context
    elif verb in ("run", "suite"):
        assert code == 0, context
        assert is_whole, context
        assert "nothing to do" not in text or verb == "suite", context
        named = path.name in text or (file in BUNDLES and Path(BUNDLE).name in text)
        # Without the record of the comparison, a process may have been killed before it made one.
        assert named or (damage == "missing" and (file in PARTS or path.name == "comparison.json")), context
    elif verb == "report" and path.suffix in (".h5", ".keras"):  # which it does not read
        assert code == 0, context
    elif file in CORE:
        assert code == (0 if verb == "report" else 1), context
        assert is_named(path, text), context
        assert "makes it again: keras-bench suite" in text or "the command that made the run" in text, context
    elif file in BUNDLES and verb == "export":
        assert (code, is_whole) == (0, True), context
        assert Path(BUNDLE).name in text, context
    elif file in COMPARISON and verb == "report":
        assert (code, is_whole) == (0, True), context
    else:
        assert code == 0, context
