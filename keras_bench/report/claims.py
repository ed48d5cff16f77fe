"""Sets a study's published claims beside what the finished runs show. No TensorFlow."""

import numpy as np

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.decisions import compare
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.statistics import draw_counts
from keras_bench.explain.records import Explanations
from keras_bench.report.claim_figures import differ, half_areas, mean_fall, words_for
from keras_bench.report.comparison import RunView
from keras_bench.report.study import Claim, ClaimCheck, Study
from keras_bench.runs.folders import RunDir
from keras_bench.runs.weights import finished_phase

OTHER_DATA = "other data, not comparable"

Runs = dict[str, tuple[RunDir, RunView]]


def check_claims(study: Study | None, runs: Runs) -> list[ClaimCheck]:
    """Return each claim of a study with the figures of the two models it is about.

    Differences of top-1 and of Grad-CAM are held to the spread over images; the others are one number per run, and only
    their direction is told.

    Args:
        study: what was published; None where nothing was.
        runs: one for each model, by its name.
    """
    return [_check(claim, study.comparable, runs) for claim in study.claims] if study else []


def _check(claim: Claim, comparable: bool, runs: Runs) -> ClaimCheck:
    absent = [model for model in (claim.more, claim.less) if model not in runs]
    if absent:
        return ClaimCheck(claim, None, None, f"not measured here: no finished run of {' and '.join(absent)}")
    more, less = runs[claim.more], runs[claim.less]
    values = _figure(claim.figure, *more), _figure(claim.figure, *less)
    words = words_for(*values, _is_shown(claim.figure, more[0], less[0])) if comparable else OTHER_DATA
    return ClaimCheck(claim, *values, words)


def _figure(name: str, run: RunDir, view: RunView) -> float | None:
    """Return a figure of CLAIMED of one run, or None where it was not measured.

    It is of the final phase, except that time is of the last phase trained: the models' final phases may differ.
    """
    if name == "val_falls":
        return mean_fall([row["val_top1"] for row in phase.history] for phase in view.phases.values())
    if name == "gradcam_area":
        areas = _gradcam_areas(run)
        known = np.array([area for area in areas.values() if np.isfinite(area)])
        return float(known.mean()) if len(known) else None
    final = view.final
    return {
        "val_top1": final.result.metrics["val"].top1,
        "test_top1": final.result.metrics["test"].top1,
        "seconds_per_epoch": list(view.phases.values())[-1].result.seconds_per_epoch,
        "gap": final.gap,
        "parameters_millions": final.result.parameters / 1e6,
    }[name]


def _is_shown(name: str, one: RunDir, other: RunDir) -> bool:
    """Return whether two runs differ by more than chance over the images, where that can be tested."""
    if name == "gradcam_area":
        areas, other_areas = _gradcam_areas(one), _gradcam_areas(other)
        shared = sorted(set(areas) & set(other_areas))
        return differ(np.array([areas[name] for name in shared]), np.array([other_areas[name] for name in shared]))
    if name not in ("val_top1", "test_top1"):
        return True
    first, second = (_predictions(run, name.removesuffix("_top1")) for run in (one, other))
    if not np.array_equal(first.ids, second.ids):
        return True
    pair = compare([(one.label, first, other.label, second)], draw_counts(len(first.ids)), DecisionMetric.TOP1)[0]
    return pair.words() != "no difference shown"


def _gradcam_areas(run: RunDir) -> dict[str, float]:
    """Return for each explained image the share that holds half of the evidence; empty without explanations."""
    if not run.explanations.is_file():
        return {}
    found = Explanations.from_npz(run.explanations)
    return dict(zip(map(str, found.ids), half_areas(found.maps["gradcam"]).tolist(), strict=True))


def _predictions(run: RunDir, split: str) -> Predictions:
    return Predictions.from_npz(run.predictions(finished_phase(run), split))
