"""Kills commands: plans where, kills, resumes, compares, and tells what came of it."""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.torture.attempts import Kill, Waiting, run_all
from tests.torture.compare import differences, facts_of, leftovers
from tests.torture.networks import SUBJECTS, Subject
from tests.torture.points import MOMENTS, Point
from tests.torture.references import World

PER_CHAIN = 6  # kills of one run, which is finished and compared afterwards
RANDOM_PER_CHAIN = 3
RANDOM_SHARE = 0.2  # of the kills, at least
# Stages that only a command passes that goes on: what comes first, and then the stage.
ONLY_RESUMED = (
    ("history row", "history cut"),
    ("bundle", "earlier bundle aside"),
    ("bundle", "removal of earlier bundle"),
)
# The stages of the subject that goes on from another's finished run; all others have been passed before.
FOLLOWING = ("explained images", "explanations", "explanation checks", "latency worker", "latency")


@dataclass
class Chain:
    """One run that is killed several times, and what came of it.

    Attributes:
        subject: whose command.
        kills: where it is to be killed, in this order.
        tries: how many chains have tried these kills before.
        done: where it was killed.
        mismatches: what differs from the undisturbed run.
        faults: what else went wrong.
        left: files that were left behind.
        seconds: how long all of it took.
    """

    subject: Subject
    kills: list[Kill]
    tries: int = 0
    done: list[Kill] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def command(self) -> str:
        """The command that repeats it."""
        content = {"subject": self.subject.name, "kills": [kill.to_json() for kill in self.kills]}
        return f"python -m tests.torture --chain {json.dumps(json.dumps(content))}"


def parse_chain(text: str) -> Chain:
    """Return the chain that a command line describes."""
    content = json.loads(text)
    subject = next(subject for subject in SUBJECTS if subject.name == content["subject"])
    return Chain(subject, [Kill.from_json(values) for values in content["kills"]])


def plan_kills(world: World, count: int, seed: int) -> list[Chain]:
    """Return chains with `count` kills: every stage, at each moment if there are enough kills, the rest at random."""
    generator = random.Random(seed)
    chains = _resumed_chains(world, generator, count)
    left = count - sum(len(chain.kills) for chain in chains)
    kills = _at_stages(world, generator, left - math.ceil(RANDOM_SHARE * count))
    for subject in SUBJECTS:
        order = {point: i for i, point in enumerate(world.references[subject.name].points)}
        mine = sorted((kill for owner, kill in kills if owner is subject), key=lambda kill: order[kill.point])
        number = math.ceil(len(mine) / PER_CHAIN)
        chains += [Chain(subject, mine[i::number]) for i in range(number)]
    return [*chains, *random_chains(generator, left - len(kills))]


def random_chains(generator: random.Random, count: int) -> list[Chain]:
    """Return chains whose kills come at random moments."""
    chains = []
    for number, start in enumerate(range(0, count, RANDOM_PER_CHAIN)):
        kills = [
            Kill(None, share=round(generator.uniform(0.01, 0.7), 3))
            for _ in range(min(RANDOM_PER_CHAIN, count - start))
        ]
        chains.append(Chain(SUBJECTS[number % len(SUBJECTS)], kills))
    return chains


def _at_stages(world: World, generator: random.Random, count: int) -> list[tuple[Subject, Kill]]:
    """Return kills at commit points: every stage first at one moment, then at the other moments."""
    points: dict[str, dict[str, list[Point]]] = {}
    for subject in SUBJECTS:
        for point in world.references[subject.name].points:
            if not subject.follows or point.stage in FOLLOWING:
                points.setdefault(point.stage, {}).setdefault(subject.name, []).append(point)
    stages = sorted(points)
    generator.shuffle(stages)
    moments = {stage: generator.sample(MOMENTS, len(MOMENTS)) for stage in stages}
    wanted = [(stage, moments[stage][k]) for k in range(len(MOMENTS)) for stage in stages]
    taken: Counter[str] = Counter()
    kills = []
    for stage, moment in wanted[: max(0, count)]:
        subject = min(points[stage], key=lambda name: taken[name])
        taken[subject] += 1
        kill = Kill(generator.choice(points[stage][subject]), moment)
        kills.append((next(each for each in SUBJECTS if each.name == subject), kill))
    return kills


def _resumed_chains(world: World, generator: random.Random, count: int) -> list[Chain]:
    """Return chains that kill in a stage which only a command passes that goes on."""
    chains = []
    moments = MOMENTS if count >= 100 else MOMENTS[:1] if count else ()
    for number, (first, second) in enumerate(ONLY_RESUMED):
        for moment in moments:
            subject = SUBJECTS[number]
            last = [point for point in world.references[subject.name].points if point.stage == first][-1]
            chains.append(Chain(subject, [Kill(last, "after"), Kill(Point(second, ""), moment)]))
    generator.shuffle(chains)
    return chains


def run_chain(world: World, chain: Chain, name: str) -> Waiting:
    """Kill a run at all places of a chain, finish it, and compare it with the undisturbed one."""
    started = time.monotonic()
    site, reference = world.site(name), world.references[chain.subject.name]
    if chain.subject.follows:
        site.begin_with(world.references[chain.subject.follows].site)
    for kill in chain.kills:
        if not site.faults:
            yield from site.kill(chain.subject, kill, reference.seconds, chain.done)
    yield from site.finish(chain.subject.arguments(world.photos))
    yield from site.await_orphans()
    site.blame_for_damage()
    chain.mismatches = differences(reference.facts, facts_of(site.folder))
    chain.faults, chain.left = site.faults, leftovers(site.folder)
    chain.seconds = time.monotonic() - started
    if not (chain.mismatches or chain.faults or chain.left):
        shutil.rmtree(site.folder)


def run_chains(world: World, chains: list[Chain], count: int, seed: int) -> list[Chain]:
    """Run chains, and further ones for kills that were not reached, until there were `count` kills."""
    todo, finished = list(chains), []
    generator = random.Random(seed + 1)
    started = time.monotonic()

    def pass_through(chain: Chain, number: int) -> Waiting:
        yield from run_chain(world, chain, f"chain {number:03d}")
        finished.append(chain)
        missed = [kill for kill in chain.kills if kill not in chain.done]
        if missed and not chain.faults and chain.tries < 2:
            todo.extend(Chain(chain.subject, [_earlier(kill)], chain.tries + 1) for kill in missed)
        _tell(chain, number, finished, count, time.monotonic() - started)

    def following() -> Iterator[Waiting]:
        number = 0
        while todo:
            number += 1
            yield pass_through(todo.pop(0), number)

    while todo:
        run_all(following(), world.jobs)
        lacking = count - sum(len(chain.done) for chain in finished)
        if not todo and lacking > 0 and not any(chain.faults for chain in finished):
            todo += random_chains(generator, lacking)
    return finished


def _earlier(kill: Kill) -> Kill:
    """Return a kill that is more likely to be reached than one that was not."""
    return kill if kill.point else Kill(None, share=round(kill.share / 2, 3))


def _tell(chain: Chain, number: int, finished: list[Chain], count: int, seconds: float) -> None:
    kills = sum(len(each.done) for each in finished)
    verdict = "NOT EQUAL" if chain.mismatches or chain.faults else "LEFTOVERS" if chain.left else "equal"
    left = seconds / max(1, kills) * max(0, count - kills) / 60
    stages = ", ".join(kill.stage for kill in chain.done)
    progress = f"{kills}/{count} kills, about {left:.0f} min left"
    print(f"{progress}; chain {number}, {chain.subject.name}: {verdict} after {stages}")
    for line in [*chain.faults, *chain.mismatches, *chain.left]:
        print(f"    {line}")
    if chain.faults or chain.mismatches or chain.left:
        print(f"    repeat: {chain.command}", flush=True)
