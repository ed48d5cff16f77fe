"""The table of a sweep, from the saved predictions of its runs. NumPy and SciPy only.

The best point is chosen on val; test only reports. If a point has several seeds, its figures are means over them: each
image counts as the share of seeds that classify it correctly. A paired test needs each image to be either correct or
wrong, so it compares runs of one seed: the lowest that all points of the model share.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any

import numpy as np

from keras_bench.audit.selection import most_shared
from keras_bench.config.decision import DecisionMetric
from keras_bench.errors import RunError
from keras_bench.evaluation.decisions import paired_decision_test, score, score_interval
from keras_bench.evaluation.records import Interval, PairedTest
from keras_bench.evaluation.statistics import draw_counts, holm_corrected, recall_interval
from keras_bench.sweep.records import (
    Factor,
    FactorLine,
    PointRun,
    SweepPoint,
    SweepRow,
    SweepTable,
    settings_text,
    short_keys,
)
from keras_bench.sweep.verdict import sweep_verdict

BALANCED = 1.1  # classes count as balanced where the largest has at most 10 % more training images than the smallest
POINT = "point"  # the factor of points that differ in several keys at once

PointOfModel = tuple[str, int]  # a model and the index of a point
RunsByPoint = dict[PointOfModel, list[PointRun]]
DrawCounts = Callable[[int], np.ndarray]  # from a number of images to the counts of bootstrap resamples


def tabulate(
    heading: tuple[str, str, str],
    points: Sequence[SweepPoint],
    runs: Sequence[PointRun],
    baseline: int,
    decision: DecisionMetric = DecisionMetric.TOP1,
) -> SweepTable:
    """Return the table of a sweep's finished runs.

    Args:
        heading: the sweep's name, its title and the experiment's name.
        points: all points in order, including those without a finished run.
        runs: the finished runs, at least one.
        baseline: index of the point that the others are compared with.
        decision: the metric of the runs' val scores and of the paired tests.
    """
    counts = cache(draw_counts)
    by_point = _runs_by_point(runs)
    models = list(dict.fromkeys(model for model, _ in by_point))
    minority = _minority_classes(by_point.get((models[0], baseline), list(runs))[0])
    rows = {
        (model, number): _sweep_row(points[number], point_runs, minority, counts, decision)
        for (model, number), point_runs in by_point.items()
    }
    seeds = _shared_seeds(by_point)
    tests, notes = _baseline_tests(by_point, points, baseline, seeds, counts, decision)
    for model in models:
        keys = [key for key in rows if key[0] == model]
        best = max(keys, key=lambda key: rows[key].val_score)  # of equal scores, the first
        for key in keys:
            rows[key] = replace(rows[key], paired=tests.get(key), is_best=key == best, is_baseline=key[1] == baseline)
    all_rows = tuple(rows.values())
    verdicts = [sweep_verdict([row for row in all_rows if row.model == model], decision) for model in models]
    return SweepTable(
        *heading,
        decision=decision,
        rows=all_rows,
        factors=_factors(points, by_point, rows, counts, decision),
        verdict=tuple(chain.from_iterable(verdicts)),
        notes=tuple(notes),
        seed=seeds,
        minority=minority,
        test_images=len(runs[0].correct),
    )


def _runs_by_point(runs: Sequence[PointRun]) -> RunsByPoint:
    """Return the runs of each point of each model, sorted by seed; models in order of appearance, then points."""
    models = list(dict.fromkeys(run.model for run in runs))
    by_point: RunsByPoint = defaultdict(list)
    for run in sorted(runs, key=lambda run: (models.index(run.model), run.point, run.seed)):
        by_point[run.model, run.point].append(run)
    for (model, _), point_runs in by_point.items():
        if len({run.test for run in point_runs}) > 1:
            raise RunError(f"the seeds of one point of {model} were tested on different images: {point_runs[0].folder}")
    return dict(by_point)


def _minority_classes(run: PointRun) -> tuple[str, ...]:
    """Return the fifth of the classes with the fewest training images, and any of the same size; () where balanced.

    A single class has too few test images: with 50 of them, recall is uncertain by 13 points.
    """
    counts = run.train_images.values()
    smaller = sorted(n for n in counts if BALANCED * n < max(counts))
    if not smaller:
        return ()
    largest = smaller[: max(1, len(counts) // 5)][-1]
    return tuple(name for name, n in run.train_images.items() if n <= largest)


def _sweep_row(
    point: SweepPoint, runs: list[PointRun], minority: tuple[str, ...], counts: DrawCounts, decision: DecisionMetric
) -> SweepRow:
    """Return the row of one point of one model from its runs of all seeds; the tests and marks are added later."""
    first, correct = runs[0], _mean_correct(runs)
    resamples = counts(len(correct))
    present = np.unique(first.labels).tolist()
    minority_numbers = [k for k in present if first.class_names[k] in minority]
    return SweepRow(
        point=point,
        model=first.model,
        seeds=tuple(run.seed for run in runs),
        phases=tuple(dict.fromkeys(run.phase for run in runs)),
        val_score=float(np.mean([run.val_score for run in runs])),
        top1=score_interval(correct, first.labels, resamples, DecisionMetric.TOP1),
        scores_of_seeds=tuple(score(run.correct, run.labels, decision) for run in runs),
        balanced_accuracy=score_interval(correct, first.labels, resamples, DecisionMetric.BALANCED_ACCURACY),
        minority_recall=(
            recall_interval(correct, first.labels, minority_numbers, resamples) if minority_numbers else None
        ),
        seconds=float(np.mean([run.seconds for run in runs])),
        test=first.test,
        paired=None,
        is_baseline=False,
        is_best=False,
        folders=tuple(run.folder for run in runs),
        shared_with_val=most_shared(run.shared_with_val for run in runs),
    )


def _mean_correct(runs: Sequence[PointRun]) -> np.ndarray:
    """Return whether one run classifies each test image correctly, bool, (N,); for several, the share, float64."""
    return runs[0].correct if len(runs) == 1 else np.mean([run.correct for run in runs], axis=0)


def _shared_seeds(by_point: RunsByPoint) -> dict[str, int]:
    """Return, by model, the lowest seed that all its points share; models without one are left out."""
    seeds: dict[str, list[set[int]]] = defaultdict(list)
    for (model, _), point_runs in by_point.items():
        seeds[model].append({run.seed for run in point_runs})
    shared = {model: set.intersection(*sets) for model, sets in seeds.items()}
    return {model: min(shared_seeds) for model, shared_seeds in shared.items() if shared_seeds}


def _baseline_tests(
    by_point: RunsByPoint,
    points: Sequence[SweepPoint],
    baseline: int,
    seeds: Mapping[str, int],
    counts: DrawCounts,
    decision: DecisionMetric,
) -> tuple[dict[PointOfModel, PairedTest], list[str]]:
    """Return the paired test of every point against its model's baseline, and a note on each test that is impossible.

    Holm's correction is over all tests.
    """
    tests: dict[PointOfModel, PairedTest] = {}
    notes = []
    for model in dict.fromkeys(model for model, _ in by_point):
        others = [key for key in by_point if key[0] == model and key[1] != baseline]
        if (model, baseline) not in by_point or model not in seeds:
            reason = (
                "no seed is finished for all points" if (model, baseline) in by_point else "the baseline is missing"
            )
            notes += [f"{model}: no paired tests, since {reason}"] if others else []
            continue
        base = _run_of_seed(by_point[model, baseline], seeds[model])
        for key in others:
            run, label = _run_of_seed(by_point[key], seeds[model]), points[key[1]].label
            if run.test == base.test:
                pair = (points[baseline].label, base.correct), (label, run.correct)
                tests[key] = paired_decision_test(
                    *pair, base.labels, counts(len(base.correct)), decision, len(by_point)
                )
            else:
                notes.append(f"{model}, {label}: no paired test, since it was tested on other images than the baseline")
    return dict(zip(tests, holm_corrected(list(tests.values())), strict=True)), notes


def _run_of_seed(runs: Sequence[PointRun], seed: int) -> PointRun:
    return next(run for run in runs if run.seed == seed)


def _factors(
    points: Sequence[SweepPoint],
    by_point: RunsByPoint,
    rows: Mapping[PointOfModel, SweepRow],
    counts: DrawCounts,
    decision: DecisionMetric,
) -> tuple[Factor, ...]:
    """Return a factor per key that varies; if points have names or different keys, one factor for the points."""
    keys = list(points[0].settings)
    if any(point.named or set(point.settings) != set(keys) for point in points):
        factors = [_factor(POINT, [{POINT: point.label} for point in points], by_point, rows, counts, decision)]
    else:
        settings = [dict(point.settings) for point in points]
        varying = [key for key in keys if len({_value_key(values[key]) for values in settings}) > 1]
        factors = [_factor(key, settings, by_point, rows, counts, decision) for key in varying]
    return tuple(factor for factor in factors if len(factor.values) > 1)


def _factor(
    key: str,
    settings: list[dict[str, Any]],
    by_point: RunsByPoint,
    rows: Mapping[PointOfModel, SweepRow],
    counts: DrawCounts,
    decision: DecisionMetric,
) -> Factor:
    """Return the factor of one key: its values, and a line of test scores per combination of model and other settings.

    Args:
        key: the key, an entry of every point's settings.
        settings: the settings of each point.
        by_point: the runs.
        rows: the rows of the table.
        counts: draws bootstrap counts.
        decision: the metric of the test scores.
    """
    names = short_keys(settings[0])
    has_several_models = len({model for model, _ in by_point}) > 1
    lines: dict[str, dict[str, PointOfModel]] = defaultdict(dict)
    numbers = sorted(number for _, number in by_point)
    values = {_value_key(settings[number][key]): settings[number][key] for number in numbers}
    for model, number in by_point:
        others = {name: value for name, value in settings[number].items() if name != key}
        label = ([model] if has_several_models else []) + ([settings_text(others, names)] if others else [])
        lines[", ".join(label)][_value_key(settings[number][key])] = (model, number)
    empty = Factor(key, tuple(values.values()), (), None)
    order = sorted(values, key=lambda value_key: values[value_key]) if empty.is_numeric else list(values)
    scores = {name: {k: rows[point].test_score(decision) for k, point in line.items()} for name, line in lines.items()}
    complete = [line for line in lines.values() if len(line) == len(order)]
    return Factor(
        key,
        tuple(values[k] for k in order),
        tuple(FactorLine(name, tuple(line_scores.get(k) for k in order)) for name, line_scores in scores.items()),
        _mean_over_lines(complete, order, by_point, counts, decision),
    )


def _value_key(value: object) -> str:
    """Return a text that is equal for equal values and, unlike a list, hashable."""
    return json.dumps(value)


def _mean_over_lines(
    lines: list[dict[str, PointOfModel]],
    order: list[str],
    by_point: RunsByPoint,
    counts: DrawCounts,
    decision: DecisionMetric,
) -> tuple[Interval, ...] | None:
    """Return the mean of each value over lines that have all values, so every mean is over the same settings."""
    tests = {by_point[point][0].test for line in lines for point in line.values()}
    if len(lines) < 2 or len(tests) > 1:
        return None
    correct_means = [np.mean([_mean_correct(by_point[line[k]]) for line in lines], axis=0) for k in order]
    labels = by_point[next(iter(lines[0].values()))][0].labels
    return tuple(score_interval(correct, labels, counts(len(correct)), decision) for correct in correct_means)
