"""Runs the points of a sweep one after another, each in a process of its own, and writes one table of all of them."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.runs.data import require_data, require_folders
from keras_bench.runs.weights import weights_name
from keras_bench.sweep.plan import SweepPlan, SweepRequest, Task, corner, plan_sweep
from keras_bench.sweep.points import Dimension, SearchRange
from keras_bench.sweep.records import value_text
from keras_bench.sweep.tasks import is_finished, run_tasks
from keras_bench.workflow.launch import JobRunner, find_all_weights, run_alone
from keras_bench.workflow.parts import measure_latencies


def run_sweep(request: SweepRequest, dry_run: bool, log: Log, run: JobRunner = run_alone) -> int:
    """Run the missing runs of a sweep and write its table; returns 0, or 1 when a run failed.

    A failed run does not stop the others; a finished run is recognised by its fingerprint.

    Args:
        request: the command line.
        dry_run: only print the points and the plan of one of them.
        log: the screen.
        run: runs one job and returns its exit code.

    Raises:
        UserError: invalid input, detected before the first run.
    """
    plan = checked_plan(request)
    if dry_run:
        return _print_plan(plan, log)
    _find_weights(plan, log)
    if plan.sweep.search is not None:
        from keras_bench.sweep.search import run_search

        points, failed = run_search(plan, run, log)
    else:
        points, failed = list(plan.sweep.points), run_tasks(plan.tasks(plan.sweep.points), run, log)
    if failed is None:
        return UserError.exit_code
    tasks = plan.tasks(points) if points else []
    from keras_bench.sweep.results import write_results  # loads matplotlib, which errors and plans do not need

    timed = [task.job for task in tasks if task.job.config.latency.enabled]
    if timed:
        measure_latencies(timed, log)
    write_results(plan, points, tasks, log)
    if failed:
        log.line(f"not finished: {'; '.join(failed)}. The same command runs what is missing")
    return 1 if failed else 0


def checked_plan(request: SweepRequest) -> SweepPlan:
    """Return the plan of a sweep, with its file, its points and the required packages checked.

    Raises:
        UserError: anything the user can correct before the first run.
    """
    plan = plan_sweep(request)
    if plan.sweep.search is not None:
        from keras_bench.sweep.search import require_optuna

        require_optuna()
    return plan


def _find_weights(plan: SweepPlan, log: Log) -> None:
    """Refuse a sweep whose images or weights are missing, before its first run."""
    points = plan.sweep.points or (corner(plan),)
    jobs = [plan.job(point, model, plan.seeds[0]) for model in plan.models for point in points]
    require_data(jobs[0])
    require_folders(jobs[0])
    different = {(job.backbone.name, job.config.model.alpha, weights_name(job)): job for job in jobs}
    find_all_weights(list(different.values()), log)


def _print_plan(plan: SweepPlan, log: Log) -> int:
    """Print the points and the plan of an unfinished one."""
    search = plan.sweep.search
    if search is not None:
        space = "; ".join(f"{key} {_dimension_text(dimension)}" for key, dimension in search.space.items())
        log.line(f"{search.trials} trials by {search.method} search (seed {search.seed}) of {space}")
        log.line(f"runs: {search.trials * len(plan.seeds)}")
        job = plan.job(plan.sweep.baseline or corner(plan), plan.models[0], plan.seeds[0])
    else:
        tasks = plan.tasks(plan.sweep.points)
        log.table(_task_table(tasks))
        log.line(f"runs: {len(tasks)}")
        job = next((task.job for task in tasks if not is_finished(task.job)), tasks[0].job)
    log.line("one of them:")
    return run_alone(job, dry_run=True)


def _dimension_text(dimension: Dimension) -> str:
    if isinstance(dimension, SearchRange):
        return f"{value_text(dimension.low)} to {value_text(dimension.high)}" + (" (log)" if dimension.log else "")
    return f"among {', '.join(map(value_text, dimension))}"


def _task_table(tasks: Sequence[Task]) -> Table:
    table = Table()
    for name in ("run", "state"):
        table.add_column(name)
    for task in tasks:
        table.add_row(Text(task.name), "finished" if is_finished(task.job) else "to do")
    return table
