"""Averages finished runs, tests the average against its best member, and exports it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from rich.text import Text

from keras_bench.config.decision import DecisionMetric, shared_decision
from keras_bench.console import Log
from keras_bench.cost.cost_file import model_identity
from keras_bench.ensemble.average import average, fit_weights
from keras_bench.ensemble.card import ensemble_card
from keras_bench.environment import describe_environment
from keras_bench.errors import UserError
from keras_bench.evaluation.decisions import compare_pairs, score, score_interval
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import PairedTest
from keras_bench.evaluation.statistics import draw_counts
from keras_bench.evaluation.words import p_words
from keras_bench.export.make import BundlePlan, make_bundle
from keras_bench.export.phases import data_of_run, refuse_damaged_run
from keras_bench.pages.provenance import Provenance
from keras_bench.phases import Phase
from keras_bench.runs.job import Job
from keras_bench.runs.weights import require_final_phase


@dataclass(frozen=True)
class Member:
    """One finished run of an ensemble.

    Attributes:
        job: the run.
        phase: its final phase.
        val: its predictions on val.
        test: its predictions on test.
    """

    job: Job
    phase: Phase
    val: Predictions
    test: Predictions

    @property
    def label(self) -> str:
        """Its name in tables."""
        return f"{self.job.experiment_folder.root.name}/{self.job.folder.label} {self.phase}"


def run_ensemble(jobs: Sequence[Job], name: str, fit: bool, export: bool, log: Log) -> None:
    """Average finished runs, compare the average with its best member, and write one bundle that holds all members.

    Weights are equal, or fitted on val. The best member is chosen on val, by balanced accuracy if that decided within
    any of the runs. Test only measures.

    Args:
        jobs: two or more finished runs, made with the same data and splits.
        name: name of the bundle.
        fit: whether to fit the weights.
        export: whether to write the bundle.
        log: the screen.

    Raises:
        UserError: the runs cannot be averaged.
        RunError: a run is not finished, or one of its files is damaged.
        ExportError: the bundle could not be made or does not agree with Keras.
    """
    members = _members(jobs)
    decision = shared_decision(job.folder.chosen_by() for job in jobs)
    weights = fit_weights([member.val for member in members], decision) if fit else [1 / len(members)] * len(members)
    val, test = (average([getattr(member, split) for member in members], weights) for split in ("val", "test"))
    best = max(members, key=lambda member: score(member.val.correct, member.val.labels, decision))
    paired = compare_pairs([("ensemble", test, best.label, best.test)], draw_counts(len(test.ids)), decision)[0]
    log.table(_member_table(members, weights, val, test, decision))
    verdict = _verdict(paired, best, len(test.ids), decision)
    log.line(verdict)
    if export:
        _export_mean(members, weights, name, val, test, verdict, log)


def _members(jobs: Sequence[Job]) -> list[Member]:
    """Return the runs with their predictions.

    Raises:
        UserError: their images or classes differ, or a run is named twice.
        RunError: a run is not finished, or one of its files is damaged.
    """
    members: list[Member] = []
    for job in jobs:
        refuse_damaged_run(job.folder)
        phase = require_final_phase(job.folder)
        val, test = (Predictions.from_npz(job.folder.predictions(phase, split)) for split in ("val", "test"))
        if any(job.folder.root.resolve() == member.job.folder.root.resolve() for member in members):
            raise UserError(f"{job.folder.root} is named twice; an ensemble needs different runs")
        if members:
            _refuse_differences(members[0], job, val, test)
        members.append(Member(job, phase, val, test))
    return members


def _refuse_differences(first: Member, job: Job, val: Predictions, test: Predictions) -> None:
    """Raise a UserError if a run's predictions are for other classes or images than those of the first member."""
    for split, expected, received in (("val", first.val, val), ("test", first.test, test)):
        names = ("classes", expected.class_names, received.class_names)
        for kind, a, b in (names, ("images", expected.ids, received.ids)):
            if not np.array_equal(a, b):
                raise UserError(
                    f"{job.folder.root} and {first.job.folder.root} have different {split} {kind} "
                    f"({len(b):,} and {len(a):,}); an ensemble averages predictions for the same images"
                )


def _member_table(
    members: list[Member], weights: list[float], val: Predictions, test: Predictions, decision: DecisionMetric
) -> Table:
    table = Table(title="ensemble")
    table.add_column("member")
    for column in ("weight", f"val {decision.label}", f"test {decision.label}"):
        table.add_column(column, justify="right")
    rows = [
        (member.label, f"{weight:.3f}", member.val, member.test)
        for member, weight in zip(members, weights, strict=True)
    ]
    for label, weight, on_val, on_test in [*rows, ("their average", "", val, test)]:
        val_score = score(on_val.correct, on_val.labels, decision)
        test_score = score_interval(on_test.correct, on_test.labels, draw_counts(len(on_test.ids)), decision)
        interval = Text(f"{100 * test_score.value:.1f} % [{test_score.ends_text(between=', ')}]")
        table.add_row(label, weight, f"{100 * val_score:.1f} %", interval)
    return table


def _verdict(paired: PairedTest, best: Member, images: int, decision: DecisionMetric) -> str:
    # `paired.verdict()` judges the best member, the second of the pair; this sentence judges the ensemble.
    reversed_words = {"worse": "better than", "better": "worse than", "no difference shown": "not shown to differ from"}
    gap = paired.difference
    return (
        f"The ensemble is {reversed_words[paired.verdict()]} its best member on val, {best.label}: "
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
    """Write the bundle of all members whose weight is above 0."""
    job = members[0].job
    data = data_of_run(job, log)
    from keras_bench.models.start import start_tensorflow

    start_tensorflow(log)
    kept = [(member, weight) for member, weight in zip(members, weights, strict=True) if weight > 0]
    origin: dict[str, object] = {
        "experiment": job.config.name,
        "model": name,
        "phase": "ensemble",
        "members": [
            {"run": member.label, "weight": weight, **model_identity(member.job.folder)} for member, weight in kept
        ],
        "versions": describe_environment([])["packages"],
        "data": data.fingerprint,
    }
    plan = BundlePlan(
        title="export of the ensemble",
        folder=job.exports / name,
        members=[(member.job.folder.model(member.phase), weight) for member, weight in kept],
        image_size=job.image_size,
        origin=origin,
        config=job.config,
        data=data,
        val=val,
        test=test,
        card=lambda verification: ensemble_card(verification, verdict, Provenance.now()),
    )
    make_bundle(plan, log)


def default_name(jobs: Sequence[Job]) -> str:
    """Return the default name of an ensemble of these runs, e.g. "ensemble-MobileNet+VGG16"."""
    return "ensemble-" + "+".join(
        job.folder.model_name + (f"-seed{job.folder.seed}" if job.folder.seed else "") for job in jobs
    )
