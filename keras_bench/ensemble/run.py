"""The verb `ensemble`: averages finished runs, tests the average against its best member, and exports it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from keras_bench.config.decision import DecisionMetric, shared_decision
from keras_bench.console import Log
from keras_bench.cost.measure import model_identity
from keras_bench.ensemble.average import average, fit_weights
from keras_bench.ensemble.card import ensemble_card
from keras_bench.environment import describe_environment
from keras_bench.errors import UserError
from keras_bench.evaluation.decisions import compare_pairs, score, score_interval
from keras_bench.evaluation.intervals import PairedTest
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.statistics import draw_counts
from keras_bench.evaluation.words import p_words
from keras_bench.export.make import BundlePlan, make_bundle
from keras_bench.export.phases import data_of_run
from keras_bench.pages.provenance import Provenance
from keras_bench.phases import Phase
from keras_bench.runs.job import Job
from keras_bench.runs.weights import finished_phase


@dataclass(frozen=True)
class Member:
    """One finished run of an ensemble.

    Attributes:
        job: the run.
        phase: its final phase.
        val: its predictions on val.
        test: the same on test.
    """

    job: Job
    phase: Phase
    val: Predictions
    test: Predictions

    @property
    def label(self) -> str:
        """What the member is called in tables."""
        return f"{self.job.experiment_folder.root.name}/{self.job.folder.label} {self.phase}"


def run_ensemble(jobs: Sequence[Job], name: str, fit: bool, export: bool, log: Log) -> None:
    """Average finished runs, print what that is worth, and write one bundle that holds them all.

    Weights are fitted on val, or equal; the best member is chosen on val, by balanced accuracy where that decided
    within any of the runs; test only reports.

    Args:
        jobs: two finished runs or more, made with the same data and splits.
        name: of the bundle.
        fit: fit the weights.
        export: write the bundle.
        log: the screen.

    Raises:
        UserError: the runs cannot be averaged.
        ExportError: the bundle could not be made or does not agree with Keras.
    """
    members = _members(jobs)
    decision = shared_decision(job.folder.chosen_by() for job in jobs)
    weights = fit_weights([one.val for one in members], decision) if fit else [1 / len(members)] * len(members)
    val, test = (average([getattr(one, split) for one in members], weights) for split in ("val", "test"))
    best = max(members, key=lambda one: score(one.val.correct, one.val.labels, decision))
    paired = compare_pairs([("ensemble", test, best.label, best.test)], draw_counts(len(test.ids)), decision)[0]
    log.table(_member_table(members, weights, val, test, decision))
    verdict = _verdict(paired, best, len(test.ids), decision)
    log.line(verdict)
    if export:
        _export_mean(members, weights, name, val, test, verdict, log)


def _members(jobs: Sequence[Job]) -> list[Member]:
    """Return the runs with their predictions, the classes of all in the order of the first.

    Raises:
        UserError: their images, labels or classes differ, or one is named twice.
    """
    members: list[Member] = []
    for job in jobs:
        phase = finished_phase(job.folder)
        val, test = (Predictions.from_npz(job.folder.predictions(phase, split)) for split in ("val", "test"))
        if any(job.folder.root.resolve() == one.job.folder.root.resolve() for one in members):
            raise UserError(f"{job.folder.root} is named twice; an ensemble needs different runs")
        if members:
            _refuse_differences(members[0], job, val, test)
        members.append(Member(job, phase, val, test))
    return members


def _refuse_differences(first: Member, job: Job, val: Predictions, test: Predictions) -> None:
    for split, one, other in (("val", first.val, val), ("test", first.test, test)):
        for what, a, b in (("classes", one.class_names, other.class_names), ("images", one.ids, other.ids)):
            if not np.array_equal(a, b):
                raise UserError(
                    f"{job.folder.root} and {first.job.folder.root} have different {split} {what} "
                    f"({len(b):,} and {len(a):,}); an ensemble averages predictions for the same images"
                )


def _member_table(
    members: list[Member], weights: list[float], val: Predictions, test: Predictions, decision: DecisionMetric
) -> Table:
    table = Table(title="ensemble")
    table.add_column("member")
    for column in ("weight", f"val {decision.label}", f"test {decision.label}"):
        table.add_column(column, justify="right")
    rows = [(one.label, f"{weight:.3f}", one.val, one.test) for one, weight in zip(members, weights, strict=True)]
    for label, weight, on_val, on_test in [*rows, ("their average", "", val, test)]:
        found = score_interval(on_test.correct, on_test.labels, draw_counts(len(on_test.ids)), decision)
        shown = Text(f"{100 * found.value:.1f} % [{found.ends_text(between=', ')}]")
        table.add_row(label, weight, f"{100 * score(on_val.correct, on_val.labels, decision):.1f} %", shown)
    return table


def _verdict(paired: PairedTest, best: Member, images: int, decision: DecisionMetric) -> str:
    words = {"worse": "better than", "better": "worse than", "no difference shown": "not shown to differ from"}
    gap = paired.difference
    return (
        f"The ensemble is {words[paired.words()]} its best member on val, {best.label}: "
        f"difference in test {decision.label} {100 * gap.value:+.1f} points "
        f"({'' if gap.ends else 'interval '}{gap.ends_text(form='+.1f')}) on {images:,} images; "
        f"{p_words(paired.p_holm)}."
    )


def _export_mean(
    members: list[Member],
    weights: list[float],
    name: str,
    val: Predictions,
    test: Predictions,
    verdict: str,
    log: Log,
) -> None:
    job = members[0].job
    data = data_of_run(job, log)
    from keras_bench.models.start import start_tensorflow

    start_tensorflow(log)
    kept = [(one, weight) for one, weight in zip(members, weights, strict=True) if weight > 0]
    about: dict[str, Any] = {
        "experiment": job.config.name,
        "model": name,
        "phase": "ensemble",
        "members": [{"run": one.label, "weight": weight, **model_identity(one.job.folder)} for one, weight in kept],
        "versions": describe_environment([])["packages"],
        "data": data.fingerprint,
    }
    plan = BundlePlan(
        title="export of the ensemble",
        folder=job.exports / name,
        members=[(one.job.folder.model(one.phase), weight) for one, weight in kept],
        image_size=job.image_size,
        origin=about,
        config=job.config,
        data=data,
        val=val,
        test=test,
        card=lambda verification: ensemble_card(verification, verdict, Provenance.now()),
    )
    make_bundle(plan, log)


def default_name(jobs: Sequence[Job]) -> str:
    """Return what an ensemble of these runs is called, e.g. "ensemble-MobileNet+VGG16"."""
    return "ensemble-" + "+".join(
        job.folder.model_name + (f"-seed{job.folder.seed}" if job.folder.seed else "") for job in jobs
    )
