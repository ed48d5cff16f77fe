"""What to do when memory runs out: the batch size to try, as options to add to the same command."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from keras_bench.config import TrainingConfig
from keras_bench.errors import OutOfMemoryError
from keras_bench.phases import PHASES
from keras_bench.runs.job import Job


@contextmanager
def memory_advice(job: Job, others: bool) -> Iterator[None]:
    """Add to an OutOfMemoryError what to do, if it does not say so already.

    Args:
        job: the run.
        others: whether other runs are trained by the same command, as in a suite.
    """
    try:
        yield
    except OutOfMemoryError as error:
        if error.remedy:
            raise
        raise OutOfMemoryError(error.where, smaller_batch(job, others)) from error


def smaller_batch(job: Job, others: bool) -> str:
    """Return a sentence with the options that make the same command train with half of the batch size.

    A phase that began with another batch size is never continued or overwritten, and runs can be compared only if they
    were trained alike. So if there is such work, everything is trained again in another folder.

    Args:
        job: the run that needs less memory.
        others: whether other runs are trained by the same command, as in a suite.
    """
    training = job.config.training
    size = smaller_batch_size(training)
    if size is None:
        return (
            "a single image at a time is the least; try a smaller dataset.image_size, another model, or a machine with "
            "more memory"
        )
    options = f"--set training.batch_size={size}"
    has_work = any(job.folder.result(phase).is_file() or job.folder.states(phase) for phase in PHASES)
    if not has_work and not others:
        return f"add {options} to the same command: half of the {training.batch_size} images per step"
    out = job.request.out
    named = out if out.name not in ("", "..") else out.resolve()  # `.`, `..` and `/` have no name to extend
    other = shlex.quote(str(named.parent / f"{named.name or 'runs'}-batch-{size}"))
    reason = f", since {out} holds work with {training.batch_size}" if has_work else ""
    return (
        f"add {options} --out {other} to the same command: half of the {training.batch_size} images per step, in "
        f"another folder{reason}"
    )


def smaller_batch_size(training: TrainingConfig) -> int | None:
    """Return the largest batch size of at most half that splits into the same portions; None: there is none."""
    portions = training.accumulation_steps
    if training.portion_size < 2:
        return None
    return max(portions, training.batch_size // 2 // portions * portions)
