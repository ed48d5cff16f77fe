"""The model card of an ensemble's bundle, in Markdown."""

from typing import Any

from keras_bench.export.records import Verification
from keras_bench.pages.html import environment, markdown


def ensemble_card(verification: Verification, facts: dict[str, Any]) -> str:
    """Return MODEL_CARD.md.

    Args:
        verification: of the bundle; its `about` lists the members.
        facts: `made` (time), `version` and `verdict`.
    """
    made = environment()
    made.filters["md"] = markdown
    return made.get_template("ensemble_card.md.j2").render(verification=verification, facts=facts)
