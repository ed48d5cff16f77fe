"""Feeds the image decoder with damaged files: `python -m tests.fuzz_images --count 200000 --seed 0`.

Each file is one of every kind with random damage, drawn from the seed and its number alone. The decoder may return
pixels or raise UnreadableImageError, within 5 seconds of processor time and 1 GiB of memory; anything else, MemoryError
included, is a failure, is listed, and its file is saved. Linux only.
"""

import argparse
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from keras_bench.images import UnreadableImageError, decode, is_animated, read_header
from tests.image_files import files_of_every_kind
from tests.mutations import mutated

MAX_SECONDS, MAX_BYTES = 5.0, 1 << 30
SPARE_BYTES = 3 << 30  # address space beyond the limit, so that a file that needs too much is measured
BLOCK = 1000  # files per worker process
READERS: tuple[Callable[[bytes], object], ...] = (decode, read_header, is_animated)


@dataclass
class Outcome:
    """What came of some files; every file is named by its number.

    Attributes:
        count: number of files.
        read: how many of them were decoded.
        failures: number and description of each file that broke the promise.
        slowest: processor seconds of the slowest file, and its number.
        largest: bytes of memory that the largest file needed, and its number.
    """

    count: int = 0
    read: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[int, int] = (0, -1)

    def add(self, other: "Outcome") -> None:
        """Add what came of other files."""
        self.count += other.count
        self.read += other.read
        self.failures += other.failures
        self.slowest = max(self.slowest, other.slowest)
        self.largest = max(self.largest, other.largest)


def damaged_file(number: int, seed: int, originals: dict[str, bytes]) -> tuple[str, bytes]:
    """Return the name of the original and the damaged content of the file with this number."""
    draw = random.Random(f"{seed}/{number}")
    name = draw.choice(sorted(originals))
    return name, mutated(originals[name], draw)


def examine(
    numbers: Sequence[int],
    seed: int,
    readers: Sequence[Callable[[bytes], object]] = READERS,
    begin: Callable[[int], None] = lambda number: None,
) -> Outcome:
    """Give the files with these numbers to the readers, the first of which decodes; `begin` is called before each."""
    outcome, originals = Outcome(), files_of_every_kind()
    for number in numbers:
        name, content = damaged_file(number, seed, originals)
        begin(number)
        in_use, peak, started = _status("VmRSS"), _peak_bytes(), time.process_time()
        errors = [_error_of(reader, content) for reader in readers]
        seconds = time.process_time() - started
        needed = _peak_bytes() - in_use if _peak_bytes() > peak else 0  # 0: less than an earlier file needed
        outcome.count += 1
        outcome.read += errors[0] is None
        outcome.slowest = max(outcome.slowest, (seconds, number))
        outcome.largest = max(outcome.largest, (needed, number))
        unexpected = [f"{name}: {kind}" for kind in errors if kind]
        if seconds > MAX_SECONDS or needed > MAX_BYTES:
            unexpected.append(f"{name}: {seconds:.1f} s, {needed >> 20} MiB")
        outcome.failures += [(number, text) for text in unexpected]
    return outcome


def fuzz(count: int, seed: int, workers: int) -> Outcome:
    """Examine files 0 to `count` in worker processes with limits on time and memory."""
    total, context = Outcome(), multiprocessing.get_context("spawn")
    blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    running: list[tuple[Any, Connection, range]] = []
    while blocks or running:
        while blocks and len(running) < workers:
            receiver, sender = context.Pipe(duplex=False)
            worker = context.Process(target=_work, args=(blocks[0], seed, sender))
            worker.start()
            sender.close()
            running.append((worker, receiver, blocks.pop(0)))
        worker, receiver, numbers = running.pop(0)
        outcome, current = _received(receiver, numbers[0])
        worker.join()
        if outcome is None:  # the worker died: report the file, go on behind it
            total.add(Outcome(1, 0, [(current, f"the process ended with {worker.exitcode}")]))
            blocks += [part for part in (range(numbers[0], current), range(current + 1, numbers[-1] + 1)) if part]
        else:
            total.add(outcome)
        print(f"{total.count:,} of {count:,} files, {len(total.failures)} failures", file=sys.stderr)
    return total


def _work(numbers: range, seed: int, sender: Connection) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + MAX_BYTES + SPARE_BYTES, hard))

    def begin(number: int) -> None:
        sender.send(number)
        signal.setitimer(signal.ITIMER_PROF, 2 * MAX_SECONDS)  # then SIGPROF ends the process

    sender.send(examine(numbers, seed, begin=begin))


def _received(receiver: Connection, first: int) -> tuple[Outcome | None, int]:
    """Return a worker's outcome, or None if it died, and the number of the file that it examined last."""
    current = first
    while True:
        try:
            message = receiver.recv()
        except EOFError:
            return None, current
        if isinstance(message, Outcome):
            return message, current
        current = message


def _error_of(reader: Callable[[bytes], object], content: bytes) -> str | None:
    """Return None for a file that was read, "" for one that is unreadable, else the name of the exception."""
    try:
        reader(content)
    except UnreadableImageError as error:
        return "" if "\n" not in str(error) and len(str(error)) < 400 else "UnreadableImageError of several lines"
    except Exception as error:
        return f"{reader.__name__} raised {type(error).__name__}: {error}"
    return None


def _peak_bytes() -> int:
    """Return the most memory that this process has had in use so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _status(key: str) -> int:
    """Return a figure of /proc/self/status, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1]) << 10


def main() -> int:
    """Run the command line; returns 1 if there are failures."""
    parser = argparse.ArgumentParser(description="Feed the image decoder with damaged files.")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--save", type=Path, default=Path("fuzz-failures"), help="folder for the files that failed")
    arguments = parser.parse_args()
    outcome = fuzz(arguments.count, arguments.seed, arguments.workers)
    originals = files_of_every_kind()
    print(f"{outcome.count:,} damaged files, seed {arguments.seed}: {outcome.read:,} decoded")
    cases = (
        ("slowest", f"{outcome.slowest[0]:.2f} s", outcome.slowest[1]),
        ("largest", f"{outcome.largest[0] >> 20} MiB", outcome.largest[1]),
    )
    for what, figure, number in cases:
        print(f"{what}: {figure}, file {number} ({damaged_file(number, arguments.seed, originals)[0]})")
    for kind, times in Counter(text for _, text in outcome.failures).most_common():
        print(f"{times} × {kind}")
    for number, _ in outcome.failures:
        name, content = damaged_file(number, arguments.seed, originals)
        arguments.save.mkdir(parents=True, exist_ok=True)
        (arguments.save / f"seed{arguments.seed}-file{number}-{name}").write_bytes(content)
    if outcome.failures:
        print(f"{len(outcome.failures)} failures; their files are in {arguments.save}")
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
