"""A figure as markup that lives inside a page and follows its colours."""

import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def inline_svg(figure: Figure) -> str:
    """Return an <svg> element without outside references, drawn in the text colour of the page around it.

    Text stays text, so that a browser can scale, search and read it; black lines become `currentColor`. Names were
    escaped by matplotlib's writer.
    """
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "keras-bench", "legend.frameon": False}):
        figure.savefig(stream, format="svg", transparent=True, metadata=_NO_METADATA)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same names in every figure would not be unique in one page
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("#000000", "currentColor")
