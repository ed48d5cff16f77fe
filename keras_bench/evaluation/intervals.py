"""Numbers with their error bars, computed from saved predictions."""

from dataclasses import dataclass

import numpy as np

NOT_DEFINED = "not defined"


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it.

    Attributes:
        value: the estimate on the images as they are.
        low: lower end of the 95 % interval; None where the interval is not defined.
        high: upper end; None together with `low`.
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
        """Whether zero lies outside the interval; an interval that is not defined shows nothing."""
        return self.ends is not None and (self.ends[0] > 0 or self.ends[1] < 0)

    @property
    def negated(self) -> "Interval":
        """The same of the difference taken the other way round."""
        return Interval(0 - self.value, *(0 - end for end in reversed(self.ends or ())))  # no -0.0

    def ends_text(self, scale: float = 100, form: str = ".1f", between: str = " to ") -> str:
        """Return both ends, "70.8 to 74.6", in percent unless `scale` says otherwise, or "not defined"."""
        return between.join(f"{scale * end:{form}}" for end in self.ends) if self.ends else NOT_DEFINED


@dataclass(frozen=True)
class PairedTest:
    """Two models (or two phases of one model) on the same images.

    Attributes:
        first: label of the one.
        second: label of the other.
        only_first: images only the first classifies correctly.
        only_second: images only the second classifies correctly.
        difference: top-1, or balanced accuracy where that decides, of the first less that of the second, with a paired
            bootstrap interval.
        p_value: exact McNemar test of top-1, or sign-flip test of balanced accuracy, two-sided.
        p_holm: the same after Holm's correction over all pairs of its table.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    difference: Interval
    p_value: float
    p_holm: float

    def words(self, level: float = 0.05) -> str:
        """Return the verdict on the second in words: "better", "worse" or "no difference shown"."""
        if self.p_holm >= level:
            return "no difference shown"
        return "worse" if self.difference.value > 0 else "better"


@dataclass(frozen=True)
class ClassScores:
    """One class of one split.

    Attributes:
        name: the class name.
        precision: share of correct predictions among predictions of this class; 0 where it was never predicted.
        recall: share of its images classified correctly; 0 where it has none.
        f1: harmonic mean of both.
        support: its images in the split.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class taken for another.

    Attributes:
        true: class number of the label.
        predicted: class number of the prediction.
        count: how many.
        share: of the images of `true`.
    """

    true: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in bins of equally many images.

    Attributes:
        confidence: mean probability of the predicted class, (bins,).
        accuracy: share of correct predictions, (bins,).
        images: number of images, (bins,).
        error: expected calibration error: mean absolute gap, weighted by images.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    images: np.ndarray
    error: float


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of one phase can be believed, before and after temperature scaling.

    Attributes:
        temperature: fitted on val; above 1 the model was over-confident.
        before: on test, as the model predicts.
        after: on test, with that temperature.
        cross_entropy_after: mean negative log probability of the true class on test, with that temperature, nats.
        coverage: share of the test images classified, most confident first, (points,), ascending.
        covered_accuracy: top-1 among those, (points,).
    """

    temperature: float
    before: Reliability
    after: Reliability
    cross_entropy_after: float
    coverage: np.ndarray
    covered_accuracy: np.ndarray


@dataclass(frozen=True)
class MethodVerdict:
    """What the checks say of one explanation method.

    Attributes:
        method: its name.
        deletion: area under the deletion curve.
        insertion: area under the insertion curve.
        gain: insertion less deletion, less the same of a random map on the same images.
        pointing: hit rate on correct predictions less the box's share, on images with a box; None without boxes.
        hits: that hit rate itself; None without boxes.
        mass: share of the map inside the box; None without boxes.
        box_share: mean share of the image inside the box, on the same images; None without boxes.
        similarity_head: rank correlation with the map after the head was randomised.
        similarity_backbone: the same after head and backbone.
        beats_random: whether `gain` is above zero with its interval.
        changes_with_head: whether `similarity_head` lies below the limit with its interval; None where it or its
            interval is not known.
        changes_with_backbone: the same of `similarity_backbone`.
    """

    method: str
    deletion: Interval
    insertion: Interval
    gain: Interval
    hits: Interval | None
    pointing: Interval | None
    mass: Interval | None
    box_share: float | None
    similarity_head: Interval | None
    similarity_backbone: Interval | None
    beats_random: bool
    changes_with_head: bool | None
    changes_with_backbone: bool | None
