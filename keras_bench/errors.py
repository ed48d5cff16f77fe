"""Errors whose messages are written for the user, and helpers to word them."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

MAX_LISTED_NAMES = 25
MAX_QUOTED = 100  # characters of a value that a message quotes


class UserError(Exception):
    """A problem that the user can fix; the command line prints the message, one line, and exits with 2.

    The message says what is wrong, what was expected, what was received and what to do.
    """

    exit_code = 2


class DamagedFileError(UserError):
    """A file that keras-bench wrote is missing, or not as it was written."""


class RunError(Exception):
    """A failure despite valid input; exit code 1."""

    exit_code = 1


class LostResultError(RunError):
    """Results of a finished run are missing or damaged, and cannot be made again without training."""


class ExportError(RunError):
    """A bundle could not be made or disagrees with Keras; its run is finished all the same."""


class OutOfMemoryError(RunError):
    """Memory ran out.

    Attributes:
        where: what was being done, e.g. "evaluation of phase tl".
        remedy: what to do, without the end of a sentence; "" if that is not known yet.
    """

    def __init__(self, where: str, remedy: str = "") -> None:
        super().__init__(f"out of memory in {where}{f'; {remedy}' if remedy else ''}")
        self.where, self.remedy = where, remedy


# In the text of errors of TensorFlow, XLA, ONNX Runtime and C++, and of Python's where TensorFlow has called Python.
_OUT_OF_MEMORY = (
    *("OOM when allocating", "RESOURCE_EXHAUSTED", "Out of memory", "bad_alloc", "MemoryError"),
    "ailed to allocate memory",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error of any library, or its cause, means that memory ran out."""
    while error is not None:
        text = str(error)
        is_named = isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
        if is_named or any(words in text for words in _OUT_OF_MEMORY):
            return "No space left" not in text  # TensorFlow has one name for a full disk and a full memory
        error = error.__cause__
    return False


@contextmanager
def memory_named(where: str, remedy: str = "") -> Iterator[None]:
    """Raise OutOfMemoryError, which says where and what to do, if memory runs out in the block."""
    try:
        yield
    except (OutOfMemoryError, UserError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemoryError(where, remedy) from error
        raise


def one_line(error: Exception | str, limit: int | None = 200) -> str:
    """Return what an error says as one line, for a message that quotes it.

    Args:
        error: an exception, or its text. An exception without text is named by its class.
        limit: the most characters; None for all of them.
    """
    text = " ".join(str(error).split())
    return text[:limit] if text or isinstance(error, str) else type(error).__name__


def quoted(value: object, limit: int = MAX_QUOTED) -> str:
    """Return how Python writes a value, on one line and cut to `limit` characters, for a message that quotes it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integers of more than 4,300 digits
        kind = "an integer" if isinstance(value, int) else "a value that holds an integer"
        return f"{kind} with too many digits to show"
    return shortened(text, limit)


def shortened(text: str, limit: int = MAX_QUOTED) -> str:
    """Return a text on one line, cut to `limit` characters, ending in "…" where something was cut off."""
    kept = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in kept)


def name_text(name: object) -> str:
    """Return a name from a file on one line and cut to `MAX_QUOTED` characters; it may be any value that YAML has."""
    return shortened(name) if isinstance(name, str) else quoted(name)


def nearest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to `limit` names of `known` that resemble `name`, most similar first, ignoring case."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.5)
    return [by_lower[match] for match in matches]


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the error text "unknown KIND 'NAME'; did you mean …? Known: …".

    Where there is a suggestion, a list of more than 25 known names is left out.
    """
    names = list(known)
    suggestions = nearest(shortened(name), names)
    if suggestions and len(names) > MAX_LISTED_NAMES:
        return f"unknown {kind} {quoted(name)}; did you mean {' or '.join(map(repr, suggestions))}?"
    hint = f"; did you mean {' or '.join(map(repr, suggestions))}?" if suggestions else "."
    return f"unknown {kind} {quoted(name)}{hint} Known: {', '.join(names)}"
