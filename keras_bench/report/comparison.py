"""Everything the report of an experiment shows, read from finished run folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_bench.audit.findings import Audit
from keras_bench.audit.selection import most_shared
from keras_bench.config.decision import DecisionMetric
from keras_bench.cost.records import Cost, Latency
from keras_bench.evaluation.records import (
    Calibration,
    ClassScores,
    ConfusedPair,
    Interval,
    MethodVerdict,
    PairedTest,
)
from keras_bench.export.records import Verification
from keras_bench.phases import Phase
from keras_bench.report.outlook import Absence, ReportPart
from keras_bench.report.study import ClaimCheck, Study
from keras_bench.runs.results import PhaseResult

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Example:
    """One test image and a model's prediction.

    Attributes:
        id: the image's path inside the data set.
        true: class number of its label.
        predicted: class number of the prediction.
        probability: probability of the predicted class.
        thumbnail: JPEG bytes; None where none was saved.
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
        result: the content of result.json, with the metrics that an earlier version did not compute added.
        history: history.csv, one row per epoch; None where it is damaged or missing.
        val_score: top-1 on val, where all decisions are made; balanced accuracy where that decides.
        test: each of METRICS on test; None where it is not defined.
        classes: scores of every class on test.
        confusion: int64, (K, K), label by prediction, on test.
        confused: the most frequent pairs of true class and wrong prediction on test.
        calibration: fitted on val, reported on test.
    """

    result: PhaseResult
    history: pd.DataFrame | None
    val_score: Interval
    test: dict[str, Interval | None]
    classes: list[ClassScores]
    confusion: np.ndarray
    confused: list[ConfusedPair]
    calibration: Calibration

    @property
    def best_row(self) -> pd.Series | None:
        """The history of the best epoch; None without a history."""
        return None if self.history is None else self.history.iloc[self.result.best_epoch - 1]

    @property
    def gap(self) -> float | None:
        """Top-1 on train minus top-1 on val in the best epoch; None without a history.

        Top-1 on train is the running mean over that epoch, with augmentation and dropout. It is therefore lower than
        the weights at the end of the epoch would reach on unchanged images, and so is the gap.
        """
        row = self.best_row
        return None if row is None else float(row["top1"] - row["val_top1"])


def marked(name: str, is_marked_scratch: bool) -> str:
    """Return the name of a run or model, followed by "(scratch)" if it is marked."""
    return f"{name} (scratch)" if is_marked_scratch else name


@dataclass(frozen=True)
class RunView:
    """One finished run.

    Attributes:
        model: the backbone's name.
        seed: the run's seed.
        name: the model's name, with the seed where it is not 0.
        is_marked_scratch: whether it is marked because it trained from scratch while other runs here did not.
        final_phase: the final phase, chosen on val.
        chosen_by: the metric that chose the final phase.
        phases: phases by name, in order of training.
        cost: counted cost; None where it was not counted.
        latencies: measured latencies; empty where none were measured.
        mistakes: the most confident wrong predictions of the final phase.
        confused_examples: some images of each confused pair (true, predicted) of the final phase.
        explanations: verdicts on the explanation methods; empty where none were computed.
        exports: results of verifying the bundle, by exported phase.
        config: content of config.yaml.
        environment: content of environment.json.
        layer_note: says which layer Grad-CAM uses where that is not the last map; otherwise "".
        shared_with_val: number of val images that are also in test, exactly or nearly, and were not removed from val;
            None: unknown.
        absent: the parts that it lacks, and why.
        bundle: path of the final phase's bundle, relative to the experiment's folder, with "/"; "" where it has none.
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
    absent: Mapping[ReportPart, Absence] = field(default_factory=dict)
    bundle: str = ""

    @property
    def label(self) -> str:
        """The run's name in tables and figures, marked if it trained from scratch while other runs did not."""
        return marked(self.name, self.is_marked_scratch)

    @property
    def final(self) -> PhaseView:
        """The final phase, chosen on val."""
        return self.phases[self.final_phase]

    def latency(self, call: str, batch_size: int, device: str = "cpu") -> Latency | None:
        """Return the latency of one kind of call, or None where it was not measured."""
        setting = (call, batch_size, device)
        return next(
            (entry for entry in self.latencies if (entry.call, entry.batch_size, entry.device) == setting), None
        )


@dataclass(frozen=True)
class ModelExplanation:
    """One model's maps of one image.

    Attributes:
        label: the run's label.
        predicted: class number of the prediction.
        probability: probability of the predicted class.
        maps: one map per method, uint8, (side, side).
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
        agreement: how the predictions agree: "all correct", "all wrong" or "they disagree".
        models: the models' maps, in the order of the ranking.
    """

    id: str
    true: int
    image: np.ndarray
    agreement: str
    models: list[ModelExplanation]


@dataclass(frozen=True)
class SeedSpread:
    """One model over several seeds, each on the same test images.

    Attributes:
        model: the backbone's name.
        seeds: the seeds.
        val_scores: top-1 (balanced accuracy where that decides) of the final phase on val, one per seed.
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
        title: one line that describes the experiment.
        dataset: dataset.json of the runs, which all have the same test images.
        audit: findings of the data's audit; None where there was none.
        runs: the runs, best first, by the mean val score of their model's final phases.
        decision: the metric that ranks the runs and that the paired tests compare: balanced accuracy if it chose the
            final phase of any run.
        pairs: tests of the final phases of every two models, on test.
        val_pairs: tests of the winner against every other model, on val.
        fine_tuning: by run label, the test of ft (first) against tl on test, for each run that has both.
        seeds: models with several seeds.
        study: the published study; None where there is none.
        claims: the study's claims and what the runs show.
        explained: images with the maps of every model.
        verdict: the verdict in words, one line per entry.
        samples: a few test images with the maps of the best run.
        follows: what will be added to it, one line per entry; empty for a complete comparison.
    """

    name: str
    title: str
    dataset: dict[str, Any]
    audit: Audit | None
    runs: list[RunView]
    decision: DecisionMetric
    pairs: list[PairedTest]
    val_pairs: list[PairedTest]
    fine_tuning: dict[str, PairedTest]
    seeds: list[SeedSpread]
    study: Study | None
    claims: list[ClaimCheck]
    explained: list[ExplainedImage]
    verdict: list[str]
    samples: list[ExplainedImage] = field(default_factory=list)
    follows: list[str] = field(default_factory=list)

    @property
    def shared_with_val(self) -> int | None:
        """Largest number of images that val and test share in any run; None if it is unknown for one of them."""
        return most_shared(run.shared_with_val for run in self.runs)

    @property
    def class_titles(self) -> list[str]:
        """K class names for people."""
        return list(self.dataset["class_titles"])
