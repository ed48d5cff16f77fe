"""The table of a sweep from the saved predictions of its runs; NumPy and SciPy only.

The best point is chosen on val; test only reports. Where a point has several seeds, figures are means over them: an
image then counts as the share of seeds that get it correct. A paired test needs correct or wrong for each image, so it
compares the runs of one seed, the lowest that all points of the model share.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from keras_bench.audit.selection import most_shared
from keras_bench.config.decision import DecisionMetric
from keras_bench.errors import RunError
from keras_bench.evaluation.decisions import paired_decision_test, score, score_interval
from keras_bench.evaluation.intervals import Interval, PairedTest
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

Place = tuple[str, int]  # a model and a point
RunsByPlace = dict[Place, list[PointRun]]
DrawCounts = Callable[[int], np.ndarray]


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
        points: all points in order, those without a finished run too.
        runs: at least one.
        baseline: place of the point that the others are tested against.
        decision: the metric that the runs' val scores are of, and that they are tested in.
    """
    counts = cache(draw_counts)
    by_place = _by_place(runs)
    models = list(dict.fromkeys(model for model, _ in by_place))
    minority = _minority(by_place.get((models[0], baseline), list(runs))[0])
    rows = {place: _sweep_row(points[place[1]], found, minority, counts, decision) for place, found in by_place.items()}
    seeds = _shared_seeds(by_place)
    tests, notes = _baseline_tests(by_place, points, baseline, seeds, counts, decision)
    for model in models:
        of_model = [place for place in rows if place[0] == model]
        best = max(of_model, key=lambda place: rows[place].val_score)  # the first of equals
        for place in of_model:
            rows[place] = replace(
                rows[place], paired=tests.get(place), is_best=place == best, is_baseline=place[1] == baseline
            )
    whole = tuple(rows.values())
    return SweepTable(
        *heading,
        decision=decision,
        rows=whole,
        factors=_factors(points, by_place, rows, counts, decision),
        verdict=tuple(
            line for model in models for line in sweep_verdict([row for row in whole if row.model == model], decision)
        ),
        notes=tuple(notes),
        seed=seeds,
        minority=minority,
        test_images=len(runs[0].correct),
    )


def _by_place(runs: Sequence[PointRun]) -> RunsByPlace:
    """Return the runs of each point of each model by seed; models in their order, then points."""
    models = list(dict.fromkeys(run.model for run in runs))
    found: RunsByPlace = defaultdict(list)
    for run in sorted(runs, key=lambda run: (models.index(run.model), run.point, run.seed)):
        found[run.model, run.point].append(run)
    for (model, _), group in found.items():
        if len({run.test for run in group}) > 1:
            raise RunError(f"the seeds of one point of {model} were tested on different images: {group[0].folder}")
    return dict(found)


def _minority(run: PointRun) -> tuple[str, ...]:
    """Return the fifth of the classes with the fewest training images, and any of the same size; () where balanced.

    One class alone has too few test images to say much: 50 of them leave recall uncertain by 13 points.
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
    one, correct = runs[0], _mean_correct(runs)
    drawn = counts(len(correct))
    present = np.unique(one.labels).tolist()
    fewest = [k for k in present if one.class_names[k] in minority]
    return SweepRow(
        point=point,
        model=one.model,
        seeds=tuple(run.seed for run in runs),
        phases=tuple(dict.fromkeys(run.phase for run in runs)),
        val_score=float(np.mean([run.val_score for run in runs])),
        top1=score_interval(correct, one.labels, drawn, DecisionMetric.TOP1),
        scores_of_seeds=tuple(score(run.correct, run.labels, decision) for run in runs),
        balanced_accuracy=score_interval(correct, one.labels, drawn, DecisionMetric.BALANCED_ACCURACY),
        minority_recall=recall_interval(correct, one.labels, fewest, drawn) if fewest else None,
        seconds=float(np.mean([run.seconds for run in runs])),
        test=one.test,
        paired=None,
        is_baseline=False,
        is_best=False,
        folders=tuple(run.folder for run in runs),
        shared_with_val=most_shared(run.shared_with_val for run in runs),
    )


def _mean_correct(runs: Sequence[PointRun]) -> np.ndarray:
    """Return whether one run classifies each test image correctly, bool, (N,), or the share of several, float64."""
    return runs[0].correct if len(runs) == 1 else np.mean([run.correct for run in runs], axis=0)


def _shared_seeds(by_place: RunsByPlace) -> dict[str, int]:
    """Return for each model the lowest seed that all of its points share, if there is one."""
    seeds: dict[str, list[set[int]]] = defaultdict(list)
    for (model, _), group in by_place.items():
        seeds[model].append({run.seed for run in group})
    shared = {model: set.intersection(*sets) for model, sets in seeds.items()}
    return {model: min(found) for model, found in shared.items() if found}


def _baseline_tests(
    by_place: RunsByPlace,
    points: Sequence[SweepPoint],
    baseline: int,
    seeds: Mapping[str, int],
    counts: DrawCounts,
    decision: DecisionMetric,
) -> tuple[dict[Place, PairedTest], list[str]]:
    """Test every point against the baseline of its model, with Holm's correction over all of them; and what cannot."""
    tests: dict[Place, PairedTest] = {}
    notes = []
    for model in dict.fromkeys(model for model, _ in by_place):
        others = [place for place in by_place if place[0] == model and place[1] != baseline]
        if (model, baseline) not in by_place or model not in seeds:
            why = "no seed is finished for all points" if (model, baseline) in by_place else "the baseline is missing"
            notes += [f"{model}: no paired tests, since {why}"] if others else []
            continue
        base = _of_seed(by_place[model, baseline], seeds[model])
        for place in others:
            run, label = _of_seed(by_place[place], seeds[model]), points[place[1]].label
            if run.test == base.test:
                pair = (points[baseline].label, base.correct), (label, run.correct)
                tests[place] = paired_decision_test(
                    *pair, base.labels, counts(len(base.correct)), decision, len(by_place)
                )
            else:
                notes.append(f"{model}, {label}: tested on other images than the baseline, so the two are not paired")
    return dict(zip(tests, holm_corrected(list(tests.values())), strict=True)), notes


def _of_seed(runs: Sequence[PointRun], seed: int) -> PointRun:
    return next(run for run in runs if run.seed == seed)


def _factors(
    points: Sequence[SweepPoint],
    by_place: RunsByPlace,
    rows: Mapping[Place, SweepRow],
    counts: DrawCounts,
    decision: DecisionMetric,
) -> tuple[Factor, ...]:
    """Return a factor for each key that varies, or one for the points as such where their keys differ or have names."""
    keys = list(points[0].settings)
    if any(point.named or set(point.settings) != set(keys) for point in points):
        found = [_factor(POINT, [{POINT: point.label} for point in points], by_place, rows, counts, decision)]
    else:
        settings = [dict(point.settings) for point in points]
        varying = [key for key in keys if len({_value_key(one[key]) for one in settings}) > 1]
        found = [_factor(key, settings, by_place, rows, counts, decision) for key in varying]
    return tuple(factor for factor in found if len(factor.values) > 1)


def _factor(
    key: str,
    settings: list[dict[str, Any]],
    by_place: RunsByPlace,
    rows: Mapping[Place, SweepRow],
    counts: DrawCounts,
    decision: DecisionMetric,
) -> Factor:
    names = short_keys(settings[0])
    several = len({model for model, _ in by_place}) > 1
    lines: dict[str, dict[str, Place]] = defaultdict(dict)
    values = {
        _value_key(settings[number][key]): settings[number][key] for _, number in sorted(by_place, key=_point_number)
    }
    for model, number in by_place:
        others = {name: value for name, value in settings[number].items() if name != key}
        parts = ([model] if several else []) + ([settings_text(others, names)] if others else [])
        lines[", ".join(parts)][_value_key(settings[number][key])] = (model, number)
    empty = Factor(key, tuple(values.values()), (), None)
    order = sorted(values, key=lambda one: values[one]) if empty.is_numeric else list(values)
    return Factor(
        key,
        tuple(values[one] for one in order),
        tuple(
            FactorLine(label, tuple(rows[found[one]].test_score(decision) if one in found else None for one in order))
            for label, found in lines.items()
        ),
        _mean_over_lines(
            [found for found in lines.values() if len(found) == len(order)], order, by_place, counts, decision
        ),
    )


def _point_number(place: Place) -> int:
    return place[1]


def _value_key(value: Any) -> str:
    return json.dumps(value)


def _mean_over_lines(
    whole: list[dict[str, Place]], order: list[str], by_place: RunsByPlace, counts: DrawCounts, decision: DecisionMetric
) -> tuple[Interval, ...] | None:
    """Return the mean over lines that have all values, so that every value is averaged over the same settings."""
    tests = {by_place[place][0].test for line in whole for place in line.values()}
    if len(whole) < 2 or len(tests) > 1:
        return None
    correct_means = [np.mean([_mean_correct(by_place[line[one]]) for line in whole], axis=0) for one in order]
    labels = by_place[next(iter(whole[0].values()))][0].labels
    return tuple(score_interval(correct, labels, counts(len(correct)), decision) for correct in correct_means)
