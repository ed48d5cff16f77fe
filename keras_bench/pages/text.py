"""Names from data, made fit for a figure; HTML escapes its own."""

from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

MAX_NAME = 22


def shorten(name: str) -> str:
    """Return a class name that fits a tick label: the first synonym, at most 22 characters, safe to draw."""
    return cut(name.split(",")[0], MAX_NAME)


def cut(text: str, longest: int) -> str:
    """Return at most so many characters of a text, safe to draw, with "…" for what is left out."""
    return plain(text if len(text) <= longest else text[: longest - 1] + "…")


def plain(text: str) -> str:
    """Return text that matplotlib draws as it stands: no formulas, and "□" for what its font lacks.

    Without the last, each missing character is a warning, and the drawing of emoji differs from machine to machine.
    """
    known = _characters()
    drawable = "".join(character if ord(character) in known else "□" for character in text)
    return drawable.replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
