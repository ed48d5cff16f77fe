"""Runs modules of this package as forks of one process that has imported what they need, and spares them the imports.

The process that forks, the server, has one thread of its own and has started nothing: no TensorFlow device and no
thread but those of OpenBLAS and jemalloc, which know how to be forked. It is itself started afresh, with none of the
threads of the process that asks. A fork then runs the module as
`python -m` would. Only Linux without an NVIDIA driver forks, and only in a block of `interruptible`; otherwise the
answer is None, and the module is to be run in a fresh process.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from keras_bench.processes import (
    GRACE_SECONDS,
    PARENT,
    SIGNALS,
    at_end_of_interruptible,
    is_interruptible,
    stopped_if_interrupted,
)

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def can_fork() -> bool:
    """Return whether commands may be forks: on Linux without an NVIDIA driver, whose state may not survive a fork."""
    return sys.platform == "linux" and not NVIDIA_DRIVER.exists() and is_interruptible()


def run_forked(module: str, arguments: Sequence[str], prepare: str) -> int | None:
    """Run a module as `python -m module arguments` does; it ends too if this process is interrupted or dies.

    Args:
        module: its full name.
        arguments: the words that follow it.
        prepare: "module:function", called once in the process that forks; it imports what the module will need.

    Returns:
        the exit code, negative for the signal that ended it; None if it could not be started.
    """
    global _server
    if not can_fork():
        return None
    if _server is not None and not _server.is_usable():
        _server.close()
        _server = None
    if _server is None:
        _server = _Server()
        at_end_of_interruptible(_close_server)
    return _server.run({"module": module, "arguments": list(arguments), "prepare": prepare})


class _Server:
    """The other end of a process that forks."""

    def __init__(self) -> None:
        self.surroundings = _surroundings()
        requests, self.requests = os.pipe()
        self.replies, replies = os.pipe()
        command = [sys.executable, "-m", "keras_bench.forks", str(requests), str(replies)]
        self.process = subprocess.Popen(command, pass_fds=(requests, replies))
        os.close(requests)
        os.close(replies)
        self.received = b""

    def is_usable(self) -> bool:
        """Return whether it runs, in the folder and with the environment that this process has now."""
        return self.process.poll() is None and self.surroundings == _surroundings()

    def run(self, request: dict[str, Any]) -> int | None:
        """Run one module and return its exit code, or None if it was not started."""
        child = _Forked(self)
        with stopped_if_interrupted(child):
            self.send(request)
            return child.wait()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; one to a server that has ended is lost, which the reply then shows."""
        with suppress(BrokenPipeError):
            os.write(self.requests, json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float | None) -> dict[str, Any] | None:
        """Return the next message, or None once the server has ended.

        Raises:
            subprocess.TimeoutExpired: none came in time.
        """
        while b"\n" not in self.received:
            if not select.select([self.replies], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a fork", timeout or 0)
            content = os.read(self.replies, 4096)
            if not content:
                return None
            self.received += content
        line, self.received = self.received.split(b"\n", 1)
        return dict(json.loads(line))

    def close(self) -> None:
        """End the server, which ends by itself when its requests end."""
        os.close(self.requests)
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.replies)


class _Forked:
    """A fork of the server, to be waited for and ended like a child of this process."""

    def __init__(self, server: _Server) -> None:
        self.server = server
        self.has_started = False
        self.code: int | None = None
        self.has_ended = False

    def terminate(self) -> None:
        """Ask it to end."""
        self.server.send({"signal": signal.SIGTERM})

    def kill(self) -> None:
        """End it."""
        self.server.send({"signal": signal.SIGKILL})

    def wait(self, timeout: float | None = None) -> int | None:
        """Return its exit code once it has ended; None if it was never started."""
        while not self.has_ended:
            message = self.server.receive(timeout)
            if message is None:
                code = self.server.process.wait()
                self.code, self.has_ended = (code if self.has_started or code < 0 else None), True
            elif "code" in message:
                self.code, self.has_ended = message["code"], True
            else:
                self.has_started = True
        return self.code


_server: _Server | None = None


def _close_server() -> None:
    global _server
    if _server is not None:
        _server.close()
        _server = None


def _surroundings() -> tuple[dict[str, str], str]:
    """Return what a process inherits and what the server's imports may have read."""
    return dict(os.environ), os.getcwd()


class _Forking:
    """This process as the server: waits at the same time for requests and for the end of the fork that runs.

    Attributes:
        process: the fork that runs; 0: none.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self.handlers = {number: signal.getsignal(number) for number in SIGNALS if number != signal.SIGTERM}
        for number in self.handlers:
            signal.signal(number, signal.SIG_IGN)  # the forks handle them, and the process that asks
        self.waking, self.wake = os.pipe()
        os.set_blocking(self.wake, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        self.prepared: set[str] = set()
        self.process = 0

    def serve(self) -> dict[str, Any] | None:
        """Fork once per request; return the request in the fork, and None when there are no more."""
        received = b""
        while True:
            ready = select.select([self.reading, self.waking], [], [])[0]
            if self.waking in ready:
                os.read(self.waking, 4096)
                self._report_end()
            if self.reading not in ready:
                continue
            content = os.read(self.reading, 65536)
            if not content:
                return None
            *lines, received = (received + content).split(b"\n")
            for request in map(json.loads, lines):
                if "signal" not in request:
                    if self._is_in_fork(request):
                        return dict(request)
                elif self.process:
                    os.kill(self.process, request["signal"])

    def _report_end(self) -> None:
        ended, status = os.waitpid(self.process, os.WNOHANG) if self.process else (0, 0)
        if ended:
            self.process = 0
            self._reply({"code": os.waitstatus_to_exitcode(status)})

    def _is_in_fork(self, request: dict[str, Any]) -> bool:
        """Fork, and return whether this is the fork; the signals and files of the server are then no longer its own."""
        _prepare(request["prepare"], self.prepared)
        server = os.getpid()
        self.process = os.fork()
        if self.process:
            self._reply({"started": self.process})
            return False
        signal.set_wakeup_fd(-1)
        for number, handler in {**self.handlers, signal.SIGCHLD: signal.SIG_DFL}.items():
            signal.signal(number, handler)
        for descriptor in (self.reading, self.writing, self.waking, self.wake):
            os.close(descriptor)
        os.environ[PARENT] = str(server)
        return True

    def _reply(self, message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # who asked has ended, which the next read shows
            os.write(self.writing, json.dumps(message).encode() + b"\n")


def _prepare(function: str, prepared: set[str]) -> None:
    """Call "module:function" unless it was called before, and leave what it made out of garbage collection.

    A collection would otherwise touch every object, and so copy its memory page, in every fork.
    """
    if function not in prepared:
        prepared.add(function)
        module, _, name = function.partition(":")
        try:
            getattr(importlib.import_module(module), name)()
        except Exception:
            os._exit(1)  # the module then runs in a fresh process, which says what is wrong
        gc.collect()
        gc.freeze()


if __name__ == "__main__":
    if (taken := _Forking(int(sys.argv[1]), int(sys.argv[2])).serve()) is not None:
        sys.argv[1:] = taken["arguments"]
        runpy.run_module(taken["module"], run_name="__main__", alter_sys=True)
