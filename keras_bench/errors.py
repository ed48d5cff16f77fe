"""Errors that are written for the person at the keyboard, and the sentence helpers they share."""

import difflib
from collections.abc import Iterable

MANY_NAMES = 25


class UserError(Exception):
    """Something the user can put right; the command line prints its one line and exits with 2.

    The message says what was wrong, what was expected, what was received and what to do.
    """

    exit_code = 2


class RunError(Exception):
    """Work that could not be finished although the input was acceptable; exit code 1."""

    exit_code = 1


class ExportError(RunError):
    """A bundle that could not be made or did not agree with Keras; the run it is of is finished."""


def one_line(error: Exception | str, limit: int | None = 200) -> str:
    """Return what an error says as one line, for a message that quotes it.

    Args:
        error: an exception, or its text. An exception without text is named by its class.
        limit: the most characters; None for all of them.
    """
    text = " ".join(str(error).split())
    return text[:limit] if text or isinstance(error, str) else type(error).__name__


def nearest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to `limit` names of `known` that look like `name`, best first, ignoring case."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.5)
    return [by_lower[match] for match in close]


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return "unknown KIND 'NAME'; did you mean …? Known: …" for an error message; long lists are left out."""
    names = list(known)
    close = nearest(name, names)
    if close and len(names) > MANY_NAMES:
        return f"unknown {kind} {name!r}; did you mean {' or '.join(repr(match) for match in close)}?"
    hint = f"; did you mean {' or '.join(repr(match) for match in close)}?" if close else "."
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(names)}"
