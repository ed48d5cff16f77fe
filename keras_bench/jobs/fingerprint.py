"""What a phase's result depends on, and whether finished work still answers the question asked."""

import json
from typing import Any

from keras_bench.errors import UserError
from keras_bench.jobs.request import Job
from keras_bench.rundir import RunDir

_SECTIONS = ("dataset", "augmentation", "model", "training")


def phase_inputs(job: Job, phase: str, data: str, weights: str) -> dict[str, Any]:
    """Return every setting and fingerprint that the result of a phase depends on, flat.

    Paths do not count, contents do; nor do settings that cannot change a result (`runtime`).

    Args:
        job: the run.
        phase: "scratch", "tl" or "ft"; ft also depends on everything tl does.
        data: fingerprint of the images.
        weights: fingerprint of the initial weights.
    """
    tree = job.config.model_dump(mode="json")
    sections = [*_SECTIONS, *(("tl", "ft") if phase == "ft" else (phase,))]
    flat = {f"{section}.{key}": value for section in sections for key, value in tree[section].items()}
    flat["dataset.image_size"] = job.image_size
    del flat["model.weights"]
    return {"model": job.backbone.name, "seed": job.request.seed, "data": data, "weights": weights, **flat}


def finished_phases(job: Job, inputs: dict[str, dict[str, Any]]) -> list[str]:
    """Return which of the job's phases have a result for the same inputs.

    Raises:
        UserError: a phase has a result, or unfinished work, for other inputs; nothing is ever overwritten.
    """
    done = []
    for phase in job.phases:
        result = job.run.read_result(phase)
        if result is not None:
            _refuse_changes(job.run, phase, "finished", result.inputs, inputs[phase])
            done.append(phase)
        else:
            for path in job.run.state(phase).glob("epoch*.json"):
                _refuse_changes(job.run, phase, "started", json.loads(path.read_text())["inputs"], inputs[phase])
    return done


def _refuse_changes(run: RunDir, phase: str, state: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    changes = [
        f"{key} was {before.get(key, 'not set')}, is now {now.get(key, 'not set')}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    if changes:
        more = f" and {len(changes) - 4} more" if len(changes) > 4 else ""
        raise UserError(
            f"{run.phase(phase)} was {state} with other settings: {'; '.join(changes[:4])}{more}. "
            "Keep both with --variant NAME or another --out, or remove that folder to start over"
        )
