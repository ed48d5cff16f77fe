"""Fits a phase, with InceptionV3's auxiliary classifier where one is asked for; the kept weights are without it."""

from dataclasses import replace
from typing import Any

from keras_bench.console import Log
from keras_bench.files import replacing
from keras_bench.runs.job import Job
from keras_bench.runs.results import FitOutcome


def fit_part(job: Job, phase: Any, model: Any, part: Any, training: Any, validation: Any, log: Log) -> FitOutcome:
    """Fit a model, or its part behind what is frozen; the whole model's weights of the best epoch are on disk then.

    Where something else than the whole model trains, its own weights go to the phase's state folder meanwhile.

    Args:
        job: the run.
        phase: what to fit.
        model: the whole model with the weights the phase starts from.
        part: the model itself, or a part that shares its layers and ends in its answer.
        training: function from the number of finished epochs to the stream of the remaining ones, for `part`.
        validation: stream of validation examples, for `part`.
        log: the screen.
    """
    from keras_bench.training.fit import fit_phase

    fitted = part_to_fit(job, phase, model, part, log)
    if fitted is model:
        return fit_phase(model, phase, job.run, training, validation, log)
    tail = job.run.tail_weights(phase.name)
    tail.parent.mkdir(parents=True, exist_ok=True)
    outcome = fit_phase(fitted, replace(phase, checkpoint=tail), job.run, training, validation, log)
    fitted.load_weights(tail)
    with replacing(job.run.best_weights(phase.name)) as path:
        model.save_weights(path)
    return outcome


def part_to_fit(job: Job, phase: Any, model: Any, part: Any, log: Log) -> Any:
    """Return what a phase fits: the part itself, or with the auxiliary classifier where that is asked for and helps.

    Args:
        job: the run.
        phase: what is to be fitted; says what trains.
        model: the whole model.
        part: the model itself, or what lies behind its frozen part.
        log: told what becomes of an auxiliary classifier that was asked for.
    """
    settings, layer = job.config.model, job.backbone.auxiliary_layer
    if not settings.auxiliary_weight:
        return part
    from keras_bench.models.auxiliary import trains_before, with_auxiliary
    from keras_bench.training.fit import set_phase_of

    set_phase_of(model, phase)
    if not trains_before(model, layer):
        log.line(f"{phase.name}: without the auxiliary classifier; nothing up to {layer} trains, so it cannot help")
        return part
    fitted = with_auxiliary(part, layer, settings.auxiliary_weight, settings.batch_norm_momentum)
    own = fitted.count_params() - part.count_params()
    log.line(
        f"{phase.name}: with an auxiliary classifier behind {layer}, weight {settings.auxiliary_weight:g}; "
        f"its {own:,} parameters train and are not kept"
    )
    return fitted
