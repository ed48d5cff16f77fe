"""The answer in words: who was chosen on val, who is tied with it, and what the choice is worth on test."""

from collections.abc import Sequence

from keras_bench.records.comparison import RunView
from keras_bench.records.decision import DecisionMetric
from keras_bench.records.statistics import Interval, PairedTest
from keras_bench.records.sweep import SweepRow


def verdict_lines(
    runs: Sequence[RunView],
    pairs: Sequence[PairedTest],
    val_pairs: Sequence[PairedTest],
    decision: DecisionMetric = DecisionMetric.TOP1,
    shared: int = 0,
) -> list[str]:
    """Return the verdict, a sentence or two a line; every choice in it was made on val.

    Args:
        runs: one for each model, best on val first.
        pairs: the final phases of every two of them on test.
        val_pairs: the winner against each other one on val.
        decision: the metric that ranked them, and that the pairs are about.
        shared: images of val that test holds too, or nearly, and that were kept in val.
    """
    winner = runs[0]
    test = winner.final.test[decision]
    assert test is not None
    images = winner.final.result.metrics["test"].images
    name = winner.label.removesuffix(" (scratch)")  # the phase follows
    lines = [
        f"Best: {name} ({winner.final_phase}), chosen on val with {decision.label} {percent(winner.final.val_score)}. "
        f"On {images:,} test images {_seen_words(shared)}, its {decision.label} is {percent(test)}."
    ]
    lines += _of_mixed(runs, decision)
    against = [oriented(pair, winner.label) for pair in pairs if winner.label in (pair.first, pair.second)]
    lines += [_of_other(pair, decision) for pair in against]
    if against:
        lines.append(_worth(winner, against))
    cheaper = _cheaper_tie(runs, val_pairs, against)
    return lines + ([cheaper] if cheaper else [])


def _seen_words(shared: int) -> str:
    """Say whether decisions, which use val, have seen test images."""
    return f"that share {shared:,} with val (exact or near copies)" if shared else "no decision has seen"


def oriented(pair: PairedTest, first: str) -> PairedTest:
    """Return the pair with the given label first."""
    if pair.first == first:
        return pair
    flipped = pair.difference.negated
    return PairedTest(pair.second, pair.first, pair.only_second, pair.only_first, flipped, pair.p_value, pair.p_holm)


def _of_mixed(runs: Sequence[RunView], decision: DecisionMetric) -> list[str]:
    """Say so where the runs' final phases were chosen by different metrics."""
    others = [run.label for run in runs if run.chosen_by is not decision]
    if not others:
        return []
    return [
        f"The runs differ in what decided on val: {decision.label} ranks them all here, but the final phase of "
        f"{', '.join(others)} was chosen by {DecisionMetric.TOP1.label}."
    ]


def _of_other(pair: PairedTest, decision: DecisionMetric) -> str:
    words = {"worse": "worse than the best", "better": "better than the best on test", "no difference shown": "tied"}
    gap = pair.difference
    return (
        f"{pair.second}: {words[pair.words()]}. Its test {decision.label} is {abs(gap.value) * 100:.1f} points "
        f"{'lower' if gap.value >= 0 else 'higher'} ({_interval_words(gap.negated, 'interval of the difference')}; "
        f"{p_words(pair.p_holm)})."
    )


def _worth(winner: RunView, against: list[PairedTest]) -> str:
    better = [pair for pair in against if pair.words() == "better"]
    if better:
        best = min(better, key=lambda pair: pair.difference.value)
        return (
            f"What the choice on val is worth: {best.second} turned out better on test; "
            f"choosing {winner.label} costs {-best.difference.value * 100:.1f} points there."
        )
    worse = sum(pair.words() == "worse" for pair in against)
    if worse == len(against):
        return "What the choice on val is worth: test confirms it against every other model."
    if worse:
        return f"What the choice on val is worth: test confirms it against {worse} of {len(against)} other models."
    return "What the choice on val is worth: test shows no difference between the models; choose by cost."


def _cheaper_tie(runs: Sequence[RunView], val_pairs: Sequence[PairedTest], against: Sequence[PairedTest]) -> str | None:
    """Name the cheapest model for which val shows no difference from the winner, where it is cheaper."""
    winner = runs[0]
    tied = {pair.second for pair in val_pairs if pair.words() == "no difference shown"}
    costed = [run for run in runs[1:] if run.label in tied and run.cost is not None]
    if winner.cost is None or not costed:
        return None
    cheapest = min(costed, key=lambda run: run.cost.multiply_adds if run.cost else 0)
    assert cheapest.cost is not None
    if cheapest.cost.multiply_adds >= winner.cost.multiply_adds:
        return None
    share = winner.cost.multiply_adds / max(1, cheapest.cost.multiply_adds)
    worse = any(pair.second == cheapest.label and pair.words() == "worse" for pair in against)
    return (
        f"Cheaper: val shows no difference between {winner.label} and {cheapest.label}, "
        f"which needs {share:.1f} times fewer multiply-adds an image{'; but test shows it worse' if worse else ''}."
    )


def sweep_verdict(rows: Sequence[SweepRow], decision: DecisionMetric = DecisionMetric.TOP1) -> list[str]:
    """Return what a sweep of one model says, a sentence or two a line; the best point was chosen on val.

    Args:
        rows: of one model, one of them the best.
        decision: the metric that chose it, and that the paired tests are about.
    """
    best = next(row for row in rows if row.is_best)
    seeds = f", mean of {len(best.seeds)} seeds" if len(best.seeds) > 1 else ""
    lines = [
        f"{best.model}: best on val is {best.point.label} (val {decision.label} {100 * best.val_score:.1f} %{seeds}). "
        f"On test images {_seen_words(best.shared_with_val)}, its {decision.label} is "
        f"{percent(best.test_score(decision))}."
    ]
    baseline = next((row for row in rows if row.is_baseline), None)
    if baseline is None:
        return lines
    if best.is_baseline:
        lines[0] += " It is the baseline."
    elif best.paired is not None:
        lines.append(f"Against the baseline {baseline.point.label}: {_of_point(best.paired)}")
    others = [row.paired for row in rows if row.paired is not None and not row.is_best]
    if others:
        counts = {words: sum(pair.words() == words for pair in others) for words in ("better", "worse")}
        lines.append(
            f"The other points against the baseline on test: {counts['better']} better, {counts['worse']} worse, "
            f"{len(others) - sum(counts.values())} with no difference shown."
        )
    return lines


def _of_point(pair: PairedTest) -> str:
    """Say how the second of a pair does against the first, the baseline."""
    gap = oriented(pair, pair.second).difference
    return (
        f"{pair.words()} on test, {gap.value * 100:+z.1f} points ({_interval_words(gap, 'interval')}; "
        f"{p_words(pair.p_holm)})."
    )


def _interval_words(gap: Interval, name: str) -> str:
    """Return "95 % interval -3.0 to +1.0 points", or "interval not defined", for the interval of a difference."""
    ends = gap.ends_text(form="+z.1f")
    return f"95 % {name} {ends} points" if gap.ends else f"{name} {ends}"


def percent(interval: Interval) -> str:
    """Return "72.7 % (70.8 to 74.6)", or "72.7 % (interval not defined)"."""
    return f"{interval.value * 100:.1f} % ({'' if interval.ends else 'interval '}{interval.ends_text()})"


def p_words(p_value: float) -> str:
    """Return "p = 0.012" or "p < 0.001"."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
