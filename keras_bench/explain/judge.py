"""What the per-image scores of explanation maps amount to, with intervals. No TensorFlow."""

import numpy as np

from keras_bench.evaluation.intervals import Interval, MethodVerdict
from keras_bench.evaluation.statistics import mean_interval, proportion_interval
from keras_bench.explain.records import EXPLANATION_METHODS, RANDOM, ExplanationChecks, MethodScores

# SmoothGrad of ten samples resembles itself under other noise with a rank correlation of 0.88 (MobileNet 0.75 on 40
# classes of Tiny ImageNet, 24 images): what stays below 0.8 differs by more than a method's own noise.
CHANGED_BELOW = 0.8


def judge_methods(checks: ExplanationChecks) -> list[MethodVerdict]:
    """Return a verdict on each method: does it beat a random map, and does it depend on the weights."""
    return [_judge(checks, method) for method in EXPLANATION_METHODS if method in checks.scores]


def _judge(checks: ExplanationChecks, method: str) -> MethodVerdict:
    scores, random = checks.scores[method], checks.scores[RANDOM]
    gain = mean_interval(_finite(_gap(scores) - _gap(random)))
    correct = np.array(checks.correct, dtype=bool)
    boxes = _numbers(checks.box_share)
    where = correct & np.isfinite(boxes)
    hits = _numbers(scores.pointing)
    head, backbone = (
        _mean_of_finite(_numbers(values)) for values in (scores.similarity_head, scores.similarity_backbone)
    )
    return MethodVerdict(
        method=method,
        deletion=mean_interval(_finite(_numbers(scores.deletion))),
        insertion=mean_interval(_finite(_numbers(scores.insertion))),
        gain=gain,
        hits=proportion_interval(hits[where] > 0) if where.any() else None,
        pointing=mean_interval((hits - boxes)[where]) if where.any() else None,
        mass=mean_interval(_numbers(scores.mass_in_box)[where]) if where.any() else None,
        box_share=float(boxes[where].mean()) if where.any() else None,
        similarity_head=head,
        similarity_backbone=backbone,
        beats_random=gain.clear_of_zero and gain.value > 0,
        changes_with_head=_changes(head),
        changes_with_backbone=_changes(backbone),
    )


def _changes(similarity: Interval | None) -> bool | None:
    return similarity.ends[1] < CHANGED_BELOW if similarity and similarity.ends else None


def _numbers(values: tuple[float | None, ...]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _gap(scores: MethodScores) -> np.ndarray:
    return _numbers(scores.insertion) - _numbers(scores.deletion)


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _mean_of_finite(values: np.ndarray) -> Interval | None:
    known = _finite(values)
    return mean_interval(known) if len(known) else None
