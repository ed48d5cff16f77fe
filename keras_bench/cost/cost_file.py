"""The file cost.json of a run: writing it, reading it, and checking that it belongs to the current final model."""

from keras_bench.cost.records import Cost
from keras_bench.download import digest_file
from keras_bench.files import write_record
from keras_bench.phases import Phase
from keras_bench.reading import read_intact, read_json
from keras_bench.runs.damage import is_unreadable
from keras_bench.runs.folders import RunDir
from keras_bench.runs.job import Job
from keras_bench.runs.weights import final_phase, require_final_phase


def write_cost(job: Job) -> None:
    """Write cost.json for the final phase's model, unless it exists already for this very model.

    Raises:
        RunError: the run is not finished, or its model has a layer that cannot be counted.
    """
    if cost_finished(job):
        return
    from keras_bench.cost.count import count_cost
    from keras_bench.models.weights import load_model

    identity = model_identity(job.folder)
    file = job.folder.model(require_final_phase(job.folder))
    cost = count_cost(load_model(file), job.image_size, file)
    write_record(job.folder.cost, {**identity, **cost.to_json()})


def cost_finished(job: Job) -> bool:
    """Return whether cost.json is intact and belongs to the current model of the final phase."""
    if not job.folder.cost.is_file() or is_unreadable(job.folder.cost) or final_phase(job.folder) is None:
        return False
    content = read_json(job.folder.cost)
    identity = model_identity(job.folder)
    return {key: content.get(key) for key in identity} == identity


def read_cost(run: RunDir) -> Cost | None:
    """Return the cost in cost.json, or None if that is missing or damaged."""
    return read_intact(run.cost, Cost.from_json)


def model_identity(run: RunDir) -> dict[str, str]:
    """Return the identity of a finished run's final model: `phase`, and `model_sha256`, the digest of its file.

    Raises:
        RunError: the run is not finished.
    """
    return file_identity(run, require_final_phase(run))


def file_identity(run: RunDir, phase: Phase) -> dict[str, str]:
    """Return `phase` and `model_sha256`, the digest of that phase's model file."""
    return {"phase": phase, "model_sha256": digest_file(run.model(phase))}
