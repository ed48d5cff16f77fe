"""What runs import, imported once for all runs of a suite or sweep, which are forks of the process that did so.

Nothing here starts TensorFlow: its threads and devices are made in each run, when it is first used.
"""

import importlib

from keras_bench.runs.job import Job

EVERY_RUN = ("keras_bench.cli.main", "keras_bench.workflow.run")
TRAINING = ("keras_bench.training.phase", "keras_bench.report.standing", "keras_bench.cost.count", "matplotlib.pyplot")


def function_for(job: Job) -> str:
    """Return which function to call before a job is forked: a finished one needs no TensorFlow."""
    is_finished = job.folder.run.is_file()
    return f"{__name__}:{import_light.__name__ if is_finished else import_for_training.__name__}"


def import_light() -> None:
    """Import what a run needs that has nothing left to do."""
    _import(EVERY_RUN)


def import_for_training() -> None:
    """Import what a run needs that trains; not Keras if the user's settings of it need a word from each run."""
    from keras_bench.models.start import has_plain_settings, import_quietly

    _import(EVERY_RUN)
    if has_plain_settings():
        import_quietly()
        _import(TRAINING)


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        importlib.import_module(name)
