"""What the undisturbed commands leave, with which everything else is compared."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.torture import forks, networks
from tests.torture.attempts import Site, Waiting, run_all
from tests.torture.compare import Facts, differences, facts_of, predicted
from tests.torture.networks import SUBJECTS, Subject
from tests.torture.points import Point, Trap
from tests.torture.server import Server, start_server

VISIBLE = 0.02  # another seed must change some test probability by more than this


@dataclass(frozen=True)
class Reference:
    """An undisturbed command.

    Attributes:
        site: its folder.
        facts: what it left.
        points: its commit points in order.
        seconds: how long it took.
    """

    site: Path
    facts: dict[str, Facts]
    points: list[Point]
    seconds: float


@dataclass
class World:
    """What all commands share.

    Attributes:
        folder: of everything.
        photos: the folder of images.
        server: where commands download from.
        jobs: how many commands run at a time.
        sabotage: called in the processes that are killed or run in pairs, to break the program on purpose.
        references: by the subject's name.
    """

    folder: Path
    photos: Path
    server: Server
    jobs: int
    sabotage: Callable[[], None] | None
    references: dict[str, Reference]

    def site(self, name: str, shared: Path | None = None) -> Site:
        """Return a new folder for commands."""
        return Site(self.folder / name, self.photos, self.sabotage, shared)

    def end(self) -> None:
        """End the server and every command that still runs."""
        forks.kill_all()
        os.kill(self.server.process, signal.SIGKILL)


def make_world(folder: Path, jobs: int, sabotage: Callable[[], None] | None) -> World:
    """Make images and weights, serve them, and add the stand-in to the table of backbones of this process."""
    served = folder / "served"
    networks.write_images(served)
    server = start_server(served)

    def pretrain() -> int:
        networks.add_stand_in(server, served)
        networks.write_weights(served / networks.WEIGHTS)
        return 0

    fork = forks.start(pretrain, folder, folder / "pretraining.txt", {}, lambda: None)
    run_all(iter([Site(folder, folder).wait(fork)]), 1)
    if fork.code != 0:
        raise RuntimeError(f"the weights could not be made: {fork.text()}")
    networks.add_stand_in(server, served)
    return World(folder, served / "tiny" / "train", server, jobs, sabotage, {})


def make_references(world: World) -> list[str]:
    """Run every subject's command undisturbed, twice, and once with another seed.

    Returns:
        why the comparison would prove nothing: differences between two equal commands, or none between two seeds.
    """
    problems: list[str] = []
    for follows in (False, True):  # those that follow another need its files
        chosen = [subject for subject in SUBJECTS if bool(subject.follows) == follows]
        run_all(
            (generator for subject in chosen for generator in _runs(world, subject, problems)),
            world.jobs,
        )
    for subject in SUBJECTS:
        again = world.folder / f"{subject.name} again"
        problems += [
            f"{subject.name}: {line}" for line in differences(world.references[subject.name].facts, facts_of(again))
        ]
    for subject in SUBJECTS:
        if subject.follows:
            continue
        theirs, ours = (
            predicted(world.folder / f"{subject.name} {name}") for name in ("undisturbed", "of another seed")
        )
        most = max(float(np.abs(theirs[phase] - ours[phase]).max()) for phase in theirs)
        if most < VISIBLE:
            problems.append(f"{subject.name}: another seed changes the test probabilities by {most:.3f} at most")
    return problems


def _runs(world: World, subject: Subject, problems: list[str]) -> list[Waiting]:
    runs = [_undisturbed(world, subject, "undisturbed", problems), _undisturbed(world, subject, "again", problems)]
    return runs if subject.follows else [*runs, _undisturbed(world, subject, "of another seed", problems)]


def _undisturbed(world: World, subject: Subject, name: str, problems: list[str]) -> Waiting:
    site = Site(world.folder / f"{subject.name} {name}", world.photos)
    if subject.follows:
        site.begin_with(world.references[subject.follows].site)
    record = world.folder / f"{subject.name} {name}.points"
    fork = site.start(subject.arguments(world.photos, int(name == "of another seed")), Trap(record=record))
    yield from site.wait(fork)
    if fork.code != 0:
        site.blame(fork, subject.name)
    problems += site.faults
    if name == "undisturbed":
        points = [Point(*line.split("\t")) for line in record.read_text().splitlines()]
        world.references[subject.name] = Reference(site.folder, facts_of(site.folder), points, fork.seconds)
