"""Verdicts on explanation methods from the scores of their maps, with intervals. No TensorFlow."""

import numpy as np

from keras_bench.evaluation.records import Interval, MethodVerdict
from keras_bench.evaluation.statistics import mean_interval, proportion_interval
from keras_bench.explain.records import EXPLANATION_METHODS, RANDOM, ExplanationChecks, MethodScores

# SmoothGrad with ten samples has a rank correlation of 0.88 with itself under other noise (MobileNet 0.75 on 40 classes
# of Tiny ImageNet, 24 images), so maps correlated below 0.8 differ by more than a method's own noise.
CHANGED_BELOW = 0.8


def judge_methods(checks: ExplanationChecks) -> list[MethodVerdict]:
    """Return a verdict on each method: whether it beats a random map, and whether it depends on the weights."""
    return [_judge(checks, method) for method in EXPLANATION_METHODS if method in checks.scores]


def _judge(checks: ExplanationChecks, method: str) -> MethodVerdict:
    scores, random = checks.scores[method], checks.scores[RANDOM]
    gain = mean_interval(_finite(_gap(scores) - _gap(random)))
    box_shares = _numbers(checks.box_share)
    counted = np.array(checks.correct, dtype=bool) & np.isfinite(box_shares)  # correct predictions with a box
    hits = _numbers(scores.pointing)
    head, backbone = (
        _mean_of_finite(_numbers(values)) for values in (scores.similarity_head, scores.similarity_backbone)
    )
    return MethodVerdict(
        method=method,
        deletion=mean_interval(_finite(_numbers(scores.deletion))),
        insertion=mean_interval(_finite(_numbers(scores.insertion))),
        gain=gain,
        hits=proportion_interval(hits[counted] > 0) if counted.any() else None,
        hits_above_chance=mean_interval((hits - box_shares)[counted]) if counted.any() else None,
        mass=mean_interval(_numbers(scores.mass_in_box)[counted]) if counted.any() else None,
        box_share=float(box_shares[counted].mean()) if counted.any() else None,
        similarity_head=head,
        similarity_backbone=backbone,
        beats_random=gain.clear_of_zero and gain.value > 0,
        changes_with_head=_changes(head),
        changes_with_backbone=_changes(backbone),
    )


def _changes(similarity: Interval | None) -> bool | None:
    """Return whether maps change when weights are randomised; None if the similarity has no interval."""
    return similarity.ends[1] < CHANGED_BELOW if similarity and similarity.ends else None


def _numbers(values: tuple[float | None, ...]) -> np.ndarray:
    """Return values as float64, NaN for None."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _gap(scores: MethodScores) -> np.ndarray:
    """Return insertion minus deletion of each image; large is good."""
    return _numbers(scores.insertion) - _numbers(scores.deletion)


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _mean_of_finite(values: np.ndarray) -> Interval | None:
    finite = _finite(values)
    return mean_interval(finite) if len(finite) else None
