"""Two processes at once: on one run, on one cache, on one report, at random offsets."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.torture.attempts import Site, Waiting, run_all
from tests.torture.compare import differences, facts_of, leftovers
from tests.torture.networks import SUBJECTS, Subject
from tests.torture.references import World

KINDS = ("one run", "one cache", "one report")
BUSY = "is in use by another process"  # with exit code 2, one of two that want the same run may say so
REPORT_SECONDS = 8.0  # about what a report takes


@dataclass
class Round:
    """Two commands at once.

    Attributes:
        number: of the round, which decides its kind and its offset.
        kind: one of `KINDS`.
        subject: whose commands.
        offset: seconds from the start of the first to that of the second.
        faults: what went wrong, differences from the undisturbed command included.
        left: files that were left behind.
        refused: whether one command said that another process is at work.
    """

    number: int
    kind: str
    subject: Subject
    offset: float
    faults: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    refused: bool = False


def plan_rounds(world: World, count: int, seed: int) -> list[Round]:
    """Return rounds whose kinds and subjects take turns and whose offsets are random."""
    subjects = [subject for subject in SUBJECTS if not subject.follows]
    rounds = []
    for number in range(count):
        kind, subject = KINDS[number % len(KINDS)], subjects[number // len(KINDS) % len(subjects)]
        seconds = REPORT_SECONDS if kind == "one report" else world.references[subject.name].seconds
        offset = random.Random(f"{seed} {number}").choice([0.0, 0.3, 1.0]) * random.Random(number).uniform(0, seconds)
        rounds.append(Round(number, kind, subject, offset))
    return rounds


def run_round(world: World, each: Round) -> Waiting:
    """Run two commands at once and compare what they leave with the undisturbed command's files."""
    name = f"round {each.number:03d}"
    first = world.site(name)
    reference = world.references[each.subject.name]
    if each.kind == "one report":
        first.begin_with(reference.site)
    second = world.site(f"{name} second", shared=first.folder) if each.kind == "one cache" else first
    arguments = each.subject.arguments(world.photos)
    if each.kind == "one report":
        arguments = ["report", arguments[2], "--out", "runs"]
    yield from _both(each, first, second, arguments)
    for site in {site.folder: site for site in (first, second)}.values():
        each.faults += [*site.faults, *differences(reference.facts, facts_of(site.folder))]
        each.left += leftovers(site.folder)
    if not (each.faults or each.left):
        for site in (first, second):
            shutil.rmtree(site.folder, ignore_errors=True)


def _both(each: Round, first: Site, second: Site, arguments: Sequence[str]) -> Waiting:
    """Start both commands and wait for them."""
    one = first.start(arguments)
    while time.monotonic() - one.started < each.offset:
        one.has_ended()
        yield
    other = second.start(arguments)
    yield from first.wait(one)
    yield from second.wait(other)
    codes, text = (one.code, other.code), one.text() if first is second else one.text() + other.text()
    each.refused = each.kind == "one run" and sorted(codes) == [0, 2] and BUSY in text
    if codes != (0, 0) and not each.refused:
        each.faults.append(f"the commands ended with {one.code} and {other.code}: {text[-400:]}")


def run_rounds(world: World, rounds: list[Round], seed: int) -> None:
    """Run all rounds, one after another, since each is two processes."""
    started = time.monotonic()

    def told(each: Round) -> Waiting:
        yield from run_round(world, each)
        done = each.number + 1
        left = (time.monotonic() - started) / done * (len(rounds) - done) / 60
        verdict = "NOT EQUAL" if each.faults else "LEFTOVERS" if each.left else "equal"
        verdict += ", one was refused" if each.refused else ""
        print(
            f"round {done}/{len(rounds)}, about {left:.0f} min left; {each.kind}, {each.subject.name}, "
            f"{each.offset:.1f} s apart: {verdict}",
            flush=True,
        )
        for line in [*each.faults, *each.left]:
            print(f"    {line}")
        if each.faults or each.left:
            print(f"    repeat: python -m tests.torture --kills 0 --rounds {done} --seed {seed}", flush=True)

    run_all((told(each) for each in rounds), 1)


def table_of_rounds(rounds: list[Round]) -> list[str]:
    """Return a line per kind: how many rounds, refusals and faults."""
    counts, refused = Counter(each.kind for each in rounds), Counter(each.kind for each in rounds if each.refused)
    faults = Counter(each.kind for each in rounds if each.faults)
    return [
        f"{kind:12} {counts[kind]:4} rounds, {refused[kind]} times one process was refused, {faults[kind]} mismatches"
        for kind in KINDS
    ]
