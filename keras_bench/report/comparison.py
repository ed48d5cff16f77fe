"""Everything the report of an experiment shows, read from finished run folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_bench.audit.findings import Audit
from keras_bench.audit.selection import most_shared
from keras_bench.config.decision import DecisionMetric
from keras_bench.cost.records import Cost, Latency
from keras_bench.evaluation.intervals import (
    Calibration,
    ClassScores,
    ConfusedPair,
    Interval,
    MethodVerdict,
    PairedTest,
)
from keras_bench.export.records import Verification
from keras_bench.phases import Phase
from keras_bench.report.study import ClaimCheck, Study
from keras_bench.runs.results import PhaseResult

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Example:
    """One test image and what a model made of it.

    Attributes:
        id: the image's path inside the data set.
        true: class number of its label.
        predicted: class number of the prediction.
        probability: of that class.
        thumbnail: JPEG bytes, or None where none was kept.
    """

    id: str
    true: int
    predicted: int
    probability: float
    thumbnail: bytes | None


@dataclass(frozen=True)
class PhaseView:
    """One finished phase.

    Attributes:
        result: what result.json holds, with the metrics that an earlier version did not compute.
        history: history.csv, one row per epoch.
        val_score: top-1 on val, where every decision was made; balanced accuracy where that decides.
        test: each of METRICS on test; None where it is not defined.
        classes: scores of every class on test.
        confusion: int64, (K, K), label by prediction, on test.
        confused: the pairs most often taken for one another, with up to two examples each.
        calibration: fitted on val, reported on test.
    """

    result: PhaseResult
    history: pd.DataFrame
    val_score: Interval
    test: dict[str, Interval | None]
    classes: list[ClassScores]
    confusion: np.ndarray
    confused: list[ConfusedPair]
    calibration: Calibration

    @property
    def best_row(self) -> pd.Series:
        """The history of the epoch that was kept."""
        return self.history.iloc[self.result.best_epoch - 1]

    @property
    def gap(self) -> float:
        """Top-1 on train less top-1 on val in the epoch that was kept.

        The figure of train is the running mean over that epoch, under augmentation and dropout, so it lies below
        what the finished epoch would reach on plain images, and so does the gap.
        """
        return float(self.best_row["top1"] - self.best_row["val_top1"])


def marked(name: str, is_marked_scratch: bool) -> str:
    """Return the name of a run or model, followed by "(scratch)" where it is to be marked."""
    return f"{name} (scratch)" if is_marked_scratch else name


@dataclass(frozen=True)
class RunView:
    """One finished run.

    Attributes:
        model: the backbone's name.
        seed: the run's seed.
        name: the model's name, with the seed where it is not 0.
        is_marked_scratch: whether it trained from scratch while other runs here did not, so that it is marked.
        final_phase: chosen on val.
        chosen_by: the metric that chose it.
        phases: by name, in order of training.
        cost: what can be counted; None where it was not.
        latencies: what was timed; empty where nothing was.
        mistakes: the most confident wrong predictions of the final phase.
        confused_examples: for each confused pair (true, predicted) of the final phase some of its images.
        explanations: verdicts on the explanation methods; empty where none were computed.
        exports: how the bundle of each exported phase was verified.
        config: config.yaml.
        environment: environment.json.
        layer_note: which layer Grad-CAM uses where that is not the last map; else "".
        shared_with_val: images of val that test holds too, or nearly, and that stay in val; None: not known.
    """

    model: str
    seed: int
    name: str
    is_marked_scratch: bool
    final_phase: Phase
    chosen_by: DecisionMetric
    phases: dict[Phase, PhaseView]
    cost: Cost | None
    latencies: list[Latency]
    mistakes: list[Example]
    confused_examples: dict[tuple[int, int], list[Example]]
    explanations: list[MethodVerdict]
    exports: dict[str, Verification]
    config: str
    environment: dict[str, Any]
    layer_note: str = ""
    shared_with_val: int | None = None

    @property
    def label(self) -> str:
        """The run's name on tables and figures, marked where it trained from scratch among transferred runs."""
        return marked(self.name, self.is_marked_scratch)

    @property
    def final(self) -> PhaseView:
        """The final phase, chosen on val."""
        return self.phases[self.final_phase]

    def latency(self, call: str, batch_size: int, device: str = "cpu") -> Latency | None:
        """Return one measurement, or None where it was not made."""
        wanted = (call, batch_size, device)
        return next((one for one in self.latencies if (one.call, one.batch_size, one.device) == wanted), None)


@dataclass(frozen=True)
class ModelExplanation:
    """One model's maps of one image.

    Attributes:
        label: the run's label.
        predicted: class number of the prediction.
        probability: of that class.
        maps: for each method uint8, (side, side).
    """

    label: str
    predicted: int
    probability: float
    maps: dict[str, np.ndarray]


@dataclass(frozen=True)
class ExplainedImage:
    """One test image with the maps of every model.

    Attributes:
        id: the image's path inside the data set.
        true: class number of its label.
        image: uint8, (side, side, 3).
        why: "all correct", "all wrong" or "they disagree".
        models: in the order of the ranking.
    """

    id: str
    true: int
    image: np.ndarray
    why: str
    models: list[ModelExplanation]


@dataclass(frozen=True)
class SeedSpread:
    """One model over several seeds, each on the same test images.

    Attributes:
        model: the backbone's name.
        seeds: which.
        val_scores: top-1, or balanced accuracy where that decides, of the final phases on val, one for each seed.
        test_scores: the same on test.
    """

    model: str
    seeds: tuple[int, ...]
    val_scores: tuple[float, ...]
    test_scores: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """All finished runs of an experiment.

    Attributes:
        name: the experiment's folder name.
        title: one line for people.
        dataset: dataset.json of the runs, which all share its test images.
        audit: what the data's audit found; None where it was not made.
        runs: best first, by the mean val score of the model's final phases.
        decision: the metric that ranks them and that the paired tests are about: balanced accuracy where it chose the
            final phase of any run.
        pairs: the final phases of every two models, on test.
        val_pairs: the winner against every other model, on val.
        fine_tuning: tl against ft of each run that has both, on test.
        seeds: models with several seeds.
        study: published figures; None where the experiment has none.
        claims: its published claims beside what the runs show.
        explained: images with the maps of every model.
        verdict: the verdict in words, one line each.
    """

    name: str
    title: str
    dataset: dict[str, Any]
    audit: Audit | None
    runs: list[RunView]
    decision: DecisionMetric
    pairs: list[PairedTest]
    val_pairs: list[PairedTest]
    fine_tuning: list[PairedTest]
    seeds: list[SeedSpread]
    study: Study | None
    claims: list[ClaimCheck]
    explained: list[ExplainedImage]
    verdict: list[str]

    @property
    def shared_with_val(self) -> int | None:
        """Images that val and test share in any of the runs, at most; None where it is not known of one."""
        return most_shared(run.shared_with_val for run in self.runs)

    @property
    def class_titles(self) -> list[str]:
        """K class names for people."""
        return list(self.dataset["class_titles"])
