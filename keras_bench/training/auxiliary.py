"""InceptionV3's auxiliary classifier: used in training if the configuration asks for it, never saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_bench.models.auxiliary import trains_before, with_auxiliary
from keras_bench.training.fit import set_trainable

if TYPE_CHECKING:
    import keras

    from keras_bench.runs.run import Run
    from keras_bench.training.fit import FitPlan


def with_requested_auxiliary(run: Run, plan: FitPlan, model: keras.Model, trained: keras.Model) -> keras.Model:
    """Return the model to train, with the auxiliary classifier if that is requested and can help.

    Whether a requested classifier is used is printed.

    Args:
        run: the run.
        plan: plan of the phase; it decides which layers train.
        model: the whole model.
        trained: the whole model, or the layers after its frozen part.
    """
    settings, layer = run.config.model, run.job.backbone.auxiliary_layer
    if not settings.auxiliary_weight:
        return trained
    set_trainable(model, plan)
    if not trains_before(model, layer):
        run.log.line(f"{plan.phase}: without the auxiliary classifier; nothing up to {layer} trains, so it cannot help")
        return trained
    extended = with_auxiliary(trained, layer, settings.auxiliary_weight, settings.batch_norm_momentum)
    added = extended.count_params() - trained.count_params()
    run.log.line(
        f"{plan.phase}: with an auxiliary classifier after {layer}, weight {settings.auxiliary_weight:g}; "
        f"its {added:,} parameters train and are not kept"
    )
    return extended
