"""The answer in words: who was chosen on val, who is tied with it, and what the choice is worth on test."""

from collections.abc import Sequence

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.intervals import PairedTest
from keras_bench.evaluation.words import interval_words, oriented, p_words, percent, seen_words
from keras_bench.report.comparison import RunView


def verdict_lines(
    runs: Sequence[RunView],
    pairs: Sequence[PairedTest],
    val_pairs: Sequence[PairedTest],
    decision: DecisionMetric = DecisionMetric.TOP1,
    shared: int | None = 0,
    different_val: bool = False,
) -> list[str]:
    """Return the verdict, a sentence or two per line; every choice in it was made on val.

    Args:
        runs: one for each model, best on val first.
        pairs: the final phases of every two of them on test.
        val_pairs: the winner against each other one on val.
        decision: the metric that ranked them, and that the pairs are about.
        shared: images of val that test holds too, or nearly, and that stay in val, in any of the runs; None: not
            known.
        different_val: whether the runs do not all have the same val images.
    """
    winner = runs[0]
    test = winner.final.test[decision]
    assert test is not None
    images = winner.final.result.metrics["test"].images
    name = winner.label.removesuffix(" (scratch)")  # the phase follows
    lines = [
        f"Best: {name} ({winner.final_phase}), chosen on val with {decision.label} {percent(winner.final.val_score)}. "
        f"On {images:,} test images {seen_words(shared)}, its {decision.label} is {percent(test)}."
    ]
    lines += _of_mixed(runs, decision)
    if different_val:
        lines.append(
            "The runs do not all have the same val images: the ranking compares averages over different images, and "
            "pairs on val are left out where the images differ."
        )
    against = [oriented(pair, winner.label) for pair in pairs if winner.label in (pair.first, pair.second)]
    lines += [_of_other(pair, decision) for pair in against]
    if against:
        lines.append(_worth(winner, against))
    cheaper = _cheaper_tie(runs, val_pairs, against)
    return lines + ([cheaper] if cheaper else [])


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
        f"{'lower' if gap.value >= 0 else 'higher'} ({interval_words(gap.negated, 'interval of the difference')}; "
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
        f"which needs {share:.1f} times fewer multiply-adds per image{'; but test shows it worse' if worse else ''}."
    )
