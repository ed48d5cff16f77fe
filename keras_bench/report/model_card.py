"""The model card of one run, in Markdown (after Mitchell et al., Model Cards for Model Reporting, 2019)."""

from typing import Any

from keras_bench.export.records import Verification
from keras_bench.pages.html import environment, markdown
from keras_bench.report.comparison import Comparison, RunView
from keras_bench.report.page import minority_classes

METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "macro_auc": "macro-AUC (one against rest)",
}


def model_card(
    comparison: Comparison,
    run: RunView,
    facts: dict[str, Any],
    phase: str | None = None,
    verification: Verification | None = None,
) -> str:
    """Return MODEL_CARD.md of one phase of a run.

    Args:
        comparison: gathered from the run's experiment, for its data and what it was compared with.
        run: the run.
        facts: `made` (time) and `version`.
        phase: which; None: the final one.
        verification: of the bundle that the card is for; None: the card lies in the run folder, beside model.keras.
    """
    made = environment()
    made.filters["md"] = markdown
    return made.get_template("model_card.md.j2").render(
        c=comparison,
        run=run,
        phase=phase or run.final_phase,
        view=run.phases[phase or run.final_phase],
        verification=verification,
        metrics=METRICS,
        titles=comparison.class_titles,
        minority=minority_classes(comparison),
        facts=facts,
    )
