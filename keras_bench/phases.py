"""The phases a model is trained in. Nothing heavy is imported: the command line offers them."""

from typing import Literal, get_args

from keras_bench.errors import quoted

# From random weights; the new head alone; then the head with the unfrozen blocks. In the order they are shown and, of
# one run, trained.
Phase = Literal["scratch", "tl", "ft"]
PHASES: tuple[Phase, ...] = get_args(Phase)


def phases_until(last: Phase) -> tuple[Phase, ...]:
    """Return the phases of a run that ends with `last`, in order: fine-tuning continues what transfer learning left."""
    return ("tl", "ft") if last == "ft" else (last,)


def as_phase(value: object) -> Phase:
    """Return a value that came from outside as the phase it names.

    Raises:
        ValueError: it names none.
    """
    for phase in PHASES:
        if value == phase:
            return phase
    raise ValueError(f"expected one of {', '.join(PHASES)}, received {quoted(value)}")
