"""What follows training: the table of parts, each made once per run and announced by a dry run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_bench.config import Config
from keras_bench.console import Log
from keras_bench.cost.cost_file import cost_finished, write_cost
from keras_bench.cost.latency import LATENCY, has_accelerator, latency_finished, measure_latency
from keras_bench.errors import memory_named
from keras_bench.explain.run import damaged_explanations, explain_finished, explain_run
from keras_bench.export.phases import export_phases
from keras_bench.export.places import damaged_exports, export_finished, phases_to_export
from keras_bench.report.outlook import Outlook, ReportPart, run_key
from keras_bench.runs.damage import damaged_files, is_unreadable
from keras_bench.runs.folders import RunDir
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run
from keras_bench.workflow.shown_images import damaged_images, images_missing, make_images


@dataclass(frozen=True)
class Part:
    """Something that is made from a finished run.

    Attributes:
        name: shown to the user, and its key in timing.json.
        is_wanted: whether the configuration asks for it.
        is_missing: whether a finished run lacks it, or has it for another model or other settings, or damaged; needs
            no TensorFlow.
        damaged: the files of it that are damaged.
        make: makes it.
        plan: its line in a dry run; "" for a part that costs next to nothing.
        in_turn: whether it is measured on all models of a suite in turn, once all are trained.
        without: options that leave it out, for a machine that has too little memory for it.
        shown_as: its name in a comparison, which says where it follows; None for a part that it does not show.
    """

    name: str
    is_wanted: Callable[[Config], bool]
    is_missing: Callable[[Job], bool]
    damaged: Callable[[Job], list[Path]]
    make: Callable[[Run], None]
    plan: Callable[[Job], str]
    in_turn: bool = False
    without: str = ""
    shown_as: ReportPart | None = None


def _make_bundles(run: Run) -> None:
    from keras_bench.report.write import card_writer  # loads Matplotlib, which a plan or a finished run does not need

    export_phases(run, phases_to_export(run.job), card_writer(run.job, run.log))


def _plan_export(job: Job) -> str:
    int8 = "; an 8-bit version is tried" if job.config.export.int8 else ""
    is_chosen = job.config.export.phases == "final" and len(job.phases) > 1
    exported = "the final phase" if is_chosen else " and of ".join(job.phases)
    return f"an ONNX bundle of {exported}, checked on test images{int8}"


def _plan_latency(job: Job) -> str:
    latency = job.config.latency
    processes = 3 if job.config.export.enabled else 2
    count = processes * len(set(latency.batch_sizes))
    return f"{count} latency measurements of at most {latency.seconds:g} s, in {processes} fresh processes"


def _latency_missing(job: Job) -> bool:
    return not latency_finished([job.folder], job.config.latency)


PARTS = (
    Part(
        name="images for the report",
        is_wanted=lambda config: True,
        is_missing=images_missing,
        damaged=damaged_images,
        make=make_images,
        plan=lambda job: "",
    ),
    Part(
        name="counting operations",
        is_wanted=lambda config: True,
        is_missing=lambda job: not cost_finished(job),
        damaged=lambda job: [job.folder.cost] if is_unreadable(job.folder.cost) else [],
        make=lambda run: write_cost(run.job),
        plan=lambda job: "",
    ),
    Part(
        name="explanations",
        is_wanted=lambda config: config.explain.enabled,
        is_missing=lambda job: not explain_finished(job),
        damaged=damaged_explanations,
        make=lambda run: explain_run(run),
        plan=lambda job: f"explanations of {job.config.explain.images} test images",
        without="--set explain.enabled=false",
        shown_as=ReportPart.EXPLANATIONS,
    ),
    Part(
        name="export",
        is_wanted=lambda config: config.export.enabled,
        is_missing=lambda job: not all(export_finished(job, phase) for phase in phases_to_export(job)),
        damaged=lambda job: [path for phase in phases_to_export(job) for path in damaged_exports(job, phase)],
        make=_make_bundles,
        plan=_plan_export,
        without="--no-export",
        shown_as=ReportPart.EXPORT,
    ),
    Part(
        name=LATENCY,
        is_wanted=lambda config: config.latency.enabled,
        is_missing=_latency_missing,
        damaged=lambda job: [job.folder.latency] if is_unreadable(job.folder.latency) else [],
        make=lambda run: measure_latencies([run.job], run.log),
        plan=_plan_latency,
        in_turn=True,
        shown_as=ReportPart.LATENCY,
    ),
)


def missing_parts(job: Job) -> list[Part]:
    """Return the parts that a run still lacks, except those measured in turn; needs no TensorFlow."""
    return [part for part in PARTS if not part.in_turn and part.is_wanted(job.config) and part.is_missing(job)]


def damaged_parts(job: Job) -> list[Path]:
    """Return the damaged files of the parts that the configuration asks for; needs no TensorFlow."""
    return [path for part in PARTS if part.is_wanted(job.config) for path in part.damaged(job)]


def planned_parts(job: Job) -> list[str]:
    """Return the dry run's line for each part; their time depends on the model and is not estimated."""
    return [line for part in PARTS if part.is_wanted(job.config) and (line := part.plan(job))]


def outlook_of(jobs: Sequence[Job], done: int) -> Outlook:
    """Return what a suite adds to its comparison after its first `done` jobs; needs no TensorFlow.

    A run or part that is absent although its job is done has failed and does not follow.
    """
    models, parts = [], {}
    for number, job in enumerate(jobs):
        is_due = number >= done
        if not job.folder.run.is_file():
            models += [job.folder.label] if is_due else []
            continue
        due = [part for part in PARTS if (is_due or part.in_turn) and part.is_wanted(job.config)]
        parts[run_key(job.folder)] = tuple(part.shown_as for part in due if part.shown_as is not None)
    return Outlook(tuple(models), parts)


def make_parts(run: Run) -> None:
    """Make the parts that a finished run lacks, except those measured in turn.

    Raises:
        ExportError: a bundle could not be made; the parts before it are done.
    """
    for part in missing_parts(run.job):
        remedy = (
            f"add {part.without} to the same command to do without; the trained phases stay" if part.without else ""
        )
        with memory_named(part.name, remedy), run.log.timed(part.name):
            part.make(run)


def measure_latencies(jobs: Sequence[Job], log: Log) -> None:
    """Measure the latencies of finished runs in turn, each in a fresh process, unless everything has been measured.

    Damaged runs are left out; they are named where they are run and where they are compared.
    """
    runs = runs_to_measure(jobs)
    if runs:
        measure_latency(runs, jobs[0].config.latency, any(has_accelerator(run) for run in runs), log)


def runs_to_measure(jobs: Sequence[Job]) -> list[RunDir]:
    """Return the finished, undamaged runs of the jobs; none if all their latencies have been measured or none shall."""
    settings = jobs[0].config.latency
    if not settings.enabled:
        return []
    runs = [job.folder for job in jobs if job.folder.run.is_file() and not damaged_files(job.folder, job.phases)]
    return runs if runs and not latency_finished(runs, settings) else []
