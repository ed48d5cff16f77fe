"""Leaves damaged runs out of a comparison, and names the damaged parts that the others are shown without."""

from collections.abc import Sequence
from pathlib import Path

from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.explain.records import explanations_intact
from keras_bench.phases import PHASES
from keras_bench.runs.damage import changed_files, damaged_files, describe, is_unreadable, remedy
from keras_bench.runs.damaged_history import warn_of_damaged_histories
from keras_bench.runs.folders import ExperimentDir, RunDir


def intact_runs(runs: Sequence[RunDir], log: Log, with_models: bool = False) -> list[RunDir]:
    """Return the runs of which nothing that a comparison reads is damaged, after a warning that names the others.

    Args:
        runs: finished runs.
        log: the screen.
        with_models: whether the models are read too, to measure them.

    Raises:
        UserError: no run is left.
    """
    damaged = {run.root: damaged_files(run, with_models=with_models) for run in runs}
    lines = [
        f"{', '.join(describe(path) for path in damaged[run.root])}; {remedy(run, damaged[run.root])}"
        for run in runs
        if damaged[run.root]
    ]
    kept = [run for run in runs if not damaged[run.root]]
    if not kept:
        raise UserError(f"no run can be compared: {' | '.join(lines)}")
    for line in lines:
        log.warn(f"a run is left out: {line}")
    return kept


def warn_of_damaged_parts(folder: ExperimentDir, runs: Sequence[RunDir], log: Log) -> None:
    """Warn of damaged files without which the comparison is shown, and say what makes them again."""
    if is_unreadable(folder.audit):
        log.warn(f"{folder.audit} is damaged, and the report does without it; the next run makes it again")
    warn_of_damaged_histories(runs, log)
    for run in runs:
        damaged = damaged_parts(run)
        if damaged:
            named = ", ".join(describe(path) for path in damaged)
            log.warn(f"{named}, and the report does without; {remedy(run, damaged)}")


def damaged_parts(run: RunDir) -> list[Path]:
    """Return the damaged files of what follows a run's training, without bundles, which a comparison does not read."""
    records = [run.cost, run.latency, run.explanation_checks, run.shown_images, *(run.export(p) for p in PHASES)]
    damaged = [path for path in records if is_unreadable(path)]
    maps = [run.explanations] if run.explanations.is_file() and not explanations_intact(run) else []
    return [*damaged, *maps, *changed_files(run.shown_images)]
