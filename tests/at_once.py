"""Real processes that start at the same moment, and threads that wait for a lock; both stop where a test wants."""

import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager

from keras_bench.console import Log

SECONDS = 60.0  # after which a process or thread that still waits is a failed test


class Child:
    """A process that says "ready", works from the next line of its input on, and stops where it says "halfway"."""

    def __init__(self, process):
        self.process = process

    def read_until(self, *starts):
        """Return the lines up to the first with one of these starts; one that ends before is an error."""
        lines = []
        while not lines or not lines[-1].startswith(starts):
            lines.append(self.process.stdout.readline())
            assert lines[-1], f"ended with {self.process.wait()}: {self.process.stderr.read()}"
        return lines

    def go_on(self):
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def end(self):
        """Return the rest of the output of a process that was let go on, and must end well."""
        output, errors = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, errors
        return output


@contextmanager
def children(code, *argument_lists):
    """Start one process for each list of arguments, and let all begin once all are ready."""
    with ExitStack() as stack:
        found = []
        for arguments in argument_lists:
            words = [sys.executable, "-c", code, *map(str, arguments)]
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            process = stack.enter_context(subprocess.Popen(words, text=True, **pipes))
            stack.callback(process.kill)
            timer = threading.Timer(SECONDS, process.kill)
            timer.start()
            stack.callback(timer.cancel)
            found.append(Child(process))
        for child in found:
            child.read_until("ready")
        for child in found:
            child.go_on()
        yield found


class WaitingLog(Log):
    """Tells when something waits for another process."""

    def __init__(self):
        super().__init__()
        self.waits = threading.Event()

    def line(self, text="", style=None):
        super().line(text, style)
        if text.startswith("waiting for another process"):
            self.waits.set()


@contextmanager
def waiting(lock, function, *arguments):
    """Hold a lock until `function`, on another thread, waits for it; yields what collects its result, then lets it go.

    The function gets a log as its last argument.
    """
    log, results = WaitingLog(), []
    thread = threading.Thread(target=lambda: results.append(function(*arguments, log)), daemon=True)
    with lock:
        thread.start()
        assert log.waits.wait(SECONDS), "it did not wait"
        yield results
    thread.join(SECONDS)
    assert len(results) == 1, "it did not end well"
