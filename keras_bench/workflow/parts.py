"""What follows training: the table of parts, each made once per run, and told of before, while and after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keras_bench.config import Config
from keras_bench.console import Log
from keras_bench.cost.latency import LATENCY, has_accelerator, latency_finished, measure_latency
from keras_bench.cost.measure import cost_finished, measure_cost
from keras_bench.explain.run import explain_finished, explain_run
from keras_bench.export.phases import export_phases
from keras_bench.export.places import export_finished
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run


@dataclass(frozen=True)
class Part:
    """Something that is made of a finished run.

    Attributes:
        name: for people, and the name of its share in the run's time.
        is_wanted: whether the configuration asks for it.
        is_missing: whether it is still to be made for a finished run, or is of another model or other settings; needs
            no TensorFlow.
        make: makes it.
        plan: what a dry run says of it; "" where it costs next to nothing.
        in_turn: it is measured for all models of a suite in turn, once they are trained.
    """

    name: str
    is_wanted: Callable[[Config], bool]
    is_missing: Callable[[Job], bool]
    make: Callable[[Run], None]
    plan: Callable[[Job], str]
    in_turn: bool = False


def _make_bundles(run: Run) -> None:
    from keras_bench.report.write import card_writer  # draws, so it is not loaded for a plan or where nothing is to do

    export_phases(run, run.phases, card_writer(run.job, run.log))


def _plan_export(job: Job) -> str:
    eight_bits = " and an 8-bit version" if job.config.export.int8 else ""
    return f"an ONNX bundle of {' and of '.join(job.phases)}, checked on test images{eight_bits}"


def _plan_latency(job: Job) -> str:
    latency = job.config.latency
    count = (3 if job.config.export.enabled else 2) * len(latency.batch_sizes)
    return f"{count} latency measurements of at most {latency.seconds:g} s each, every one in a fresh process"


def _latency_missing(job: Job) -> bool:
    return not latency_finished([job.folder], job.config.latency)


PARTS = (
    Part(
        name="counting operations",
        is_wanted=lambda config: True,
        is_missing=lambda job: not cost_finished(job),
        make=lambda run: measure_cost(run.job),
        plan=lambda job: "",
    ),
    Part(
        name="explanations",
        is_wanted=lambda config: config.explain.enabled,
        is_missing=lambda job: not explain_finished(job),
        make=lambda run: explain_run(run),
        plan=lambda job: f"explanations of {job.config.explain.images} test images",
    ),
    Part(
        name="export",
        is_wanted=lambda config: config.export.enabled,
        is_missing=lambda job: not all(export_finished(job, phase) for phase in job.phases),
        make=_make_bundles,
        plan=_plan_export,
    ),
    Part(
        name=LATENCY,
        is_wanted=lambda config: config.latency.enabled,
        is_missing=_latency_missing,
        make=lambda run: time_models([run.job], run.log),
        plan=_plan_latency,
        in_turn=True,
    ),
)


def missing_parts(job: Job) -> list[Part]:
    """Return the parts that a run must still make itself; needs no TensorFlow."""
    own = [part for part in PARTS if not part.in_turn]
    return [part for part in own if part.is_wanted(job.config) and part.is_missing(job)]


def planned_parts(job: Job) -> list[str]:
    """Return what a dry run says of the parts; how long they take depends on the model and is not estimated."""
    return [told for part in PARTS if part.is_wanted(job.config) and (told := part.plan(job))]


def make_parts(run: Run) -> None:
    """Make the parts that a finished run lacks.

    Raises:
        ExportError: a bundle could not be made; everything else is done.
    """
    for part in missing_parts(run.job):
        with run.log.timed(part.name):
            part.make(run)


def time_models(jobs: Sequence[Job], log: Log) -> None:
    """Measure the latency of finished runs in turn, unless that is done; every figure in a process of its own."""
    settings = jobs[0].config.latency
    runs = [job.folder for job in jobs if job.folder.run.is_file()]
    if settings.enabled and runs and not latency_finished(runs, settings):
        measure_latency(runs, settings, any(has_accelerator(run) for run in runs), log)
