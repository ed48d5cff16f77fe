"""Memory that really runs out, and processes that are really killed: what is said, what goes on, what continues."""

import io
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from keras_bench.cli.main import main, parse
from keras_bench.cli.options import request_of
from keras_bench.console import Log
from keras_bench.errors import OutOfMemoryError, RunError, UserError, is_out_of_memory, memory_named
from keras_bench.files import write_json
from keras_bench.runs.job import Request, resolve
from keras_bench.runs.memory import memory_advice, smaller_batch, smaller_batch_size
from keras_bench.sweep.run import run_sweep
from keras_bench.workflow import launch, suite
from keras_bench.workflow.launch import run_each
from tests.checks import python
from tests.made_sweep import FakeRunner, request

SHAPE = (1 << 24, 1 << 24)  # as float32 a pebibyte


class Greedy(keras.layers.Layer):
    """A layer that asks for more memory than there is, inside a graph."""

    def call(self, inputs):
        return inputs * tf.reduce_sum(tf.random.uniform(SHAPE))


def fit_greedy_model():
    model = keras.Sequential([keras.layers.Dense(1), Greedy()])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)


def exhausted_graph():
    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[8,224,224,64]")


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(fit_greedy_model, marks=pytest.mark.slow),  # TensorFlow waits ten seconds for memory to be freed
        pytest.param(lambda: tf.ones(SHAPE), marks=pytest.mark.slow),
        exhausted_graph,
        lambda: np.ones(SHAPE),
        lambda: next(
            iter(tf.data.Dataset.range(1).map(lambda i: tf.py_function(lambda _: np.ones(SHAPE), [i], "float")))
        ),
    ],
    ids=["graph", "tensor", "raised", "array", "data"],
)
def test_allocations_that_fail_name_the_phase_and_the_batch_size_to_try(tmp_path, ask):
    job = digits_job(tmp_path)
    with pytest.raises(OutOfMemoryError) as error, memory_advice(job, others=False), memory_named("phase tl"):
        ask()
    assert str(error.value) == (
        "out of memory in phase tl; add --set training.batch_size=16 to the same command: "
        "half of the 32 images per step"
    )
    assert error.value.exit_code == 1


def test_a_limit_of_the_address_space_ends_a_command_in_one_line(tmp_path):
    code = (
        "import resource, sys\nfrom keras_bench.cli import main as cli\nimport numpy as np\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "cli.parse = lambda command: type('A', (), {'handler': lambda self, _=None: np.ones(1 << 28)})()\n"
        "sys.stderr = sys.stdout\nprint(cli.main(['report']))"
    )
    assert python(code) == (
        "error: out of memory in keras-bench report; try fewer models, each named by --model, or a machine with more "
        "memory\n1\n"
    )


@pytest.mark.parametrize("error", [ValueError("bad"), RunError("no"), OSError(28, "No space left on device"), None])
def test_other_errors_are_not_taken_for_a_lack_of_memory(error):
    assert not is_out_of_memory(error)
    full_disk = tf.errors.ResourceExhaustedError(None, None, "a.index; No space left on device")
    assert not is_out_of_memory(full_disk)
    with pytest.raises(UserError, match="MemoryError"), memory_named("x"):
        raise UserError("a class named MemoryError")


def digits_job(tmp_path, *settings):
    return resolve(Request("digits", "MobileNet", out=tmp_path / "runs", weights="none", settings=settings))


@pytest.mark.parametrize(
    ("batch_size", "portions", "expected"),
    [(64, 1, 32), (3, 1, 1), (2, 1, 1), (1, 1, None), (4, 4, None), (12, 4, 4), (32, 4, 16), (20, 4, 8)],
)
def test_half_of_a_batch_still_splits_into_its_portions(tmp_path, batch_size, portions, expected):
    settings = (f"training.batch_size={batch_size}", f"training.accumulation_steps={portions}")
    job = digits_job(tmp_path, *settings)
    assert smaller_batch_size(job.config.training) == expected
    if expected is None:
        assert "a single image at a time is the least" in smaller_batch(job, others=True)
    else:
        digits_job(tmp_path, *settings, f"training.batch_size={expected}")  # is accepted


@pytest.mark.parametrize("verb", ["run", "suite", "sweep"])
def test_the_options_can_be_pasted_behind_a_command_with_work_of_the_old_batch_size(tmp_path, verb):
    out = tmp_path / "runs"
    job = digits_job(tmp_path, "training.batch_size=64")
    write_json(job.folder.result("tl"), {})
    advice = smaller_batch(job, others=verb != "run")
    options = advice.removeprefix("add ").partition(" to the same command")[0].split()
    assert options == ["--set", "training.batch_size=32", "--out", f"{out}-batch-32"]
    command = [verb, *(["dropout"] if verb == "sweep" else []), "--out", str(out), "--set", "training.batch_size=64"]
    arguments = parse([*command, *options])
    assert arguments.out == tmp_path / "runs-batch-32"
    assert arguments.settings[-1] == "training.batch_size=32"
    if verb == "run":
        again = resolve(request_of(arguments, "MobileNet"))
        assert again.config.training.batch_size == 32
        assert not again.folder.root.is_relative_to(out)


def test_the_other_folder_has_a_name_whatever_out_is(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path / "runs")
    folders = {".": f"{tmp_path}/runs-batch-16", "..": f"{tmp_path}-batch-16", "/": "/runs-batch-16"}
    folders |= {"my runs": "'my runs-batch-16'", "a": "a-batch-16"}
    for out, other in folders.items():
        job = resolve(Request("digits", "MobileNet", out=Path(out), weights="none"))
        advice = smaller_batch(job, others=True)
        assert f" --out {other} to the same command: " in advice
        assert "holds work" not in advice


CHILDREN = {
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "fails": "raise SystemExit(1)",
    "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "works": "",
}


def children_for(monkeypatch, **fates):
    """Replace the process of each model by one that meets its fate; returns the models in the order they ran."""
    ran = []

    def command(job, dry_run=False):
        ran.append(job.backbone.name)
        return [sys.executable, "-c", CHILDREN[fates[job.backbone.name]]]

    monkeypatch.setattr(launch, "run_command", command)
    monkeypatch.setattr(suite, "measure_latencies", lambda jobs, log: None)
    monkeypatch.setattr(suite, "compare_runs", lambda folder, log, memory: None)
    return ran


MODELS = {"MobileNet": "killed", "MobileNetV2": "fails", "MobileNetV3Small": "crashes", "MobileNetV3Large": "works"}


def test_a_suite_goes_on_after_a_killed_process_and_ends_with_the_list(tmp_path, monkeypatch, capsys):
    ran = children_for(monkeypatch, **MODELS)
    words = ["suite", "--experiment", "digits", "--weights", "none", "--out", str(tmp_path / "runs")]
    words += [word for name in MODELS for word in ("--model", name)]
    assert main(words) == 1
    assert ran == list(MODELS)
    output = capsys.readouterr().out
    killed = "killed by the system, most likely because memory ran out"
    out = tmp_path / "runs"
    assert (
        f"warning: MobileNet was {killed}; add --set training.batch_size=16 --out {out}-batch-16 to the same command"
    ) in output
    assert (
        f"not finished: MobileNet ({killed}), MobileNetV2 (exit code 1), MobileNetV3Small (ended by SIGSEGV); "
        "the same command runs what is missing"
    ) in output
    children_for(monkeypatch, **dict.fromkeys(MODELS, "works"))
    assert main(words) == 0


def test_a_sweep_goes_on_after_a_killed_process(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("keras_bench.sweep.results.write_results", lambda plan, points, tasks, log: None)
    runner = FakeRunner(fails=(0.2,), code=-9)
    assert run_sweep(request(tmp_path), False, Log(), runner) == 1
    assert len(runner.calls) == 4
    output = capsys.readouterr().out
    assert output.count("was killed by the system, most likely because memory ran out; add --set") == 2
    assert "not finished: dropout=0.2, batch_size=16, MobileNet (killed by the system" in output


def test_code_137_of_a_shell_is_a_kill_too(tmp_path):
    screen = io.StringIO()
    log = Log(Console(file=screen, width=400))
    assert run_each([digits_job(tmp_path)], ["MobileNet"], lambda job: 137, log) == [137]
    assert "MobileNet was killed by the system" in screen.getvalue()
