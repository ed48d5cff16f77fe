"""Commands as forks of this process, which has imported TensorFlow but not started it: a command starts at once."""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keras_bench.environment import set_tensorflow_defaults

IMPORTED = (
    *("keras_bench.cli.main", "keras_bench.workflow.run", "keras_bench.training.phase", "keras_bench.report.write"),
    *("keras_bench.explain.maps", "keras_bench.explain.checks", "keras_bench.models.onnx", "keras_bench.export.int8"),
    *("keras_bench.audit.inspect", "tf2onnx", "onnxruntime.quantization", "matplotlib.pyplot"),
)


def import_everything() -> None:
    """Import what commands import, so that their forks need not."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    set_tensorflow_defaults()
    for name in IMPORTED:
        importlib.import_module(name)


_running: set[int] = set()


@dataclass
class Fork:
    """A command in a process, and a session, of its own.

    Attributes:
        process: its id.
        output: file that takes all it prints.
        started: when, by `time.monotonic`.
        code: its exit code once it has ended; -9 if it was killed.
        seconds: how long it ran.
    """

    process: int
    output: Path
    started: float = field(default_factory=time.monotonic)
    code: int | None = None
    seconds: float = 0.0

    def has_ended(self) -> bool:
        """Return whether it has ended, and take note of how."""
        if self.code is None:
            ended, status = os.waitpid(self.process, os.WNOHANG)
            if ended:
                _running.discard(self.process)
                self.code, self.seconds = os.waitstatus_to_exitcode(status), time.monotonic() - self.started
        return self.code is not None

    def kill(self) -> None:
        """Kill it, and none of the processes that it started."""
        os.kill(self.process, signal.SIGKILL)

    def text(self) -> str:
        """Return what it has printed so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")


def start(
    work: Callable[[], int], folder: Path, output: Path, environment: Mapping[str, str], prepare: Callable[[], None]
) -> Fork:
    """Run a function in a new process and a new session.

    Args:
        work: its result is the exit code.
        folder: the process's working folder.
        output: file to which everything it prints is appended.
        environment: additional environment variables.
        prepare: called in the process first.
    """
    sys.stdout.flush()
    process = os.fork()
    if process:
        _running.add(process)
        return Fork(process, output)
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(folder)
        os.environ.update(environment)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        prepare()
        code = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def kill_all() -> None:
    """Kill every command that still runs, when this process ends before its time."""
    for process in _running:
        os.kill(process, signal.SIGKILL)


def processes_of(session: int) -> list[int]:
    """Return the processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, group = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has ended meanwhile
            continue
        if int(group) == session and state != "Z":
            found.append(int(path.parent.name))
    return found
