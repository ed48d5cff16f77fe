"""Ends this process and its children in good time: on Ctrl-C, SIGTERM and SIGHUP, and when the parent process dies.

Python runs a signal handler only between two of its own instructions, and a call into TensorFlow can take minutes. So
the handler raises an exception in the main thread, and a second thread, which the signal wakes at once, ends the
process if that has not happened within `GRACE_SECONDS`. Every file appears whole or not at all, so nothing is lost.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

GRACE_SECONDS = 2.0  # from the signal until the process is ended by force
POLL_SECONDS = 0.5  # between two looks whether the parent is still there
PARENT = "KERAS_BENCH_PARENT"  # environment variable: id of the process that must outlive this one
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Child(Protocol):
    """A process that is waited for, and ended if this process is interrupted."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end, and return its exit code; after `timeout` seconds raise `subprocess.TimeoutExpired`."""


_children: set[Child] = set()
_interruptible = False
_at_end: list[Callable[[], None]] = []


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end.

    Attributes:
        exit_code: 128 plus the signal's number, as shells report it: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Raise `Interrupted` in the block when a signal asks this process to end, and end it if that takes too long.

    A signal that is ignored stays ignored, as SIGHUP is under nohup. Outside the main thread, which alone may handle
    signals, nothing changes.

    Args:
        message: line for standard error when the process is ended by force.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _follow_parent()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    earlier_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handled = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    earlier = {number: signal.signal(number, _raise_interrupted) for number in handled}
    over = threading.Event()
    threading.Thread(target=_end_by_force, args=(reading, message, over), daemon=True).start()
    global _interruptible
    _interruptible = True
    try:
        yield
    finally:
        _interruptible = False
        while _at_end:
            _at_end.pop()()
        for number, handler in earlier.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(earlier_wakeup)
        over.set()
        os.close(writing)  # ends the thread, which closes the other end


def is_interruptible() -> bool:
    """Return whether the main thread is in a block of `interruptible`."""
    return _interruptible and threading.current_thread() is threading.main_thread()


def at_end_of_interruptible(function: Callable[[], None]) -> None:
    """Call a function at the end of the block of `interruptible` that runs, however it ends."""
    _at_end.append(function)


def _raise_interrupted(number: int, frame: FrameType | None) -> None:
    for ignored in SIGNALS:  # once is enough: a second signal must not break what is being cleaned up
        signal.signal(ignored, signal.SIG_IGN)
    raise Interrupted(number)


def _end_by_force(reading: int, message: str, over: threading.Event) -> None:
    """Wait for a signal, then for the main thread, and end the process if the latter takes too long."""
    with os.fdopen(reading, "rb", buffering=0) as stream:  # open until the end: a second signal writes to it as well
        numbers = stream.read(1)
        if not numbers or numbers[0] not in SIGNALS or over.wait(GRACE_SECONDS / 4):
            return
        # If the signal came just before the main thread began to wait for something, it is still waiting: once more.
        signal.pthread_kill(threading.main_thread().ident or 0, numbers[0])
        if over.wait(GRACE_SECONDS):
            return
        for child in list(_children):
            child.kill()
        print(message, file=sys.stderr, flush=True)
        os._exit(128 + numbers[0])


def run_child(command: Sequence[str], capture: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; it ends too if this process is interrupted or dies.

    Args:
        command: program and arguments. A command of this package ends with its parent even if that is killed.
        capture: return its output instead of showing it.
    """
    pipe = subprocess.PIPE if capture else None
    environment = {**os.environ, PARENT: str(os.getpid())}
    child = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, errors="replace", env=environment)
    with stopped_if_interrupted(child):
        output, errors = child.communicate()
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


@contextmanager
def stopped_if_interrupted(child: Child) -> Iterator[None]:
    """End a child that is still running when the block ends with an exception, or when this process ends by force."""
    _children.add(child)
    try:
        yield
    except BaseException:
        _stop(child)
        raise
    finally:
        _children.discard(child)


def _stop(child: Child) -> None:
    """End a child, politely first."""
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS / 2)
    child.kill()
    child.wait()


def _follow_parent() -> None:
    """End this process by SIGTERM as soon as the process that started it is gone, if that asked for it."""
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        threading.Thread(target=_watch_parent, args=(int(parent),), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
