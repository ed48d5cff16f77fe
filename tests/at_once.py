"""Real processes that start at the same moment, and threads that wait for a lock; tests decide when they go on."""

import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager

from keras_bench.console import Log

SECONDS = 60.0  # a test fails if a process or thread still waits after this time


class Child:
    """A process that prints "ready", pauses there and wherever it prints "halfway", and continues on `proceed`."""

    def __init__(self, process):
        self.process = process

    def read_until(self, *starts):
        """Return its output up to the first line with one of these starts; fail if it exits before that."""
        lines = []
        while not lines or not lines[-1].startswith(starts):
            lines.append(self.process.stdout.readline())
            assert lines[-1], f"exited with {self.process.wait()}: {self.process.stderr.read()}"
        return lines

    def proceed(self):
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def finish(self):
        """Wait until the process exits, which must be with code 0, and return the rest of its output."""
        output, errors = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, errors
        return output


@contextmanager
def children(code, *argument_lists):
    """Start one process per list of arguments, and let all of them proceed once all are ready."""
    with ExitStack() as stack:
        started = []
        for arguments in argument_lists:
            command = [sys.executable, "-c", code, *map(str, arguments)]
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            process = stack.enter_context(subprocess.Popen(command, text=True, **pipes))
            stack.callback(process.kill)
            timer = threading.Timer(SECONDS, process.kill)
            timer.start()
            stack.callback(timer.cancel)
            started.append(Child(process))
        for child in started:
            child.read_until("ready")
        for child in started:
            child.proceed()
        yield started


class WaitingLog(Log):
    """A log that sets `waits` once it reports waiting for another process."""

    def __init__(self):
        super().__init__()
        self.waits = threading.Event()

    def line(self, text="", style=None):
        super().line(text, style)
        if text.startswith("waiting for another process"):
            self.waits.set()


@contextmanager
def waiting(lock, function, *arguments):
    """Hold a lock until `function`, called in another thread, waits for it.

    Yields a list that receives the function's result once the block has ended and the lock is released. The function
    gets a log as its last argument.
    """
    log, results = WaitingLog(), []
    thread = threading.Thread(target=lambda: results.append(function(*arguments, log)), daemon=True)
    with lock:
        thread.start()
        assert log.waits.wait(SECONDS), "the function did not wait for the lock"
        yield results
    thread.join(SECONDS)
    assert len(results) == 1, "the function did not return a result"
