"""The first result of a phase, in one line: its scores on val and test, and its rank among the finished runs."""

from dataclasses import dataclass

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.decisions import score_interval
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import Interval
from keras_bench.evaluation.statistics import draw_counts, proportion_interval
from keras_bench.evaluation.words import share_words
from keras_bench.phases import Phase
from keras_bench.reading import is_intact, read_intact, read_json
from keras_bench.report.phase_predictions import phase_predictions
from keras_bench.runs.folders import ExperimentDir, RunDir, runs_of
from keras_bench.runs.results import PhaseResult
from keras_bench.runs.weights import final_phase


@dataclass(frozen=True)
class Rival:
    """Another finished run of the experiment.

    Attributes:
        label: its display name.
        score: top-1 on val of its final phase; balanced accuracy where that decides.
    """

    label: str
    score: float


def standing_line(folder: ExperimentDir, run: RunDir, phase: Phase, decision: DecisionMetric) -> str:
    """Return what a phase that was just trained and evaluated has reached, and where that puts it.

    Args:
        folder: the experiment, with the runs to rank it among.
        run: the run, which need not be finished.
        phase: the phase.
        decision: the metric that decides.
    """
    val, test = (_score(phase_predictions(run, split, phase), decision) for split in ("val", "test"))
    rank = rank_words(val.value, rivals_of(folder, run, phase, decision), decision)
    scores = f"{phase}: val {decision.label} {share_words(val)}, test {decision.label} {share_words(test)}"
    return f"{scores}; {rank}" if rank else scores


def _score(predictions: Predictions, decision: DecisionMetric) -> Interval:
    if decision is DecisionMetric.TOP1:
        return proportion_interval(predictions.correct)  # needs no resamples
    counts = draw_counts(len(predictions.ids))
    return score_interval(predictions.correct, predictions.labels, counts, decision)


def rivals_of(folder: ExperimentDir, run: RunDir, phase: Phase, decision: DecisionMetric) -> list[Rival]:
    """Return the experiment's other finished runs on the same images, best on val first; damaged ones are left out."""
    own = read_intact(run.result(phase), PhaseResult.from_json)
    rivals = []
    for other in runs_of(folder.root):
        is_rival = other.root != run.root and is_intact(other.run, read_json)
        final = final_phase(other) if is_rival else None
        result = read_intact(other.result(final), PhaseResult.from_json) if final else None
        score = getattr(result.metrics["val"], decision) if result else None
        if own and result and score is not None and result.inputs.get("data") == own.inputs.get("data"):
            rivals.append(Rival(other.label, score))
    return sorted(rivals, key=lambda rival: -rival.score)


def rank_words(score: float, rivals: list[Rival], decision: DecisionMetric) -> str:
    """Return "2nd of 3 by val top-1, behind X", or "" without rivals.

    Args:
        score: on val.
        rivals: the others, best first.
        decision: the metric of the scores.
    """
    if not rivals:
        return ""
    better = [rival for rival in rivals if rival.score > score]
    level = [rival for rival in rivals if rival.score == score]
    if level:
        neighbour = f"level with {level[0].label}"
    elif better:
        neighbour = f"behind {better[-1].label}"
    else:
        neighbour = f"ahead of {rivals[0].label}"
    return f"{ordinal(len(better) + 1)} of {len(rivals) + 1} by val {decision.label}, {neighbour}"


def ordinal(number: int) -> str:
    """Return "1st", "2nd", "3rd", "11th", …"""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
