"""The comparison at the end of a run or suite: rebuilt if something changed, otherwise printed again at once."""

import os
from collections.abc import Sequence
from pathlib import Path

from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.frames import read_frame
from keras_bench.runs.damage import changed_files, describe, is_unreadable
from keras_bench.runs.damaged_history import warn_of_damaged_histories
from keras_bench.runs.folders import ExperimentDir, runs_of


def compare_runs(folder: ExperimentDir, log: Log) -> None:
    """Write and print the comparison of an experiment's finished runs; if nothing changed, only print it.

    Runs that cannot be compared cause only a warning, since the work that was asked for is done.
    """
    if not is_current(folder):
        with folder.lock_comparison(log):
            # Another process may have written it while this one waited.
            if not is_current(folder):
                _warn_of_damage(damaged_comparison(folder), log)
                if _write_comparison(folder, log):
                    _print_summary(folder, log)
                return
    warn_of_damaged_histories([run for run in runs_of(folder.root) if run.run.is_file()], log)
    _print_summary(folder, log)


def _print_summary(folder: ExperimentDir, log: Log) -> None:
    lines = folder.summary.read_text(encoding="utf-8").rstrip("\n").split("\n")
    paths = folder.last_lines()  # the folder may have been moved since
    log.lines("\n".join([*lines[: -len(paths)], *paths]))


def _warn_of_damage(paths: Sequence[Path], log: Log) -> None:
    """Say in one line which files are made again."""
    more = f", as are {len(paths) - 3} more files of the comparison" if len(paths) > 3 else ""
    if paths:
        log.warn(f"{', '.join(map(describe, paths[:3]))}{more}; made again")


def _write_comparison(folder: ExperimentDir, log: Log) -> bool:
    """Write the comparison; return False, after a warning that says why, if the runs cannot be compared."""
    from keras_bench.report.intact import intact_runs
    from keras_bench.report.write import finished_runs, write_report

    try:
        write_report(folder, intact_runs(finished_runs(folder), log), log)
    except UserError as error:
        log.warn(f"no comparison: {error}")
        return False
    return True


def damaged_comparison(folder: ExperimentDir) -> list[Path]:
    """Return the files of a comparison that are damaged, or missing since it was written.

    Files in the folder of a run or phase that someone removed are not damaged.
    """
    if is_unreadable(folder.comparison):
        return [folder.comparison]
    return [path for path in changed_files(folder.comparison) if _folder_of(path, folder).is_dir()]


def _folder_of(path: Path, folder: ExperimentDir) -> Path:
    """Return the folder without which a file of the comparison cannot be: the figures' folder is made with them."""
    return path.parent.parent if path.parent.name == folder.figures.name else path.parent


def is_current(folder: ExperimentDir) -> bool:
    """Return whether the comparison is intact, shows exactly the finished runs, and is newer than its sources."""
    if not folder.comparison.is_file() or damaged_comparison(folder):
        return False
    runs = [run for run in runs_of(folder.root) if run.run.is_file()]
    try:
        rows = read_frame(folder.results, str, required=["model", "seed"])
    except UserError:  # damaged, so it is made again
        return False
    shown = set(zip(rows["model"], rows["seed"], strict=True))
    if shown != {(run.model_name, str(run.seed)) for run in runs}:
        return False
    sources = [path for run in runs for path in (run.run, run.cost, run.latency, run.explanation_checks)]
    written = os.stat(folder.summary).st_mtime_ns
    return all(os.stat(path).st_mtime_ns <= written for path in [*sources, folder.audit] if path.is_file())
