"""The inputs that determine a phase's result, and whether finished work matches the current settings."""

from collections.abc import Mapping
from contextlib import suppress

from keras_bench.config import Config
from keras_bench.config.former import current_names
from keras_bench.errors import DamagedFileError, UserError
from keras_bench.phases import PHASES, Phase, phases_until
from keras_bench.reading import read_record
from keras_bench.runs.damage import lost_results, refuse_lost
from keras_bench.runs.job import Job

_SECTIONS = ("dataset", "augmentation", "model", "training")

# Behaviour from before a setting existed, if it differs from the setting's default.
EARLIER_BEHAVIOUR = {
    "dataset.remove_leaked": "none",
    "tl.features": "streamed",
    "model.last_norm": "before pooling",  # of ConvNeXt; no setting
    "training.early_stopping_monitor": "val_cross_entropy",
    "training.checkpoint_monitor": "val_top1",
}


def phase_inputs(job: Job, phase: Phase, data: str, weights: str) -> dict[str, object]:
    """Return every setting and fingerprint that the result of a phase depends on, by dotted key.

    File contents count, paths do not; nor do settings that cannot change a result (`runtime`) or that only select the
    file of initial weights. Monitors and momentum are resolved, so that "auto" or null equals the value it resolves
    to.

    Args:
        job: the run's job.
        phase: which; ft also depends on everything tl does.
        data: fingerprint of the images.
        weights: fingerprint of the initial weights.
    """
    tree = job.config.model_dump(mode="json")
    phases = phases_until(phase)
    sections = (*_SECTIONS, *phases)
    flat = {f"{section}.{key}": value for section in sections for key, value in tree[section].items()}
    flat |= {f"{name}.momentum": job.config.phase(name).resolved_momentum for name in phases}
    flat["dataset.image_size"] = job.image_size
    del flat["model.weights"], flat["model.weights_size"]
    if job.backbone.family.pooled_norm:
        flat["model.last_norm"] = "after pooling"  # the same weights in another order are another network
    flat["training.early_stopping_monitor"] = job.config.training.watched_by_stopping
    flat["training.checkpoint_monitor"] = job.config.training.watched_by_checkpoint
    return {"model": job.backbone.name, "seed": job.request.seed, "data": data, "weights": weights, **flat}


def finished_phases(job: Job, inputs: Mapping[Phase, dict[str, object]]) -> list[Phase]:
    """Return the phases of a job that have a result for the same inputs.

    Raises:
        UserError: a phase has a result, or unfinished work, for other inputs, which is never overwritten.
        LostResultError: a phase was finished, but its result is damaged or missing.
    """
    refuse_lost(job.folder, lost_results(job.folder, job.phases))
    done: list[Phase] = []
    for phase in job.phases:
        result = job.folder.read_result(phase)
        if result is not None:
            _refuse_changes(job, phase, "finished", result.inputs, inputs[phase])
            done.append(phase)
        else:
            for path in job.folder.states(phase):
                with suppress(DamagedFileError):  # the phase then starts over and says why
                    started = read_record(path, lambda content: dict(content["inputs"]))
                    _refuse_changes(job, phase, "started", started, inputs[phase])
    return done


def changed_settings(
    before: Mapping[str, object], now: Mapping[str, object], defaults: Mapping[str, object]
) -> list[str]:
    """Return one line per setting whose value differs.

    A key that did not exist yet had its default value. A key that no longer exists is a change, whatever its value.

    Args:
        before: value by key, possibly written by an earlier version.
        now: value by key in this version.
        defaults: values for keys that `before` lacks; a key without a default counts as changed.
    """
    return [
        f"{key} was {_former_value(key, before, defaults)}, is now {now.get(key, 'not set')}"
        for key in {**before, **now}
        if key not in now or before.get(key, defaults.get(key, _MISSING)) != now[key]
    ]


_MISSING = object()  # equals no value, not even None


def _former_value(key: str, before: Mapping[str, object], defaults: Mapping[str, object]) -> object:
    return before[key] if key in before else f"{defaults.get(key, 'not set')} (not a setting then)"


def _defaults() -> dict[str, object]:
    """Return the value of each setting in results from before the setting existed."""
    tree = Config(name="defaults").model_dump(mode="json")
    sections = (*_SECTIONS, *PHASES)
    schema = {f"{section}.{key}": value for section in sections for key, value in tree[section].items()}
    return schema | EARLIER_BEHAVIOUR


def _refuse_changes(job: Job, phase: Phase, state: str, before: dict[str, object], now: dict[str, object]) -> None:
    former = current_names(before)
    changes = changed_settings(former, now, _defaults())
    if changes:
        more = f" and {len(changes) - 4} more" if len(changes) > 4 else ""
        other_weights = former.get("weights") != now["weights"]
        raise UserError(
            f"{job.folder.phase(phase)} was {state} with other settings: {'; '.join(changes[:4])}{more}. "
            "Keep both with --variant NAME or another --out, or remove that folder to start over"
            f"{_weights_size_hint(job) if other_weights else ''}"
        )


def _weights_size_hint(job: Job) -> str:
    """Return how to select the weights for the default size, which earlier versions used for all input sizes."""
    model, default = job.config.model, job.backbone.image_size
    sizes = job.backbone.weights_sizes(model.alpha)
    if model.weights != "imagenet" or model.weights_size != "auto" or len(sizes) < 2:
        return ""
    if job.backbone.weights_size(job.image_size, model.alpha) == default:
        return ""
    return (
        f"; earlier versions used the weights for {default} pixels for every input size: "
        f"--set model.weights_size={default}"
    )
