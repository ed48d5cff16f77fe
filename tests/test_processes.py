"""Signals end a process and its children in good time, whatever the process is doing; a dead parent does too."""

import signal
import subprocess
import sys
import textwrap

import pytest

SECONDS = 20  # far above the two that are promised, since other tests share the machine; a hanging process fails

WAIT = """
    import hashlib, sys, threading, time
    from keras_bench.processes import Interrupted, interruptible
    try:
        with interruptible("ended by force"):
            threading.Timer({delay}, print, ["ready"], {{"flush": True}}).start()
            {work}
    except Interrupted as error:
        print("ended itself", flush=True)
        sys.exit(error.exit_code)
"""
ASLEEP = WAIT.format(delay=0, work="time.sleep(600)")
# The signal must not come before the call does; the call takes microseconds to begin, and longer than any test to end.
BUSY_IN_C = WAIT.format(delay=0.5, work="hashlib.pbkdf2_hmac('sha256', b'password', b'salt', 2_000_000_000)")
PARENT = """
    import sys
    from keras_bench.processes import Interrupted, interruptible, run_child
    try:
        with interruptible("ended by force"):
            run_child([sys.executable, "-c", sys.argv[1]])
    except Interrupted as error:
        sys.exit(error.exit_code)
"""


def start(code, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_raises_and_the_exit_code_names_it(number, code):
    process = start(ASLEEP)
    process.send_signal(number)
    output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output, errors) == (code, "ended itself\n", "")


def test_a_signal_that_is_ignored_stays_ignored():
    """As SIGHUP is under nohup: a run must outlive the terminal that started it."""
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + textwrap.dedent(ASLEEP)
    process = start(ignoring)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 143


def test_a_process_that_is_busy_outside_python_is_ended_by_force():
    process = start(BUSY_IN_C)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output, errors) == (143, "", "ended by force\n")


@pytest.mark.parametrize("work", [ASLEEP, BUSY_IN_C], ids=["asleep", "busy"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_children_end_with_their_parent(work, number, code):
    command = [sys.executable, "-c", textwrap.dedent(PARENT), textwrap.dedent(work)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "ready\n"
    parent.send_signal(number)
    parent.communicate(timeout=SECONDS)  # until the child, too, has closed the pipes
    assert parent.returncode == code
