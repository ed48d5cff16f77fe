"""What the per-image scores of explanation maps amount to, with intervals. No TensorFlow."""

import numpy as np

from keras_bench.evaluation.statistics import mean_interval
from keras_bench.records.explanations import METHODS, RANDOM, ExplanationChecks
from keras_bench.records.statistics import Interval, MethodVerdict

# A map that stays this similar after the weights it explains are gone does not show them.
CHANGED_BELOW = 0.5


def judge_methods(checks: ExplanationChecks) -> list[MethodVerdict]:
    """Return a verdict on each method: does it beat a random map, and does it depend on the weights."""
    return [_judge(checks, method) for method in METHODS if method in checks.scores]


def _judge(checks: ExplanationChecks, method: str) -> MethodVerdict:
    scores, random = checks.scores[method], checks.scores[RANDOM]
    deletion, insertion = np.array(scores.deletion), np.array(scores.insertion)
    gain = mean_interval(insertion - deletion - (np.array(random.insertion) - np.array(random.deletion)))
    right = np.array(checks.right, dtype=bool)
    boxes = _numbers(checks.box_share)
    where = right & np.isfinite(boxes)
    hits = _numbers(scores.pointing)
    head, backbone = (_known(values) for values in (scores.similarity_head, scores.similarity_backbone))
    return MethodVerdict(
        method=method,
        deletion=mean_interval(deletion),
        insertion=mean_interval(insertion),
        gain=gain,
        hits=mean_interval(hits[where]) if where.any() else None,
        pointing=mean_interval((hits - boxes)[where]) if where.any() else None,
        mass=mean_interval(_numbers(scores.mass_in_box)[where]) if where.any() else None,
        box_share=float(boxes[where].mean()) if where.any() else None,
        similarity_head=head,
        similarity_backbone=backbone,
        beats_random=gain.low > 0,
        changes=None if head is None or backbone is None else max(head.high, backbone.high) < CHANGED_BELOW,
    )


def _numbers(values: tuple[float | None, ...]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _known(values: tuple[float | None, ...]) -> Interval | None:
    numbers = _numbers(values)
    return mean_interval(numbers[np.isfinite(numbers)]) if np.isfinite(numbers).any() else None
