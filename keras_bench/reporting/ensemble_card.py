"""The model card of an ensemble's bundle, in Markdown."""

from typing import Any

from keras_bench.records.export import Verification
from keras_bench.reporting.model_card import markdown
from keras_bench.reporting.page import environment


def ensemble_card(verification: Verification, facts: dict[str, Any]) -> str:
    """Return MODEL_CARD.md.

    Args:
        verification: of the bundle; its `about` lists the members.
        facts: `made` (time), `version` and `verdict`.
    """
    made = environment()
    made.filters["md"] = markdown
    return made.get_template("ensemble_card.md.j2").render(verification=verification, facts=facts)
