"""`python -m tests.torture`: kills commands, runs them two at a time, and exits with 1 if anything was lost.

A chain is one run that is killed several times, each time resumed by the same command, and compared at the end with
the undisturbed run, to the bit. A chain that fails is printed with the command that repeats it.
"""

import argparse
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.torture import forks
from tests.torture.kills import Chain, parse_chain, plan_kills, run_chains
from tests.torture.networks import SUBJECTS
from tests.torture.references import World, make_references, make_world
from tests.torture.rounds import Round, plan_rounds, run_rounds, table_of_rounds

SECONDS_PER_KILL, SECONDS_PER_ROUND = 5.0, 14.0  # on a quiet machine with two cores


def main() -> int:
    """Torture as the command line says; returns the exit code."""
    options = _parse_options()
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    root = Path(tempfile.mkdtemp(prefix="torture-", dir=options.folder)).resolve()
    minutes = (options.kills * SECONDS_PER_KILL + options.rounds * SECONDS_PER_ROUND) / 60
    print(
        f"{options.kills} kills and {options.rounds} rounds: about {minutes + 2:.0f} min on two idle cores; in {root}"
    )
    forks.import_everything()
    world = make_world(root, options.jobs, _forget_seeds if options.forget_seeds else None)
    try:
        problems = make_references(world)
        for subject in SUBJECTS:
            reference = world.references[subject.name]
            print(f"{subject.name}: {len(reference.points)} commit points, {reference.seconds:.1f} s undisturbed")
        if problems:
            print("two undisturbed runs must be equal, and two seeds must not be:", *problems, sep="\n    ")
            return 1
        return _torture(world, options)
    finally:
        world.end()


def _torture(world: World, options: argparse.Namespace) -> int:
    started = time.monotonic()
    if options.chain:
        finished = run_chains(world, [parse_chain(text) for text in options.chain], 0, options.seed)
    else:
        finished = run_chains(world, plan_kills(world, options.kills, options.seed), options.kills, options.seed)
    kills, seconds = sum(len(chain.done) for chain in finished), time.monotonic() - started
    rounds = plan_rounds(world, options.rounds, options.seed)
    run_rounds(world, rounds, options.seed)
    print(*_table_of_kills(finished), sep="\n")
    if kills:
        print(f"{kills} kills in {len(finished)} runs, {seconds / kills:.1f} s per kill")
    if rounds:
        print(*table_of_rounds(rounds), sep="\n")
    return _judge(world, finished, rounds)


def _judge(world: World, chains: list[Chain], rounds: list[Round]) -> int:
    """Print what failed and what was left behind; return the exit code."""
    failed = [chain for chain in chains if chain.mismatches or chain.faults]
    failed_rounds = [each for each in rounds if each.faults]
    left = [name for each in (*chains, *rounds) for name in each.left]
    print(
        f"{len(failed)} of {len(chains)} killed runs and {len(failed_rounds)} of {len(rounds)} rounds with mismatches"
    )
    print(f"{len(left)} leftovers: temporary files and states that outlived their command")
    kinds = Counter(re.sub(r"[0-9a-f]{16,}|-\d+-", "-", name.rpartition("/")[2]) for name in left)
    for name, count in kinds.most_common(20):
        print(f"    {count} × {name}")
    for chain in failed:
        print(f"repeat: {chain.command}")
    if failed or failed_rounds or left:
        print(f"the folders of what failed are in {world.folder}")
        return 1
    shutil.rmtree(world.folder)
    return 0


def _table_of_kills(chains: list[Chain]) -> list[str]:
    """Return a table of kills by stage and subject, with the mismatches of the runs they belong to."""
    counts = Counter((kill.stage, chain.subject.name) for chain in chains for kill in chain.done)
    wrong = Counter(kill.stage for chain in chains if chain.mismatches or chain.faults for kill in chain.done)
    moments: dict[str, set[str]] = {}
    for chain in chains:
        for kill in chain.done:
            moments.setdefault(kill.stage, set()).add(kill.moment if kill.point else "any")
    names = [subject.name for subject in SUBJECTS]
    lines = [f"{'stage':28}{'moments':20}" + "".join(f"{name:>20}" for name in names) + f"{'mismatches':>12}"]
    for stage in sorted(moments):
        cells = "".join(f"{counts[stage, name]:20}" for name in names)
        lines.append(f"{stage:28}{' '.join(sorted(moments[stage])):20}{cells}{wrong[stage]:12}")
    return lines


def _forget_seeds() -> None:
    """Break the program on purpose: the states of seed generators are neither saved nor restored."""
    from keras_bench.training import resume

    resume.seed_generators = lambda model: []


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="Kill commands and compare.")
    parser.add_argument("--kills", type=int, default=200, help="how many times commands are killed")
    parser.add_argument("--rounds", type=int, default=100, help="how many times two commands run at once")
    parser.add_argument("--seed", type=int, default=0, help="of the plan; the same seed kills at the same points")
    parser.add_argument("--jobs", type=int, default=2, help="how many commands run at a time")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to work; default: the system's temporary folder"
    )
    parser.add_argument("--chain", action="append", help="repeat only this chain, as it was printed")
    parser.add_argument(
        "--forget-seeds", action="store_true", help="break the program on purpose: must find mismatches"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
