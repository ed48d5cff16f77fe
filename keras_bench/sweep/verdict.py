"""The verdict of a sweep in words."""

from collections.abc import Sequence

from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.records import PairedTest
from keras_bench.evaluation.words import interval_words, oriented, p_words, share_words, use_of_test_clause
from keras_bench.sweep.records import SweepRow


def sweep_verdict(rows: Sequence[SweepRow], decision: DecisionMetric = DecisionMetric.TOP1) -> list[str]:
    """Return the verdict on one model's points, one or two sentences per line; the best point was chosen on val.

    Args:
        rows: the model's points, one of them the best.
        decision: the metric that chose the best point and is compared in the paired tests.
    """
    best = next(row for row in rows if row.is_best)
    seeds = f", mean of {len(best.seeds)} seeds" if len(best.seeds) > 1 else ""
    lines = [
        f"{best.model}: best on val is {best.point.label} (val {decision.label} {100 * best.val_score:.1f} %{seeds}). "
        f"On test images {use_of_test_clause(best.shared_with_val)}, its {decision.label} is "
        f"{share_words(best.test_score(decision))}."
    ]
    baseline = next((row for row in rows if row.is_baseline), None)
    if baseline is None:
        return lines
    if best.is_baseline:
        lines[0] += " It is the baseline."
    elif best.paired is not None:
        lines.append(f"Compared with the baseline {baseline.point.label}: {_gain_words(best.paired)}")
    others = [row.paired for row in rows if row.paired is not None and not row.is_best]
    if others:
        counts = {words: sum(pair.verdict() == words for pair in others) for words in ("better", "worse")}
        lines.append(
            f"The other points compared with the baseline on test: {counts['better']} better, {counts['worse']} worse, "
            f"{len(others) - sum(counts.values())} with no difference shown."
        )
    return lines


def _gain_words(pair: PairedTest) -> str:
    """Return how the second of a pair compares with the first, the baseline."""
    gap = oriented(pair, pair.second).difference
    return (
        f"{pair.verdict()} on test, {gap.value * 100:+z.1f} points ({interval_words(gap, 'interval')}; "
        f"{p_words(pair.p_holm)})."
    )
