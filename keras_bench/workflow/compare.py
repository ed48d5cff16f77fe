"""The comparison at the end of a run or suite: rebuilt if something changed, otherwise printed again at once."""

import os
from collections.abc import Sequence
from pathlib import Path

from keras_bench.console import Log
from keras_bench.errors import RunError, UserError
from keras_bench.frames import read_frame
from keras_bench.phases import PHASES
from keras_bench.reading import read_json
from keras_bench.report.memory import ReportMemory
from keras_bench.report.outlook import FOLLOWS, Outlook
from keras_bench.runs.damage import changed_files, describe, is_unreadable
from keras_bench.runs.damaged_history import warn_of_damaged_histories
from keras_bench.runs.folders import ExperimentDir, runs_of


def compare_runs(folder: ExperimentDir, log: Log, memory: ReportMemory | None = None) -> None:
    """Write and print the comparison of an experiment's finished runs; if nothing changed, only print it.

    Runs that cannot be compared cause only a warning, since the work that was asked for is done.

    Args:
        folder: the experiment's folder.
        log: the screen.
        memory: what earlier comparisons of this process computed; None: nothing.
    """
    if not is_current(folder):
        with folder.lock_comparison(log):
            # Another process may have written it while this one waited.
            if not is_current(folder):
                _warn_of_damage(damaged_comparison(folder), log)
                if _write_comparison(folder, log, memory):
                    _print_summary(folder, log)
                return
    warn_of_damaged_histories([run for run in runs_of(folder.root) if run.run.is_file()], log)
    _print_summary(folder, log)


def compare_so_far(folder: ExperimentDir, outlook: Outlook, log: Log, memory: ReportMemory) -> None:
    """Write the page and the tables of the runs that are there, and print them in short; nothing if nothing changed.

    Whatever prevents it causes only a warning, since the suite goes on.

    Args:
        folder: the experiment's folder.
        outlook: what the suite will still add.
        log: the screen.
        memory: what earlier comparisons of this process computed.
    """
    if not any(run.run.is_file() for run in runs_of(folder.root)) or is_current(folder, outlook):
        return
    from keras_bench.report.intact import intact_runs  # loads Matplotlib
    from keras_bench.report.tables import standing_lines
    from keras_bench.report.write import finished_runs, write_report_so_far

    try:
        with folder.lock_comparison(log):
            _warn_of_damage(damaged_comparison(folder), log)
            runs = intact_runs(finished_runs(folder), log)
            comparison = write_report_so_far(folder, runs, outlook, log, memory)
    except (UserError, RunError) as error:
        log.warn(f"no comparison so far: {error}")
        return
    for line in [*standing_lines(comparison), *comparison.follows, folder.last_lines()[0]]:
        log.line(line)


def _print_summary(folder: ExperimentDir, log: Log) -> None:
    lines = folder.summary.read_text(encoding="utf-8").rstrip("\n").split("\n")
    paths = folder.last_lines()  # the folder may have been moved since
    log.lines("\n".join([*lines[: -len(paths)], *paths]))


def _warn_of_damage(paths: Sequence[Path], log: Log) -> None:
    """Say in one line which files are made again."""
    more = f", as are {len(paths) - 3} more files of the comparison" if len(paths) > 3 else ""
    if paths:
        log.warn(f"{', '.join(map(describe, paths[:3]))}{more}; made again")


def _write_comparison(folder: ExperimentDir, log: Log, memory: ReportMemory | None) -> bool:
    """Write the comparison; return False, after a warning that says why, if the runs cannot be compared."""
    from keras_bench.report.intact import intact_runs
    from keras_bench.report.write import finished_runs, write_report

    try:
        write_report(folder, intact_runs(finished_runs(folder), log), log, memory)
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


def is_current(folder: ExperimentDir, outlook: Outlook | None = None) -> bool:
    """Return whether the comparison is intact, shows exactly the finished runs, and is newer than its sources.

    Args:
        folder: the experiment's folder.
        outlook: what a suite will still add, for a comparison that says so; None: it must be complete.
    """
    if not folder.comparison.is_file() or damaged_comparison(folder):
        return False
    if not _has_outlook(folder, outlook):
        return False
    runs = [run for run in runs_of(folder.root) if run.run.is_file()]
    try:
        rows = read_frame(folder.results, str, required=["model", "seed"])
    except UserError:  # damaged, so it is made again
        return False
    shown = set(zip(rows["model"], rows["seed"], strict=True))
    if shown != {(run.model_name, str(run.seed)) for run in runs}:
        return False
    sources = [
        path
        for run in runs
        for path in (run.run, run.cost, run.latency, run.explanation_checks, *(run.export(phase) for phase in PHASES))
    ]
    written = os.stat(folder.summary).st_mtime_ns
    return all(os.stat(path).st_mtime_ns <= written for path in [*sources, folder.audit] if path.is_file())


def _has_outlook(folder: ExperimentDir, outlook: Outlook | None) -> bool:
    """Return whether a comparison announces exactly what follows: a complete one has no such record."""
    recorded = read_json(folder.comparison).get(FOLLOWS)
    if outlook is None:
        return recorded is None
    runs = [run for run in runs_of(folder.root) if run.run.is_file()]
    follows = outlook.to_json(runs)
    return recorded == follows or (recorded is None and not any(follows.values()))
