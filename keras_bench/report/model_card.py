"""The model card of one run, in Markdown (after Mitchell et al., Model Cards for Model Reporting, 2019)."""

from keras_bench.evaluation.metrics import METRICS, PERCENT, ShareOfImages
from keras_bench.export.records import Verification
from keras_bench.pages.html import code_span, jinja_environment, markdown
from keras_bench.pages.provenance import Provenance
from keras_bench.phases import Phase
from keras_bench.report.comparison import Comparison, RunView
from keras_bench.report.page import minority_classes

# Metrics in percent first; otherwise in the order of METRICS.
CARD_METRICS = dict(sorted(METRICS.items(), key=lambda entry: entry[1].unit is not PERCENT))


def model_card(
    comparison: Comparison,
    run: RunView,
    provenance: Provenance,
    phase: Phase | None = None,
    verification: Verification | None = None,
) -> str:
    """Return MODEL_CARD.md of one phase of a run.

    Args:
        comparison: the comparison of the run's experiment, which describes its data and the other runs.
        run: the run.
        provenance: provenance of the card.
        phase: the phase; None: the final one.
        verification: how the bundle that contains the card was verified; None for the card in the run folder.
    """
    templates = jinja_environment()
    templates.filters |= {"md": markdown, "code": code_span}
    return templates.get_template("model_card.md.j2").render(
        c=comparison,
        run=run,
        phase=phase or run.final_phase,
        view=run.phases[phase or run.final_phase],
        verification=verification,
        metrics=CARD_METRICS,
        shares=_share_metrics(),
        titles=comparison.class_titles,
        minority=minority_classes(comparison),
        provenance=provenance,
    )


def _share_metrics() -> str:
    """Return the titles of the metrics that are shares of images, in words: "Top-1 and top-5"."""
    *others, last = [metric.title for metric in METRICS.values() if isinstance(metric.estimator, ShareOfImages)]
    words = f"{', '.join(others)} and {last}"
    return words[0].upper() + words[1:]
