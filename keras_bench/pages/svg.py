"""Figures as inline SVG that follows the colours of the page."""

import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def inline_svg(figure: Figure) -> str:
    """Return an <svg> element without external references, drawn in the text colour of the surrounding page.

    Text stays text, so a browser can scale, search and read it aloud; black becomes `currentColor`. Matplotlib's
    writer escapes the names.
    """
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "keras-bench", "legend.frameon": False}):
        figure.savefig(stream, format="svg", transparent=True, metadata=_NO_METADATA)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # every figure has the same ids, which must be unique within a page
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("#000000", "currentColor")
