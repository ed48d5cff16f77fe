"""Reads the finished runs of a sweep and writes its table, figures and page. No TensorFlow."""

import hashlib
from collections.abc import Sequence

from keras_bench.config.decision import DecisionMetric
from keras_bench.console import Log
from keras_bench.evaluation.predictions import Predictions
from keras_bench.files import save_figure, write_text
from keras_bench.frames import write_frame
from keras_bench.pages.provenance import Provenance
from keras_bench.reading import read_json
from keras_bench.runs.damage import damaged_files, describe, remedy
from keras_bench.runs.data import shared_of_run
from keras_bench.runs.job import Job
from keras_bench.runs.results import best_phase
from keras_bench.sweep.figures import factor_figure
from keras_bench.sweep.folder import SweepDir, sweep_folder
from keras_bench.sweep.page import captions, sweep_frame, sweep_page, sweep_table
from keras_bench.sweep.plan import SweepPlan, Task, describe_points
from keras_bench.sweep.points import Point
from keras_bench.sweep.records import PointRun, SweepTable, value_text
from keras_bench.sweep.tabulate import tabulate
from keras_bench.sweep.tasks import is_finished


def write_results(plan: SweepPlan, points: Sequence[Point], tasks: Sequence[Task], log: Log) -> None:
    """Write and print the table of all finished runs, or a line if there are none."""
    decision = plan.decision()
    folder = sweep_folder(plan.request.out, plan.sweep.name)
    with folder.lock_results(log):  # runs are read under the lock too, so the last writer has read the most
        runs = [point_run(task.number, task.job, decision) for task in tasks if _is_intact(task, log)]
        if not runs:
            log.line("no run is finished, so there is no table yet")
            return
        described = describe_points(points)
        baseline = next((number for number, point in enumerate(points) if point == plan.sweep.baseline), 0)
        heading = (plan.sweep.name, plan.sweep.title, tasks[0].job.config.name)
        table = tabulate(heading, described, runs, baseline, decision)
        _write_results(plan, table, folder)
    log.table(sweep_table(table))
    for line in [*captions(table), *table.notes, *table.verdict]:
        log.line(line)
    log.line(f"table:   {folder.results}")
    log.line(f"page:    {folder.page}")


def _is_intact(task: Task, log: Log) -> bool:
    """Return whether a run is finished and nothing that the table reads of it is damaged, after a warning if it is."""
    folder = task.job.folder
    damaged = damaged_files(folder, task.job.phases, with_models=False) if is_finished(task.job) else []
    if damaged:
        named = ", ".join(map(describe, damaged))
        log.warn(f"{task.name} is left out: {named}; {remedy(folder, damaged)}")
    return is_finished(task.job) and not damaged


def _write_results(plan: SweepPlan, table: SweepTable, folder: SweepDir) -> None:
    write_frame(folder.results, sweep_frame(table))
    figures = {
        factor.key: factor_figure(factor, f"{table.name}, test of {table.experiment}", table.decision)
        for factor in table.factors
    }
    phase = f"phase {plan.request.phase}" if plan.request.phase else "the experiment's last phase"
    shared = [f"experiment {table.experiment}", phase]
    shared += [f"{key}={value_text(value)}" for key, value in plan.shared_settings().items()]
    write_text(folder.page, sweep_page(table, figures, ", ".join(shared), Provenance.now()))
    for key, figure in figures.items():
        save_figure(figure, folder.figures / key)


def point_run(number: int, job: Job, decision: DecisionMetric = DecisionMetric.TOP1) -> PointRun:
    """Return the results of a finished run; its final phase is the best on val among the job's phases.

    Args:
        number: index of its point in the sweep.
        job: the run.
        decision: the metric that decides in the whole sweep.
    """
    results = job.folder.read_results(job.phases)
    final = best_phase(results, decision)
    test = Predictions.from_npz(job.folder.predictions(final, "test"))
    dataset = read_json(job.folder.dataset)
    digest = hashlib.blake2b(digest_size=16)
    for part in (test.ids, test.labels, test.class_names):
        digest.update(part.tobytes())
    return PointRun(
        point=number,
        model=job.backbone.name,
        seed=job.request.seed,
        phase=final,
        val_score=getattr(results[final].metrics["val"], decision),
        labels=test.labels,
        correct=test.correct,
        test=digest.hexdigest(),
        class_names=tuple(map(str, test.class_names)),
        train_images={name: counts["train"] for name, counts in dataset["images_per_class"].items()},
        seconds=sum(result.seconds for result in results.values()),
        folder=str(job.folder.root),
        shared_with_val=shared_of_run(job.folder, job.experiment_folder),
    )
