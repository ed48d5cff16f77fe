"""The page that a suite writes after a model, beside a complete report of the same runs.

    python -m benchmarks.report_so_far runs/demo

Works on a copy of an experiment's folder. In each round, in turn and in one process: the complete report of all its
runs, and the page so far where all runs but the last are known from the page before, as after a suite's last model.
Prints seconds, their median and their range, and how many times faster the page is.
"""

import argparse
import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from keras_bench.console import Log
from keras_bench.report.memory import ReportMemory
from keras_bench.report.outlook import NOTHING_FOLLOWS
from keras_bench.report.write import finished_runs, write_report, write_report_so_far
from keras_bench.runs.folders import ExperimentDir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path, help="an experiment's folder, with two finished runs or more")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = ExperimentDir(Path(shutil.copytree(arguments.experiment, Path(temporary) / arguments.experiment.name)))
        measure(folder, arguments.rounds)


def measure(folder: ExperimentDir, rounds: int) -> None:
    """Time both kinds of report in turn and print the results."""
    runs, log = finished_runs(folder), Log(Console(file=io.StringIO()))
    write_report(folder, runs, log)  # loads what both need
    complete, so_far = [], []
    for number in range(1, rounds + 1):
        memory = ReportMemory()
        write_report_so_far(folder, runs[:-1], NOTHING_FOLLOWS, log, memory)
        so_far.append(seconds(lambda memory=memory: write_report_so_far(folder, runs, NOTHING_FOLLOWS, log, memory)))
        complete.append(seconds(lambda: write_report(folder, runs, log)))
        print(f"round {number}: complete {complete[-1]:.2f} s, so far {so_far[-1]:.2f} s", flush=True)
    for name, times in (("complete", complete), ("so far", so_far)):
        print(f"{name}: median {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")
    ratios = [whole / page for whole, page in zip(complete, so_far, strict=True)]
    print(f"{statistics.median(ratios):.1f} times faster ({len(runs)} runs)")


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
