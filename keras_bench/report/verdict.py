"""The verdict in words: which model val chose, which models tie with it, and what the choice is worth on test."""

from collections.abc import Sequence

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.records import PairedTest
from keras_bench.evaluation.words import interval_words, oriented, p_words, share_words, use_of_test_clause
from keras_bench.report.comparison import RunView


def verdict_lines(
    runs: Sequence[RunView],
    pairs: Sequence[PairedTest],
    val_pairs: Sequence[PairedTest],
    decision: DecisionMetric = DecisionMetric.TOP1,
    shared: int | None = 0,
    different_val: bool = False,
) -> list[str]:
    """Return the verdict, one or two sentences per line; every choice in it was made on val.

    Args:
        runs: one per model, best on val first.
        pairs: paired tests of every two models' final phases on test.
        val_pairs: paired tests of the winner and every other model on val.
        decision: the metric that ranked the runs and is compared in the paired tests.
        shared: images kept in val although test has the same or nearly the same image, over all runs; None: unknown.
        different_val: whether the runs' val images differ.
    """
    winner = runs[0]
    test = winner.final.test[decision]
    assert test is not None
    images = winner.final.result.metrics["test"].images
    lines = [
        f"Best: {winner.name} ({winner.final_phase}), chosen on val with {decision.label} "
        f"{share_words(winner.final.val_score)}. "
        f"On {images:,} test images {use_of_test_clause(shared)}, its {decision.label} is {share_words(test)}."
    ]
    lines += _mixed_decisions(runs, decision)
    if different_val:
        lines.append(
            "The runs do not all have the same val images: the ranking compares averages over different images, and "
            "models with different val images are not compared on val."
        )
    winner_tests = [oriented(pair, winner.label) for pair in pairs if winner.label in (pair.first, pair.second)]
    lines += [_rival_sentence(pair, decision) for pair in winner_tests]
    if winner_tests:
        lines.append(_choice_sentence(winner, winner_tests))
    cheaper = _cheaper_tie(runs, val_pairs, winner_tests)
    return lines + ([cheaper] if cheaper else [])


def _mixed_decisions(runs: Sequence[RunView], decision: DecisionMetric) -> list[str]:
    """Return a line where the runs' final phases were chosen by different metrics, else []."""
    others = [run.label for run in runs if run.chosen_by is not decision]
    if not others:
        return []
    return [
        f"The runs used different metrics on val: {decision.label} ranks them all here, but the final phase of "
        f"{', '.join(others)} was chosen by {DecisionMetric.TOP1.label}."
    ]


def _rival_sentence(pair: PairedTest, decision: DecisionMetric) -> str:
    """Return how the second model of a pair compares with the winner on test."""
    words = {"worse": "worse than the best", "better": "better than the best on test", "no difference shown": "tied"}
    gap = pair.difference
    return (
        f"{pair.second}: {words[pair.verdict()]}. Its test {decision.label} is {abs(gap.value) * 100:.1f} points "
        f"{'lower' if gap.value >= 0 else 'higher'} ({interval_words(gap.negated, 'interval of the difference')}; "
        f"{p_words(pair.p_holm)})."
    )


def _choice_sentence(winner: RunView, winner_tests: list[PairedTest]) -> str:
    """Return whether test confirms the choice made on val."""
    better = [pair for pair in winner_tests if pair.verdict() == "better"]
    if better:
        best = min(better, key=lambda pair: pair.difference.value)
        return (
            f"What the choice on val is worth: {best.second} turned out better on test; "
            f"choosing {winner.label} costs {-best.difference.value * 100:.1f} points there."
        )
    worse = sum(pair.verdict() == "worse" for pair in winner_tests)
    if worse == len(winner_tests):
        return "What the choice on val is worth: test confirms it against every other model."
    if worse:
        return f"What the choice on val is worth: test confirms it against {worse} of {len(winner_tests)} other models."
    return "What the choice on val is worth: test shows no difference between the models; choose by cost."


def _cheaper_tie(
    runs: Sequence[RunView], val_pairs: Sequence[PairedTest], winner_tests: Sequence[PairedTest]
) -> str | None:
    """Return a line on the cheapest model that ties with the winner on val, or None where none is cheaper."""
    winner = runs[0]
    tied = {pair.second for pair in val_pairs if pair.verdict() == "no difference shown"}
    costed = [run for run in runs[1:] if run.label in tied and run.cost is not None]
    if winner.cost is None or not costed:
        return None
    cheapest = min(costed, key=lambda run: run.cost.multiply_adds if run.cost else 0)
    assert cheapest.cost is not None
    if cheapest.cost.multiply_adds >= winner.cost.multiply_adds:
        return None
    ratio = winner.cost.multiply_adds / max(1, cheapest.cost.multiply_adds)
    is_worse = any(pair.second == cheapest.label and pair.verdict() == "worse" for pair in winner_tests)
    return (
        f"Cheaper: val shows no difference between {winner.label} and {cheapest.label}, "
        f"which needs {ratio:.1f} times fewer multiply-adds per image{', but is worse on test' if is_worse else ''}."
    )
