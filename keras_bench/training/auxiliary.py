"""InceptionV3's auxiliary classifier in training, where one is asked for; the kept weights are without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_bench.models.auxiliary import trains_before, with_auxiliary
from keras_bench.training.fit import set_trainable

if TYPE_CHECKING:
    import keras

    from keras_bench.runs.run import Run
    from keras_bench.training.fit import FitPlan


def with_asked_auxiliary(run: Run, plan: FitPlan, model: keras.Model, part: keras.Model) -> keras.Model:
    """Return what a phase fits: the part itself, or with the auxiliary classifier where that is asked for and helps.

    Args:
        run: at work; its log is told what becomes of an auxiliary classifier that was asked for.
        plan: of the phase; says what trains.
        model: the whole model.
        part: the model itself, or what lies behind its frozen part.
    """
    settings, layer = run.config.model, run.job.backbone.auxiliary_layer
    if not settings.auxiliary_weight:
        return part
    set_trainable(model, plan)
    if not trains_before(model, layer):
        run.log.line(f"{plan.phase}: without the auxiliary classifier; nothing up to {layer} trains, so it cannot help")
        return part
    fitted = with_auxiliary(part, layer, settings.auxiliary_weight, settings.batch_norm_momentum)
    own = fitted.count_params() - part.count_params()
    run.log.line(
        f"{plan.phase}: with an auxiliary classifier behind {layer}, weight {settings.auxiliary_weight:g}; "
        f"its {own:,} parameters train and are not kept"
    )
    return fitted
