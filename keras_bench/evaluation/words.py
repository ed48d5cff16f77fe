"""Intervals and tests in words."""

from keras_bench.evaluation.records import Interval, PairedTest

SHARED_KINDS = "exact duplicates, near-duplicates or look-alikes"


def oriented(pair: PairedTest, first: str) -> PairedTest:
    """Return the same test with the model labelled `first` as the first."""
    if pair.first == first:
        return pair
    flipped = pair.difference.negated
    return PairedTest(pair.second, pair.first, pair.only_second, pair.only_first, flipped, pair.p_value, pair.p_holm)


def share_words(interval: Interval) -> str:
    """Return "72.7 % (70.8 to 74.6)", or "72.7 % (interval not defined)"."""
    return f"{interval.value * 100:.1f} % ({'' if interval.ends else 'interval '}{interval.ends_text()})"


def p_words(p_value: float) -> str:
    """Return "p = 0.012" or "p < 0.001"."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def use_of_test_clause(shared: int | None) -> str:
    """Return a clause to follow "test images" that says whether decisions, which use val, have used some of them.

    Args:
        shared: number of images that test shares with val; None: unknown.
    """
    if shared is None:
        return "(it is unknown whether decisions used some of them)"
    return f"that share {_count_of_images(shared)} with val ({SHARED_KINDS})" if shared else "that no decision has used"


def use_of_test_sentence(shared: int | None) -> str:
    """Return a sentence with the same content as `use_of_test_clause`."""
    if shared is None:
        return "It is unknown whether decisions used some of the test images."
    if not shared:
        return "No decision used test."
    return f"Decisions used val, which shares {_count_of_images(shared)} with test ({SHARED_KINDS})."


def _count_of_images(count: int) -> str:
    return f"{count:,} {'image' if count == 1 else 'images'}"


def interval_words(difference: Interval, name: str) -> str:
    """Return a difference's interval in words: "95 % interval -3.0 to +1.0 points", or "interval not defined".

    Args:
        difference: a share of the first minus the same share of the second.
        name: what the interval is called, e.g. "interval of the difference".
    """
    ends = difference.ends_text(form="+z.1f")
    return f"95 % {name} {ends} points" if difference.ends else f"{name} {ends}"
