"""Real commands that are asked to end while they train: what they say, what they leave running, how they go on."""

import signal
import subprocess
import sys

import pytest

from keras_bench.runs.folders import run_folder

SETTINGS = [
    "--experiment", "digits", "--phase", "scratch", "--weights", "none", "--no-export",
    *("--set", "scratch.epochs=40", "--set", "dataset.fraction=0.3", "--set", "runtime.save_state_seconds=0"),
    *("--set", "latency.enabled=false", "--set", "explain.enabled=false", "--set", "model.alpha=0.25"),
]  # fmt: skip
SECONDS = 60  # far above the three that are promised, since other tests share the machine; a hanging process fails


def launch(verb, out):
    command = [sys.executable, "-m", "keras_bench", verb, "--model", "MobileNet", "--out", str(out), *SETTINGS]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def start(verb, out):
    process = launch(verb, out)
    for line in process.stdout:
        if "scratch epoch  3/40" in line:
            return process
    raise AssertionError("it ended before it was asked to")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "number", "code"),
    [
        ("run", signal.SIGTERM, 143),
        ("run", signal.SIGINT, 130),
        ("suite", signal.SIGTERM, 143),
        ("suite", signal.SIGKILL, -9),
    ],
)
def test_a_command_ends_with_its_processes_and_the_same_command_continues(tmp_path, verb, number, code):
    process = start(verb, tmp_path)
    process.send_signal(number)
    output, _ = process.communicate(timeout=SECONDS)  # until every process that writes to the pipe has ended
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert output.endswith("interrupted; the same command continues where it stopped\n")
    run = run_folder(tmp_path, "digits", "MobileNet", 0)
    (state,) = run.states("scratch")
    again = start_again(verb, tmp_path)
    assert f"scratch: continuing after epoch {int(state.stem.removeprefix('epoch'))}, where it was interrupted" in again


def start_again(verb, out):
    """Return what the same command prints until it trains."""
    process = launch(verb, out)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "scratch epoch" in line:
            break
    process.terminate()
    process.communicate(timeout=SECONDS)
    return "".join(lines)
