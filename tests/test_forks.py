"""Forks of a prepared process: their exit codes, what they inherit, and that they end with the process that asked."""

import signal
import subprocess
import sys
import textwrap

import pytest

from keras_bench import forks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")

SECONDS = 20  # far above the three that are promised, since other tests share the machine; a hanging process fails

MADE = """
    import os, signal, sys, threading, time
    from keras_bench.processes import Interrupted, interruptible
    times = 0

    def prepare():
        global times
        times += 1

    def fail():
        raise ValueError("not to be shown")

    if __name__ == "__main__":
        import made
        what = sys.argv[1]
        if what == "tell":
            threads = len(os.listdir("/proc/self/task"))
            print(sys.argv[1:], made.times, os.environ["GIVEN"], os.getppid(), threads, flush=True)
            sys.exit(7)
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            with interruptible("ended by force"):
                print("ready", flush=True)
                time.sleep(600)
        except Interrupted as error:
            sys.exit(error.exit_code)
"""
ASKING = """
    import os, sys
    from keras_bench import forks
    from keras_bench.processes import Interrupted, interruptible
    try:
        with interruptible("ended by force"):
            for what in sys.argv[1:]:
                prepare = "made:fail" if what == "fail" else "made:prepare"
                print(what, forks.run_forked("made", [what, "ä"], prepare), flush=True)
    except Interrupted as error:
        sys.exit(error.exit_code)
    print(forks.run_forked("made", ["tell"], "made:prepare"), flush=True)
"""


@pytest.fixture
def ask(tmp_path, monkeypatch):
    (tmp_path / "made.py").write_text(textwrap.dedent(MADE))
    monkeypatch.setenv("GIVEN", "given")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def start(*words):
        command = [sys.executable, "-c", textwrap.dedent(ASKING), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_forks_of_one_process_are_prepared_once_and_end_as_fresh_ones_do(ask):
    output, errors = ask("tell", "die", "tell").communicate(timeout=SECONDS)
    told = [line for line in output.splitlines() if line.startswith("[")]
    assert told[0] == told[1]  # the server too is the same
    assert told[0].startswith("['tell', 'ä'] 1 given ")
    assert told[0].endswith(" 1")  # no thread but its own
    ends = [line for line in output.splitlines() if not line.startswith("[")]
    assert ends == ["tell 7", "die -9", "tell 7", "None"]  # outside the block nothing is forked
    assert errors == ""


def test_where_the_preparation_fails_nothing_is_started(ask):
    output, errors = ask("fail", "tell").communicate(timeout=SECONDS)
    assert output.splitlines()[0] == "fail None"
    assert "tell 7" in output  # by another server
    assert errors == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_forks_end_with_the_process_that_asked(ask, number, code):
    process = ask("sleep")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate(timeout=SECONDS)  # until server and fork, too, have closed the pipes
    assert process.returncode == code


def test_with_an_nvidia_driver_nothing_is_forked(tmp_path, monkeypatch):
    monkeypatch.setattr(forks, "is_interruptible", lambda: True)
    monkeypatch.setattr(forks, "NVIDIA_DRIVER", tmp_path)
    assert not forks.can_fork()
    monkeypatch.setattr(forks, "NVIDIA_DRIVER", tmp_path / "none")
    assert forks.can_fork()
