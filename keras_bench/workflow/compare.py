"""The comparison at the end of a run or suite: made anew where something changed, else printed again at once."""

import csv
import os

from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.runs.folders import ExperimentDir, runs_of


def compare_runs(folder: ExperimentDir, log: Log) -> None:
    """Write and print the comparison of an experiment's finished runs, or print it again where nothing changed.

    Runs that cannot be compared are a warning here, since the work that was asked for is done.
    """
    if not _is_current(folder):
        with folder.lock_comparison(log):
            if not _is_current(folder) and not _compare(folder, log):  # another process may have written it meanwhile
                return
    log.line(folder.summary.read_text(encoding="utf-8").rstrip("\n"))


def _compare(folder: ExperimentDir, log: Log) -> bool:
    """Write the comparison; returns False, and says why, where the runs cannot be compared."""
    from keras_bench.report.write import finished_runs, write_report

    try:
        write_report(folder, finished_runs(folder), log)
    except UserError as error:
        log.warn(f"no comparison: {error}")
        return False
    return True


def _is_current(folder: ExperimentDir) -> bool:
    """Return whether the comparison is newer than everything it shows, and shows just the runs that are there."""
    if not (folder.page.is_file() and folder.summary.is_file() and folder.results.is_file()):
        return False
    runs = [run for run in runs_of(folder.root) if run.run.is_file()]
    with folder.results.open(newline="", encoding="utf-8") as stream:
        shown = {(row["model"], row["seed"]) for row in csv.DictReader(stream)}
    if shown != {(run.model_name, str(run.seed)) for run in runs}:
        return False
    parts = [part for run in runs for part in (run.run, run.cost, run.latency, run.explanation_checks)]
    made = os.stat(folder.summary).st_mtime_ns
    return all(os.stat(part).st_mtime_ns <= made for part in [*parts, folder.audit] if part.is_file())
