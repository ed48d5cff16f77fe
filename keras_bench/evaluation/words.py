"""Intervals and tests in words."""

from keras_bench.evaluation.intervals import Interval, PairedTest


def oriented(pair: PairedTest, first: str) -> PairedTest:
    """Return the pair with the given label first."""
    if pair.first == first:
        return pair
    flipped = pair.difference.negated
    return PairedTest(pair.second, pair.first, pair.only_second, pair.only_first, flipped, pair.p_value, pair.p_holm)


def percent(interval: Interval) -> str:
    """Return "72.7 % (70.8 to 74.6)", or "72.7 % (interval not defined)"."""
    return f"{interval.value * 100:.1f} % ({'' if interval.ends else 'interval '}{interval.ends_text()})"


def p_words(p_value: float) -> str:
    """Return "p = 0.012" or "p < 0.001"."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def seen_words(shared: int | None) -> str:
    """Say of test images whether decisions, which use val, have seen some; None: not known."""
    if shared is None:
        return "(it is not known whether decisions saw some of them)"
    return f"that share {shared:,} with val (exact, near or look-alike)" if shared else "no decision has seen"


def decisions_words(shared: int | None) -> str:
    """Say the same in a sentence of its own."""
    if shared is None:
        return "It is not known whether decisions saw some of the test images."
    if not shared:
        return "No decision used test."
    return f"Decisions used val, which shares {shared:,} images with test (exact, near or look-alike)."


def interval_words(gap: Interval, name: str) -> str:
    """Return "95 % interval -3.0 to +1.0 points", or "interval not defined", for the interval of a difference."""
    ends = gap.ends_text(form="+z.1f")
    return f"95 % {name} {ends} points" if gap.ends else f"{name} {ends}"
