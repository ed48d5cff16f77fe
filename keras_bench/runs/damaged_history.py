"""A damaged history.csv of a finished phase: the results stand, what is drawn from it is left out. No TensorFlow."""

from collections.abc import Sequence
from pathlib import Path

from keras_bench.console import Log
from keras_bench.phases import PHASES, Phase
from keras_bench.runs.damage import describe, is_damaged, lost_results, recorded_digests, to_train_again
from keras_bench.runs.folders import RunDir
from keras_bench.runs.history import read_history


def warn_of_damaged_histories(runs: Sequence[RunDir], log: Log) -> None:
    """Warn of each run with a finished phase whose history.csv is damaged, and say how to get it back."""
    for run in runs:
        histories = damaged_histories(run)
        if histories:
            log.warn(history_remedy(run, histories))


def damaged_histories(run: RunDir) -> list[Path]:
    """Return the history.csv of each finished phase whose results stand, but whose history is damaged or missing."""
    return [run.history(phase) for phase in PHASES if history_damaged(run, phase)]


def history_damaged(run: RunDir, phase: Phase) -> bool:
    """Return whether the history.csv of a finished phase is missing or not as it was written."""
    is_finished = run.result(phase).is_file() and not lost_results(run, [phase])
    return is_finished and is_damaged(run.history(phase), recorded_digests(run.result(phase)), read_history, True)


def history_remedy(run: RunDir, histories: Sequence[Path]) -> str:
    """Return a sentence that names damaged histories of finished phases, what is lost with them, and the remedy."""
    phases = [phase for phase in PHASES if run.history(phase) in histories]
    named, folders, again = ", ".join(map(describe, histories)), *to_train_again(run, phases)
    return (
        f"{named}: the results stand, but reports leave out the learning curves and the overfitting gap of "
        f"{' and '.join(phases)}. Restore it from a copy, or remove {folders} to train {again} again"
    )
