"""Records of a sweep: its finished runs, its table, and the data of its figures."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_bench.audit.selection import most_shared
from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.records import Interval, PairedTest
from keras_bench.phases import Phase


@dataclass(frozen=True)
class PointRun:
    """One finished run of one point, with the results of its final phase.

    Attributes:
        point: index of the point in the sweep, from 0.
        model: the backbone's name.
        seed: the run's seed.
        phase: the final phase, chosen on val.
        val_score: top-1 on val, where every decision was made; balanced accuracy if that decides the sweep.
        labels: classes of the test images, int64, (N,).
        correct: whether each prediction on test is correct, bool, (N,).
        test: digest of the test images, their labels and the class names; equal for runs that can be compared.
        class_names: K names, in the order of the labels.
        train_images: training images by class name.
        seconds: wall time of all phases, validation included.
        folder: the run folder, for people.
        shared_with_val: number of duplicates or near-duplicates of test images that stay in val; None if unknown.
    """

    point: int
    model: str
    seed: int
    phase: Phase
    val_score: float
    labels: np.ndarray
    correct: np.ndarray
    test: str
    class_names: tuple[str, ...]
    train_images: dict[str, int]
    seconds: float
    folder: str
    shared_with_val: int | None = None


@dataclass(frozen=True)
class SweepPoint:
    """A point's label and settings.

    Attributes:
        label: the point's name, or its settings in short form.
        settings: value by dotted key.
        named: whether the label is a name from the sweep file.
    """

    label: str
    settings: dict[str, object]
    named: bool


@dataclass(frozen=True)
class SweepRow:
    """The results of one model at one point.

    Attributes:
        point: the point's label and settings.
        model: the backbone's name.
        seeds: seeds of the finished runs; figures are means over these runs.
        phases: the final phases of the runs, each listed once.
        val_score: the score on val that chooses the best point: top-1, or balanced accuracy if that decides the sweep.
        top1: accuracy on test.
        scores_of_seeds: the metric that decides, on test, by seed.
        balanced_accuracy: mean recall over classes on test.
        minority_recall: mean recall of the fifth of the classes with the fewest training images; None if not shown.
        seconds: wall time of training.
        test: digest of the test images.
        paired: the baseline (first) against this point (second) on the same test images; None for the baseline
            itself and if the runs cannot be paired.
        is_baseline: whether the other points are tested against this one.
        is_best: whether this is the model's best point on val.
        folders: the run folders.
        shared_with_val: number of duplicates or near-duplicates of test images that stay in val, the largest of the
            runs; None if unknown for any of them.
    """

    point: SweepPoint
    model: str
    seeds: tuple[int, ...]
    phases: tuple[Phase, ...]
    val_score: float
    top1: Interval
    scores_of_seeds: tuple[float, ...]
    balanced_accuracy: Interval
    minority_recall: Interval | None
    seconds: float
    test: str
    paired: PairedTest | None
    is_baseline: bool
    is_best: bool
    folders: tuple[str, ...]
    shared_with_val: int | None = None

    def test_score(self, decision: DecisionMetric) -> Interval:
        """Return the test score in the metric that decides."""
        return self.top1 if decision is DecisionMetric.TOP1 else self.balanced_accuracy


@dataclass(frozen=True)
class FactorLine:
    """Test scores over a factor's values, with all other settings equal.

    Attributes:
        label: the other settings.
        values: one score per value of the factor; None if there is no finished run.
    """

    label: str
    values: tuple[Interval | None, ...]


@dataclass(frozen=True)
class Factor:
    """The test score, top-1 or balanced accuracy, over the values of one key.

    Attributes:
        key: dotted key, or "point" if points differ in several keys at once.
        values: in the order of the axis.
        lines: one per setting of the other keys and the model.
        mean: mean over the lines that have all values; None if fewer than two do.
    """

    key: str
    values: tuple[Any, ...]
    lines: tuple[FactorLine, ...]
    mean: tuple[Interval, ...] | None

    @property
    def is_numeric(self) -> bool:
        """Whether the values lie on an axis of numbers."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)


@dataclass(frozen=True)
class SweepTable:
    """Everything the table, the figures and the page of a sweep show.

    Attributes:
        name: the sweep's name.
        title: one line for people.
        experiment: the experiment's name.
        decision: the metric that chose the best points and that tests and factors show.
        rows: by model, then in the order of the points.
        factors: one per key that varies.
        verdict: the lines of the verdict.
        notes: lines about missing results and points that cannot be compared.
        seed: the seed whose runs the paired tests compare, by model.
        minority: the fifth of the classes with the fewest training images; () if classes are balanced.
        test_images: number of test images of the first row.
    """

    name: str
    title: str
    experiment: str
    decision: DecisionMetric
    rows: tuple[SweepRow, ...]
    factors: tuple[Factor, ...]
    verdict: tuple[str, ...]
    notes: tuple[str, ...]
    seed: dict[str, int]
    minority: tuple[str, ...]
    test_images: int

    @property
    def shared_with_val(self) -> int | None:
        """The largest number of images that val and test share in any row; None if unknown for any of them."""
        return most_shared(row.shared_with_val for row in self.rows)

    @property
    def seeds(self) -> list[int]:
        """All seeds of the rows, ascending."""
        return sorted({seed for row in self.rows for seed in row.seeds})

    @property
    def models(self) -> list[str]:
        """The backbones, in the order of the rows."""
        return list(dict.fromkeys(row.model for row in self.rows))


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return the last part of each dotted key, or the whole key if several end in the same part."""
    unique_keys = list(dict.fromkeys(keys))
    leaf_counts = Counter(key.rpartition(".")[2] for key in unique_keys)
    return {key: leaf if leaf_counts[leaf := key.rpartition(".")[2]] == 1 else key for key in unique_keys}


def value_text(value: object) -> str:
    """Return a configuration value for people: 0.0001, true, [0.8, 1.2], adam."""
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def settings_text(settings: Mapping[str, object], names: Mapping[str, str]) -> str:
    """Return settings for people, e.g. "dropout=0.2, optimizer=adam".

    Args:
        settings: value by dotted key.
        names: the short name of each key, from `short_keys`.
    """
    return ", ".join(f"{names[key]}={value_text(value)}" for key, value in settings.items()) or "unchanged"
