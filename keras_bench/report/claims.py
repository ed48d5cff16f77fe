"""Checks a study's published claims against the finished runs. No TensorFlow."""

import numpy as np

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.decisions import compare_pairs
from keras_bench.evaluation.statistics import draw_counts
from keras_bench.explain.records import Explanations
from keras_bench.report.claim_figures import differ, half_areas, mean_fall, words_for
from keras_bench.report.comparison import RunView
from keras_bench.report.phase_predictions import phase_predictions
from keras_bench.report.study import Claim, ClaimCheck, Study
from keras_bench.runs.folders import RunDir

OTHER_DATA = "other data, not comparable"

RunsByModel = dict[str, tuple[RunDir, RunView]]


def check_claims(study: Study | None, runs: RunsByModel) -> list[ClaimCheck]:
    """Return each claim of a study with the figures of the two models it compares.

    A difference in top-1 or Grad-CAM counts only where it exceeds chance over the images; the other figures are one
    number per run, and only their direction is compared.

    Args:
        study: the published study; None where there is none.
        runs: one per model, by the model's name.
    """
    return [_check_claim(claim, study.comparable, runs) for claim in study.claims] if study else []


def _check_claim(claim: Claim, comparable: bool, runs: RunsByModel) -> ClaimCheck:
    missing = [model for model in (claim.more, claim.less) if model not in runs]
    if missing:
        return ClaimCheck(claim, None, None, f"not measured here: no finished run of {' and '.join(missing)}")
    more, less = runs[claim.more], runs[claim.less]
    values = _claimed_figure(claim.figure, *more), _claimed_figure(claim.figure, *less)
    verdict = words_for(*values, _exceeds_chance(claim.figure, more[0], less[0])) if comparable else OTHER_DATA
    return ClaimCheck(claim, *values, verdict)


def _claimed_figure(name: str, run: RunDir, view: RunView) -> float | None:
    """Return one run's value of a figure of CLAIMED, or None where it was not measured.

    It is the final phase's, except for time, which is that of the last phase trained: final phases may differ.
    """
    if name == "val_falls":
        histories = [phase.history for phase in view.phases.values() if phase.history is not None]
        is_whole = len(histories) == len(view.phases)
        return mean_fall(history["val_top1"].tolist() for history in histories) if is_whole else None
    if name == "gradcam_area":
        areas = np.array([area for area in _gradcam_areas(run).values() if np.isfinite(area)])
        return float(areas.mean()) if len(areas) else None
    final = view.final
    return {
        "val_top1": final.result.metrics["val"].top1,
        "test_top1": final.result.metrics["test"].top1,
        "seconds_per_epoch": list(view.phases.values())[-1].result.seconds_per_epoch,
        "gap": final.gap,
        "parameters_millions": final.result.parameters / 1e6,
    }[name]


def _exceeds_chance(name: str, first: RunDir, second: RunDir) -> bool:
    """Return whether two runs differ by more than chance over the images; True where that cannot be tested."""
    if name == "gradcam_area":
        first_areas, second_areas = _gradcam_areas(first), _gradcam_areas(second)
        shared = sorted(set(first_areas) & set(second_areas))
        return differ(np.array([first_areas[id_] for id_ in shared]), np.array([second_areas[id_] for id_ in shared]))
    if name not in ("val_top1", "test_top1"):
        return True
    predictions, others = (phase_predictions(run, name.removesuffix("_top1")) for run in (first, second))
    if not np.array_equal(predictions.ids, others.ids):
        return True
    pair = (first.label, predictions, second.label, others)
    test = compare_pairs([pair], draw_counts(len(predictions.ids)), DecisionMetric.TOP1)[0]
    return test.verdict() != "no difference shown"


def _gradcam_areas(run: RunDir) -> dict[str, float]:
    """Return by image id the share of each explained image that holds half of the evidence; {} without explanations."""
    if not run.explanations.is_file():
        return {}
    explanations = Explanations.from_npz(run.explanations)
    return dict(zip(map(str, explanations.ids), half_areas(explanations.maps["gradcam"]).tolist(), strict=True))
