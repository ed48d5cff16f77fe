"""Records of what is computed from saved predictions: estimates with intervals, tests, class scores, calibration."""

from dataclasses import dataclass

import numpy as np

NOT_DEFINED = "not defined"


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it.

    Attributes:
        value: the estimate from all images.
        low: lower end of the 95 % interval; None where the interval is not defined.
        high: upper end; None if `low` is None.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends, or None where the interval is not defined."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def clear_of_zero(self) -> bool:
        """Whether zero lies outside the interval; False where the interval is not defined."""
        return self.ends is not None and (self.ends[0] > 0 or self.ends[1] < 0)

    @property
    def negated(self) -> "Interval":
        """The difference taken the other way round, with its interval."""
        return Interval(0 - self.value, *(0 - end for end in reversed(self.ends or ())))  # no -0.0

    def ends_text(self, scale: float = 100, form: str = ".1f", between: str = " to ") -> str:
        """Return both ends as text ("70.8 to 74.6"), in percent unless `scale` says otherwise, or "not defined"."""
        return between.join(f"{scale * end:{form}}" for end in self.ends) if self.ends else NOT_DEFINED


@dataclass(frozen=True)
class PairedTest:
    """Two models (or two phases of one model) on the same images.

    Attributes:
        first: label of the first.
        second: label of the second.
        only_first: number of images that only the first classifies correctly.
        only_second: number of images that only the second classifies correctly.
        difference: top-1 of the first minus that of the second (balanced accuracy where that decides), with a paired
            bootstrap interval.
        p_value: of the exact McNemar test for top-1, or the sign-flip test for balanced accuracy; two-sided.
        p_holm: the p-value after Holm's correction over all pairs of the table.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    difference: Interval
    p_value: float
    p_holm: float

    def verdict(self, level: float = 0.05) -> str:
        """Return the verdict on the second: "better", "worse" or "no difference shown"."""
        if self.p_holm >= level:
            return "no difference shown"
        return "worse" if self.difference.value > 0 else "better"


@dataclass(frozen=True)
class ClassScores:
    """One class of one split.

    Attributes:
        name: the class name.
        precision: share of correct predictions among predictions of this class; 0 if it was never predicted.
        recall: share of its images classified correctly; 0 if it has none.
        f1: harmonic mean of precision and recall.
        support: number of its images in the split.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class that were classified as another.

    Attributes:
        true: class number of the label.
        predicted: class number of the prediction.
        count: number of such images.
        share: `count` divided by the number of images of class `true`.
    """

    true: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in bins with equal numbers of images.

    Attributes:
        confidence: mean probability of the predicted class, (bins,).
        accuracy: share of correct predictions, (bins,).
        images: number of images, (bins,).
        error: expected calibration error: mean absolute difference of the two, weighted by images.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    images: np.ndarray
    error: float


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities of one phase are calibrated, before and after temperature scaling.

    Attributes:
        temperature: fitted on val; above 1 if the model is overconfident.
        before: reliability on test before scaling.
        after: reliability on test after scaling.
        cross_entropy_after: mean negative log probability of the true class on test after scaling, nats.
        coverage: share of the test images classified, most confident first, (points,), ascending.
        covered_accuracy: top-1 among the classified images, (points,).
    """

    temperature: float
    before: Reliability
    after: Reliability
    cross_entropy_after: float
    coverage: np.ndarray
    covered_accuracy: np.ndarray


@dataclass(frozen=True)
class MethodVerdict:
    """Results of the checks of one explanation method.

    Attributes:
        method: its name.
        deletion: area under the deletion curve.
        insertion: area under the insertion curve.
        gain: insertion minus deletion, minus the same difference for a random map, on the same images.
        hits: hit rate on correct predictions, on images with a box; None without boxes.
        hits_above_chance: `hits` minus the box's share of the image; None without boxes.
        mass: share of the map inside the box; None without boxes.
        box_share: mean share of the image inside the box, on the same images; None without boxes.
        similarity_head: rank correlation between the maps before and after the head was randomised.
        similarity_backbone: the same after head and backbone were randomised.
        beats_random: whether the whole interval of `gain` is above zero.
        changes_with_head: whether the whole interval of `similarity_head` is below the limit; None without an interval.
        changes_with_backbone: the same for `similarity_backbone`.
    """

    method: str
    deletion: Interval
    insertion: Interval
    gain: Interval
    hits: Interval | None
    hits_above_chance: Interval | None
    mass: Interval | None
    box_share: float | None
    similarity_head: Interval | None
    similarity_backbone: Interval | None
    beats_random: bool
    changes_with_head: bool | None
    changes_with_backbone: bool | None
