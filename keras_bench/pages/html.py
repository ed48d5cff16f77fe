"""The Jinja environment of every page and card, and its filters that format numbers and pictures."""

import base64
import io
import re
from collections.abc import Mapping

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from keras_bench.console import duration
from keras_bench.evaluation.records import NOT_DEFINED, Interval
from keras_bench.evaluation.words import use_of_test_sentence
from keras_bench.printable import printable


def jinja_environment() -> Environment:
    """Return the Jinja environment of every page and card: HTML is escaped, and an undefined name is an error."""
    jinja = Environment(
        loader=PackageLoader("keras_bench.pages"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    jinja.filters |= {
        "percent": percent,
        "interval": interval_html,
        "points": points,
        "number": number,
        "p": lambda value: "< 0.001" if value < 0.001 else f"{value:.3f}",
        "duration": duration,
        "decisions": use_of_test_sentence,
        "preformatted": lambda text: Markup(escape(printable(text, newlines=True))),
        "jpeg": lambda data: Markup(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"),
        "picture": lambda pixels: data_uri(pixels, "JPEG"),
    }
    jinja.globals["histogram"] = histogram
    return jinja


def histogram(sides: Mapping[int, int], bins: int = 12) -> list[tuple[str, int]]:
    """Return (range in pixels, number of images) for ranges of equal width, leaving out empty ones.

    Args:
        sides: number of images by width or height in pixels.
        bins: number of ranges at most.
    """
    low, high = min(sides), max(sides)
    width = max(1, -(-(high - low + 1) // bins))
    counts: dict[int, int] = {}
    for side, count in sides.items():
        counts[(side - low) // width] = counts.get((side - low) // width, 0) + count
    ends = {k: min(high, low + (k + 1) * width - 1) for k in counts}
    return [(f"{low + k * width} to {ends[k]}", counts[k]) for k in sorted(counts)]


def percent(share: float | None, digits: int = 1) -> str:
    """Return "72.7 %", or "—" for None."""
    return "—" if share is None else f"{100 * share:.{digits}f} %"


def interval_html(estimate: Interval | None, scale: float = 100, digits: int = 1) -> str:
    """Return a value with its interval below it, in percent by default, or "—" for None."""
    if estimate is None:
        return "—"
    ends = ", ".join(number(scale * end, digits) for end in estimate.ends) if estimate.ends else NOT_DEFINED
    return Markup('{} <span class="ends">[{}]</span>').format(number(scale * estimate.value, digits), ends)


def points(difference: Interval) -> str:
    """Return a difference in percentage points, with its sign: "+1.5 [−0.2, +3.1]"."""
    value = f"{100 * difference.value:+z.1f}".replace("-", "−")
    ends = difference.ends_text(form="+z.1f", between=", ").replace("-", "−")
    return Markup('{} <span class="ends">[{}]</span>').format(value, ends)


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with `digits` decimals and separated thousands, never "−0", or "—" for None."""
    return "—" if value is None else f"{value:z,.{digits}f}".replace("-", "−")


def data_uri(pixels: np.ndarray, kind: str) -> Markup:
    """Return a data URI that contains a picture.

    Args:
        pixels: uint8, (height, width, 3), RGB.
        kind: "JPEG" or "PNG".
    """
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind, **({"quality": 82} if kind == "JPEG" else {}))
    return Markup(f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}")


def code_span(text: str) -> str:
    """Return a name from the user's data as a Markdown code span, whose marks are longer than any within."""
    text = printable(" ".join(str(text).split()))
    marks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{marks} {text} {marks}" if "`" in text else f"{marks}{text}{marks}"


def _printable(value: object) -> object:
    """Return what a template shows with its unsafe characters escaped; what is marked as safe keeps its newlines."""
    if isinstance(value, Markup):
        return Markup(printable(value, newlines=True))
    return printable(value) if isinstance(value, str) else value


def markdown(text: str) -> str:
    """Return a name from the user's data as Markdown that displays it literally."""
    text = printable(" ".join(str(text).split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", text)
