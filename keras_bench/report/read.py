"""Reads the finished runs of an experiment and computes everything its report shows. No TensorFlow."""

import os
from collections import defaultdict
from collections.abc import Collection
from itertools import combinations
from pathlib import Path

import numpy as np

from keras_bench.audit.selection import most_shared
from keras_bench.config.decision import DecisionMetric, shared_decision
from keras_bench.config.yaml_text import read_yaml
from keras_bench.console import Log
from keras_bench.cost.cost_file import read_cost
from keras_bench.cost.records import latencies_from_json
from keras_bench.errors import UserError
from keras_bench.evaluation.classes import confusion_counts, most_confident_mistakes, most_confused
from keras_bench.evaluation.decisions import LabelledPair, compare_pairs
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import PairedTest
from keras_bench.evaluation.statistics import draw_counts
from keras_bench.explain.judge import judge_methods
from keras_bench.explain.records import ExplanationChecks
from keras_bench.export.records import Verification
from keras_bench.phases import Phase
from keras_bench.reading import read_intact, read_json
from keras_bench.report.claims import check_claims
from keras_bench.report.comparison import Comparison, Example, PhaseView, RunView, SeedSpread, marked
from keras_bench.report.explained import explained_images, sample_images
from keras_bench.report.intact import warn_of_damaged_parts
from keras_bench.report.memory import ReportMemory
from keras_bench.report.outlook import NOTHING_FOLLOWS, Outlook, absent_parts, following_lines
from keras_bench.report.phase_predictions import phase_predictions
from keras_bench.report.phase_views import PAIRS, finished_phases_of, phase_views
from keras_bench.report.study_files import load_study
from keras_bench.report.verdict import verdict_lines
from keras_bench.runs.damage import changed_files
from keras_bench.runs.data import read_audit, shared_of_run
from keras_bench.runs.folders import ExperimentDir, RunDir
from keras_bench.runs.weights import require_final_phase

MISTAKES = 24  # number of most confident wrong predictions shown per run
EXAMPLES_PER_PAIR = 2  # images shown per pair


def read_comparison(
    folder: ExperimentDir,
    runs: list[RunDir],
    log: Log,
    outlook: Outlook = NOTHING_FOLLOWS,
    memory: ReportMemory | None = None,
) -> Comparison:
    """Return the comparison of finished runs.

    Args:
        folder: the experiment's folder.
        runs: finished runs, at least one.
        log: shows progress.
        outlook: what will be added to the comparison.
        memory: what earlier comparisons of this process computed; None: nothing.

    Raises:
        UserError: the runs were tested on different images.
    """
    refuse_different_tests(runs)
    warn_of_damaged_parts(folder, runs, log)
    counts = {split: draw_counts(len(phase_predictions(runs[0], split).ids)) for split in ("val", "test")}
    memory = memory or ReportMemory()
    scratch, decision = _marked_scratch(runs), shared_decision(run.chosen_by() for run in runs)
    labels = {run.root: marked(run.label, run.root in scratch) for run in runs}
    with log.progress("statistics", sum(len(finished_phases_of(run)) for run in runs), "phases") as advance:
        phases = {run.root: phase_views(run, counts, decision, memory, advance) for run in runs}
    views = {run.root: _run_view(run, folder, run.root in scratch, phases[run.root], outlook) for run in runs}
    rank_keys = _rank_keys(views)
    runs = sorted(runs, key=lambda run: rank_keys[run.root])
    ranked = [views[run.root] for run in runs]
    chosen = _choose_per_model(runs)
    test_pairs = [_labelled_pair(first, second, "test", labels) for first, second in combinations(chosen, 2)]
    pairs, val_pairs = compare_pairs(test_pairs, counts["test"], decision), _val_pairs(chosen, labels, decision)
    dataset = read_json(runs[0].dataset)
    study = load_study(folder.root.name.partition("@")[0], dataset)
    shared = most_shared(view.shared_with_val for view in ranked)
    different_val = len({phase_predictions(run, "val").ids.tobytes() for run in runs}) > 1
    return Comparison(
        name=folder.root.name,
        title=str(read_yaml(runs[0].config).get("title") or ""),
        dataset=dataset,
        audit=read_audit(folder, dataset["fingerprint"]),
        runs=ranked,
        decision=decision,
        pairs=pairs,
        val_pairs=val_pairs,
        fine_tuning=_tuning_tests(runs, labels, counts["test"], decision),
        seeds=_seed_spreads(ranked, decision),
        study=study,
        claims=check_claims(study, {run.model_name: (run, views[run.root]) for run in chosen}),
        explained=explained_images(runs, [view.label for view in ranked]),
        samples=sample_images(runs[0], ranked[0].label),
        follows=following_lines(outlook, {view.label: view.absent for view in ranked}),
        verdict=verdict_lines([views[run.root] for run in chosen], pairs, val_pairs, decision, shared, different_val),
    )


def refuse_different_tests(runs: list[RunDir]) -> None:
    """Raise a UserError that names the runs if they were not tested on the same images with the same labels."""
    groups: dict[tuple[bytes, bytes, bytes], list[RunDir]] = defaultdict(list)
    for run in runs:
        test = phase_predictions(run, "test")
        key = (test.ids.tobytes(), test.labels.tobytes(), test.class_names.tobytes())
        groups[key].append(run)
    if len(groups) < 2:
        return
    tests = [phase_predictions(group[0], "test") for group in groups.values()]
    group_texts = " | ".join(
        f"{', '.join(_run_name(run) for run in group)} ({len(test.ids):,} images)"
        for group, test in zip(groups.values(), tests, strict=True)
    )
    raise UserError(
        f"these runs were tested on different images or classes and cannot be compared: {group_texts}; "
        f"{_first_difference(tests[0], tests[1])}. "
        "Compare some of them with --model, or train the others again on the same data"
    )


def _first_difference(first: Predictions, second: Predictions) -> str:
    """Return in words how the test images of two groups of runs differ."""
    if not np.array_equal(first.class_names, second.class_names):
        return f"the classes differ ({len(first.class_names)} and {len(second.class_names)})"
    labels, others = (dict(zip(p.ids.tolist(), p.labels.tolist(), strict=True)) for p in (first, second))
    if unshared := sorted(set(labels) ^ set(others)):
        return f"only one of the first two has {len(unshared):,} of the images, e.g. {unshared[0]}"
    if relabelled := sorted(id_ for id_ in labels if labels[id_] != others[id_]):
        return f"the first two have different labels for {len(relabelled):,} of the images, e.g. {relabelled[0]}"
    return "their images are in a different order"


def _run_name(run: RunDir) -> str:
    return f"{run.model_name}/seed{run.seed}"


def _marked_scratch(runs: list[RunDir]) -> set[Path]:
    """Return the folders of the runs that trained from scratch; empty if all of them did."""
    scratch = {run.root for run in runs if require_final_phase(run) == "scratch"}
    return scratch if len(scratch) < len(runs) else set()


def _run_view(
    run: RunDir,
    folder: ExperimentDir,
    is_marked_scratch: bool,
    phases: dict[Phase, PhaseView],
    outlook: Outlook,
) -> RunView:
    final = require_final_phase(run)
    test = phase_predictions(run, "test")
    checks, damaged = _explanation_checks(run, final), changed_files(run.shown_images)
    pairs = [(pair.true, pair.predicted) for pair in phases[final].confused]
    return RunView(
        model=run.model_name,
        seed=run.seed,
        name=run.label,
        is_marked_scratch=is_marked_scratch,
        final_phase=final,
        chosen_by=run.chosen_by(),
        phases=phases,
        cost=read_cost(run),
        latencies=read_intact(run.latency, latencies_from_json) or [],
        mistakes=[_example(run, test, int(i), damaged) for i in most_confident_mistakes(test, MISTAKES)],
        confused_examples={
            pair: [_example(run, test, i, damaged) for i in pair_positions(test, *pair)[:EXAMPLES_PER_PAIR]]
            for pair in pairs
        },
        explanations=judge_methods(checks) if checks else [],
        exports={phase: export for phase in phases if (export := read_verification(run, phase)) is not None},
        config=run.config.read_text(encoding="utf-8"),
        environment=read_json(run.environment),
        layer_note=checks.layer_note if checks else "",
        shared_with_val=shared_of_run(run, folder),
        absent=absent_parts(run, outlook),
        bundle=_bundle_path(run, final, folder),
    )


def _bundle_path(run: RunDir, phase: Phase, folder: ExperimentDir) -> str:
    """Return the path of a phase's bundle from the experiment's folder, for a link; "" if it is not there."""
    place = read_intact(run.export(phase), lambda content: str(content["bundle"]))
    if place is None or not (run.root / place).is_dir():
        return ""
    return Path(os.path.relpath((run.root / place).resolve(), folder.root.resolve())).as_posix()


def read_verification(run: RunDir, phase: Phase) -> Verification | None:
    """Return how the bundle of a phase was verified; None if there is no bundle, or its record is damaged."""
    return read_intact(run.export(phase), lambda content: Verification.from_json(content["verification"]))


def shown_positions(test: Predictions) -> list[int]:
    """Return the positions of the images that the report shows: worst mistakes and examples of confused pairs."""
    pairs = most_confused(confusion_counts(test), PAIRS)
    examples = [i for pair in pairs for i in pair_positions(test, pair.true, pair.predicted)[:EXAMPLES_PER_PAIR]]
    return sorted({*most_confident_mistakes(test, MISTAKES).tolist(), *examples})


def pair_positions(test: Predictions, true: int, predicted: int) -> list[int]:
    """Return the positions of images of one class that were classified as another, most confident first."""
    positions = np.flatnonzero((test.labels == true) & (test.predicted == predicted))
    return [int(i) for i in positions[np.argsort(-test.confidence[positions], kind="stable")]]


def _example(run: RunDir, test: Predictions, i: int, damaged: Collection[Path]) -> Example:
    thumbnail = run.thumbnail(str(test.ids[i]))
    return Example(
        id=str(test.ids[i]),
        true=int(test.labels[i]),
        predicted=int(test.predicted[i]),
        probability=float(test.confidence[i]),
        thumbnail=thumbnail.read_bytes() if thumbnail.is_file() and thumbnail not in damaged else None,
    )


def _explanation_checks(run: RunDir, final: str) -> ExplanationChecks | None:
    """Return the checks of the final phase's explanations; None if there are none, or they are damaged."""
    checks = read_intact(run.explanation_checks, ExplanationChecks.from_json)
    return checks if checks and checks.phase == final else None


def _rank_keys(views: dict[Path, RunView]) -> dict[Path, tuple[float, str, int]]:
    """Return a sort key for each run: models by the mean val score of their final phases, then seeds."""
    scores: dict[str, list[float]] = defaultdict(list)
    for view in views.values():
        scores[view.model].append(view.final.val_score.value)
    return {root: (-float(np.mean(scores[view.model])), view.model, view.seed) for root, view in views.items()}


def _choose_per_model(runs: list[RunDir]) -> list[RunDir]:
    """Return one run per model, in the order of the ranking: of the lowest seed all models share, or its lowest."""
    runs_by_seed: dict[str, dict[int, RunDir]] = defaultdict(dict)
    for run in runs:
        runs_by_seed[run.model_name][run.seed] = run
    shared = set.intersection(*(set(by_seed) for by_seed in runs_by_seed.values()))
    return [by_seed[min(shared or by_seed)] for by_seed in runs_by_seed.values()]


def _labelled_pair(first: RunDir, second: RunDir, split: str, labels: dict[Path, str]) -> LabelledPair:
    return labels[first.root], phase_predictions(first, split), labels[second.root], phase_predictions(second, split)


def _tuning_tests(
    runs: list[RunDir], labels: dict[Path, str], counts: np.ndarray, decision: DecisionMetric
) -> dict[str, PairedTest]:
    """Compare ft with tl on test for each run that has both; return the tests by the run's label."""
    pairs = {
        labels[run.root]: _tuning_pair(run, labels[run.root])
        for run in runs
        if {"tl", "ft"} <= set(finished_phases_of(run))
    }
    return dict(zip(pairs, compare_pairs(list(pairs.values()), counts, decision), strict=True))


def _tuning_pair(run: RunDir, label: str) -> LabelledPair:
    test = {phase: phase_predictions(run, "test", phase) for phase in ("ft", "tl")}
    return f"{label} ft", test["ft"], f"{label} tl", test["tl"]


def _val_pairs(chosen: list[RunDir], labels: dict[Path, str], decision: DecisionMetric) -> list[PairedTest]:
    """Compare the winner with every other model that has the same val images, on val."""
    winner = phase_predictions(chosen[0], "val")
    others = [run for run in chosen[1:] if np.array_equal(phase_predictions(run, "val").ids, winner.ids)]
    pairs = [_labelled_pair(chosen[0], other, "val", labels) for other in others]
    return compare_pairs(pairs, draw_counts(len(winner.ids)), decision)


def _seed_spreads(ranked: list[RunView], decision: DecisionMetric) -> list[SeedSpread]:
    by_model: dict[str, list[RunView]] = defaultdict(list)
    for view in ranked:
        by_model[view.model].append(view)
    return [
        SeedSpread(
            marked(model, views[0].is_marked_scratch),
            tuple(view.seed for view in views),
            tuple(view.final.val_score.value for view in views),
            tuple(getattr(view.final.result.metrics["test"], decision) for view in views),
        )
        for model, views in by_model.items()
        if len(views) > 1
    ]
