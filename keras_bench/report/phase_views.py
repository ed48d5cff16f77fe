"""The views of a run's phases: their metrics with intervals, classes, confusions and calibration."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.calibration import calibrate
from keras_bench.evaluation.classes import class_scores, confusion_counts, most_confused
from keras_bench.evaluation.decisions import score_interval
from keras_bench.evaluation.metrics import complete_metrics
from keras_bench.evaluation.statistics import draw_counts, metric_intervals
from keras_bench.phases import PHASES, Phase
from keras_bench.report.comparison import PhaseView
from keras_bench.report.memory import ReportMemory, phase_key
from keras_bench.report.phase_predictions import phase_predictions
from keras_bench.runs.damaged_history import history_damaged
from keras_bench.runs.folders import RunDir
from keras_bench.runs.history import read_history

PAIRS = 12  # number of most confused pairs shown per run

ResampleCounts = dict[str, np.ndarray]  # by split
Advance = Callable[[int], None]  # takes the number of units just finished


def finished_phases_of(run: RunDir) -> list[Phase]:
    """Return the phases of a run that are finished, in order of training."""
    return [phase for phase in PHASES if run.result(phase).is_file()]


def phase_views(
    run: RunDir, counts: ResampleCounts, decision: DecisionMetric, memory: ReportMemory, advance: Advance
) -> dict[Phase, PhaseView]:
    """Return the views of a run's finished phases, in order of training.

    Args:
        run: the run.
        counts: by split, float32, (resamples, N), from `draw_counts`.
        decision: the metric that ranks the runs.
        memory: what earlier comparisons of this process computed.
        advance: called after each phase.
    """
    views = {}
    for phase in finished_phases_of(run):
        key = phase_key(run, phase, decision)
        views[phase] = memory.phase_view(key, partial(_phase_view, run, phase, counts, decision))
        advance(1)
    return views


def _phase_view(run: RunDir, phase: Phase, counts: ResampleCounts, decision: DecisionMetric) -> PhaseView:
    result = run.read_result(phase)
    assert result is not None
    val, test = phase_predictions(run, "val", phase), phase_predictions(run, "test", phase)
    confusion = confusion_counts(test)
    val_counts = counts["val"] if len(val.ids) == counts["val"].shape[1] else draw_counts(len(val.ids))
    metrics = {split: complete_metrics(result.metrics[split], saved) for split, saved in (("val", val), ("test", test))}
    return PhaseView(
        result=replace(result, metrics=metrics),
        history=None if history_damaged(run, phase) else read_history(run.history(phase)),
        val_score=score_interval(val.correct, val.labels, val_counts, decision),
        test=metric_intervals(test, counts["test"]),
        classes=class_scores(test),
        confusion=confusion,
        confused=most_confused(confusion, PAIRS),
        calibration=calibrate(val, test),
    )
