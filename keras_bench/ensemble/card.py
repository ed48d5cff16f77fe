"""The model card of an ensemble's bundle, in Markdown."""

from keras_bench.export.records import Verification
from keras_bench.pages.html import environment, markdown
from keras_bench.pages.provenance import Provenance


def ensemble_card(verification: Verification, verdict: str, provenance: Provenance) -> str:
    """Return MODEL_CARD.md.

    Args:
        verification: of the bundle; its `about` lists the members.
        verdict: what the ensemble gains over its members, one line.
        provenance: of the card.
    """
    made = environment()
    made.filters["md"] = markdown
    return made.get_template("ensemble_card.md.j2").render(
        verification=verification, verdict=verdict, provenance=provenance
    )
