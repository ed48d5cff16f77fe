"""The model card of an ensemble's bundle, in Markdown."""

from keras_bench.export.records import Verification
from keras_bench.pages.html import jinja_environment, markdown
from keras_bench.pages.provenance import Provenance


def ensemble_card(verification: Verification, verdict: str, provenance: Provenance) -> str:
    """Return the text of MODEL_CARD.md.

    Args:
        verification: verification of the bundle; its `about` lists the members.
        verdict: how the ensemble compares with its best member, in one line.
        provenance: provenance of the card.
    """
    templates = jinja_environment()
    templates.filters["md"] = markdown
    return templates.get_template("ensemble_card.md.j2").render(
        verification=verification, verdict=verdict, provenance=provenance
    )
