"""One folder in which a command is started again and again until it has finished, killed now and then on the way."""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_bench.cli.main import main
from tests.torture import forks
from tests.torture.networks import Subject
from tests.torture.points import Point, Trap

PATIENCE = 600.0  # seconds after which a command counts as hanging
GRACE = 20.0  # seconds within which the processes that a killed command started must have ended
# What a command says of damage; a kill damages nothing, since a file gets its name only when it is complete.
DAMAGE_WORDS = re.compile(r"\bdamaged\b|\bmade again\b|\brebuilt\b|cannot be read")

Waiting = Iterator[None]  # a generator that yields while processes run


@dataclass(frozen=True)
class Kill:
    """Where a command is killed.

    Attributes:
        point: the commit point; None: at a random moment.
        moment: one of `points.MOMENTS`.
        share: of the undisturbed command's time, after which it is killed if there is no point.
    """

    point: Point | None
    moment: str = "before"
    share: float = 0.0

    @property
    def stage(self) -> str:
        """The stage for the table."""
        return self.point.stage if self.point else "random moment"

    def to_json(self) -> list[object]:
        """Return it as plain values."""
        return [self.moment, self.point.stage, self.point.name] if self.point else [self.share]

    @classmethod
    def from_json(cls, values: list) -> Kill:
        """Return what `to_json` was called on."""
        return cls(None, share=values[0]) if len(values) == 1 else cls(Point(values[1], values[2]), values[0])


@dataclass
class Site:
    """A folder with its own runs, and what happened in it.

    Attributes:
        folder: the folder.
        photos: the folder of images, for subjects that download none.
        sabotage: called in every process first, to break the program on purpose.
        shared: folder of the cache and of weights; None: the folder itself.
        faults: what went wrong, a line each.
        sessions: sessions of the commands that were killed.
    """

    folder: Path
    photos: Path
    sabotage: Callable[[], None] | None = None
    shared: Path | None = None
    faults: list[str] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)

    def begin_with(self, other: Path) -> None:
        """Begin with the files of another site."""
        shutil.copytree(other, self.folder, symlinks=True)

    def start(self, arguments: Sequence[str], trap: Trap | None = None) -> forks.Fork:
        """Start a command in the folder."""
        temporary, shared = self.folder / "tmp", self.shared or self.folder
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {"KERAS_BENCH_CACHE": str(shared / "cache"), "KERAS_HOME": str(shared / "keras")}

        def prepare() -> None:
            tempfile.tempdir = str(temporary)
            (trap or Trap()).install()
            if self.sabotage is not None:
                self.sabotage()

        output = self.folder / "output.txt"
        environment["TMPDIR"] = str(temporary)
        return forks.start(lambda: main(arguments), self.folder, output, environment, prepare)

    def wait(self, fork: forks.Fork, kill_after: float | None = None) -> Waiting:
        """Wait until a command has ended; kill it after some seconds, or if it hangs."""
        is_hanging = False
        while not fork.has_ended():
            seconds = time.monotonic() - fork.started
            if kill_after is not None and seconds > kill_after:
                fork.kill()
                kill_after = None
            if seconds > PATIENCE and not is_hanging:
                is_hanging = True
                fork.kill()
                self.faults.append(f"a command hung for {PATIENCE:.0f} s and was killed")
            yield

    def kill(self, subject: Subject, kill: Kill, seconds: float, done: list[Kill]) -> Waiting:
        """Start a subject's command and kill it, unless it ends before.

        Args:
            subject: whose command.
            kill: where.
            seconds: what the undisturbed command takes.
            done: the kill is appended to it if the command was killed.
        """
        trap = Trap(kill.point, kill.moment) if kill.point else None
        fork = self.start(subject.arguments(self.photos), trap)
        yield from self.wait(fork, None if kill.point else kill.share * seconds)
        if fork.code == -signal.SIGKILL:
            self.sessions.append(fork.process)
            done.append(kill)
        elif fork.code != 0:
            self.blame(fork, f"the command to be killed at {kill.to_json()}")

    def finish(self, arguments: Sequence[str], trap: Trap | None = None) -> Waiting:
        """Run a command to its end."""
        fork = self.start(arguments, trap)
        yield from self.wait(fork)
        if fork.code != 0:
            self.blame(fork, "the last command")

    def blame(self, fork: forks.Fork, which: str) -> None:
        """Take down that a command ended as it should not have."""
        lines = fork.text().strip().splitlines()[-3:]
        self.faults.append(f"{which} ended with {fork.code}: {' | '.join(lines):.600}")

    def blame_for_damage(self) -> None:
        """Take down each line in which a command of this folder spoke of damage, although it was only killed."""
        text = (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")
        self.faults += [f"a kill is no damage: {line:.300}" for line in text.splitlines() if DAMAGE_WORDS.search(line)]

    def await_orphans(self) -> Waiting:
        """Wait for the processes that killed commands started, and take down those that do not end."""
        started = time.monotonic()
        while alive := [process for session in self.sessions for process in forks.processes_of(session)]:
            if time.monotonic() - started > GRACE:
                self.faults.append(f"{len(alive)} processes of a killed command still run after {GRACE:.0f} s")
                return
            yield


def run_all(generators: Iterator[Waiting], jobs: int) -> None:
    """Run generators to their ends, several at a time."""
    active: list[Waiting] = []
    has_more = True
    while active or has_more:
        while has_more and len(active) < jobs:
            following = next(generators, None)
            has_more = following is not None
            if following is not None:
                active.append(following)
        active = [generator for generator in active if next(generator, "ended") != "ended"]
        time.sleep(0.02)
