"""The story of a suite: every model of an experiment, one after another, each in a process of its own, and their table.

The table and the page are written after each model, so that what is there can be read while the rest follows.
"""

import shlex
from dataclasses import replace

from keras_bench.config import load_experiment
from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.report.memory import ReportMemory
from keras_bench.runs.data import require_data, require_folders
from keras_bench.runs.job import Request, resolve
from keras_bench.workflow.compare import compare_runs, compare_so_far
from keras_bench.workflow.launch import describe_exit, find_all_weights, run_alone, run_each
from keras_bench.workflow.parts import measure_latencies, outlook_of


def run_suite(request: Request, models: list[str] | None, dry_run: bool, log: Log) -> int:
    """Run the models of an experiment and compare them.

    The input of every model is checked and its weights are found before the first one starts. The others still run
    when one fails.

    Args:
        request: the request of every run but for its model.
        models: names of the models to run; None for all of the experiment.
        dry_run: print the plan of each model instead.
        log: the screen.

    Returns:
        the exit code: 0; 1 if a model failed; 2 if the images, which all models share, are not as expected.

    Raises:
        UserError: the input is wrong, or weights are missing.
    """
    experiment = load_experiment(request.experiment)
    names = models or list(experiment.models)
    jobs = [resolve(replace(request, model=name), experiment) for name in names]
    require_data(jobs[0])
    require_folders(jobs[0])
    find_all_weights(jobs, log)
    memory = ReportMemory()

    def compare(number: int) -> None:
        compare_so_far(jobs[0].experiment_folder, outlook_of(jobs, number), log, memory)

    codes = run_each(jobs, names, lambda job: run_alone(job, dry_run), log, None if dry_run else compare)
    if codes[0] == UserError.exit_code:
        return UserError.exit_code
    failed = [f"{name} ({describe_exit(code)})" for name, code in zip(names, codes, strict=True) if code != 0]
    if dry_run:
        return 1 if failed else 0
    measure_latencies(jobs, log)
    compare_runs(jobs[0].experiment_folder, log, memory)
    if jobs[0].exports.is_dir():
        log.line(f"bundles: {jobs[0].exports}")
        bundle = f"{shlex.quote(str(jobs[0].exports))}/<bundle>"
        log.line(f"next:    keras-bench predict {bundle} photos/ classifies your own images")
    if failed:
        log.line(f"not finished: {', '.join(failed)}; the same command runs what is missing")
        return 1
    return 0
