"""Makes names from the user's data safe and short enough for a figure; HTML templates escape names themselves."""

from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

from keras_bench.printable import printable

MAX_NAME = 22


def shorten(name: str) -> str:
    """Return a class name for a tick label: its first synonym, cut to 22 characters, safe to draw."""
    return cut(name.split(",")[0] or name, MAX_NAME)


def cut(text: str, longest: int) -> str:
    """Return a text cut to at most `longest` characters, safe to draw, ending in "…" if it was cut."""
    text = printable(text)
    return plain(text if len(text) <= longest else text[: longest - 1] + "…")


def plain(text: str) -> str:
    """Return text that matplotlib draws literally: no formulas, no control characters, "□" for what its font lacks.

    Otherwise each missing character is a warning, and emoji are drawn differently from machine to machine.
    """
    available = _font_characters()
    drawable = "".join(character if ord(character) in available else "□" for character in printable(text))
    return drawable.replace("$", r"\$")


@cache
def _font_characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
