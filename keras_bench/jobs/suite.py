"""The verb `suite`: every model of an experiment, one after another, each in a fresh process, then the table.

A process of its own for each model, because TensorFlow does not give a finished model's memory back.
"""

import subprocess
import sys
from dataclasses import replace

from keras_bench.config import load_experiment
from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.jobs.compare import compare_runs
from keras_bench.jobs.post import time_models
from keras_bench.jobs.prepare import require_data
from keras_bench.jobs.request import Job, Request, resolve
from keras_bench.jobs.weights import OPTIONS, find_weights, missing_weights

USER_ERROR = UserError.exit_code


def run_suite(request: Request, models: list[str] | None, dry_run: bool, log: Log) -> int:
    """Run the models of an experiment and compare them; returns 0, or 1 when a model failed.

    All input is checked, and all weights are found, for every model before the first one starts. A model that
    fails does not keep the others from running.

    Args:
        request: what was asked, without a model.
        models: only these; None: all of the experiment.
        dry_run: print each model's plan instead.
        log: the screen.
    """
    experiment = load_experiment(request.experiment)
    names = models or list(experiment.models)
    jobs = [resolve(replace(request, model=name), experiment) for name in names]
    require_data(jobs[0])
    _find_all_weights(jobs, log)
    failed = []
    for number, job in enumerate(jobs):
        log.line(f"── {number + 1}/{len(jobs)} {job.backbone.name} " + "─" * 40)
        code = subprocess.run(_command(job, dry_run)).returncode
        if code == 130:
            raise KeyboardInterrupt
        if code == USER_ERROR and number == 0:
            return USER_ERROR  # the data is the same for every model: the others would say the same
        if code != 0:
            failed.append(f"{job.backbone.name} (exit code {code})")
    if dry_run:
        return 1 if failed else 0
    time_models(jobs, log)
    compare_runs(jobs[0].folder, log)
    if jobs[0].exports.is_dir():
        log.line(f"bundles: {jobs[0].exports}")
        log.line(f"next:    keras-bench predict {jobs[0].exports}/<bundle> photos/ classifies your own images")
    if failed:
        log.line(f"not finished: {', '.join(failed)}; the same command runs what is missing")
        return 1
    return 0


def _find_all_weights(jobs: list[Job], log: Log) -> None:
    missing = missing_weights(jobs)
    if not missing:
        return
    log.line("ImageNet weights that are missing here:")
    for line in missing:
        log.line(f"  {line}")
    try:
        for job in jobs:
            find_weights(job, log)
    except UserError as error:
        raise UserError(
            f"{len(missing)} files of ImageNet weights are missing and could not be downloaded: {'; '.join(missing)}. "
            f"Put them there, or use {OPTIONS}"
        ) from error


def _command(job: Job, dry_run: bool) -> list[str]:
    """Return the command line of one model's run; its comparison is left to us."""
    request = job.request
    words = [sys.executable, "-m", "keras_bench.run", "--model", job.backbone.name, "--in-suite"]
    words += ["--experiment", request.experiment, "--seed", str(request.seed), "--out", str(request.out)]
    for option, value in (("phase", request.phase), ("data", request.data), ("weights", request.weights)):
        words += [f"--{option}", str(value)] if value is not None else []
    words += ["--variant", request.variant] if request.variant else []
    for setting in request.settings:
        words += ["--set", setting]
    words += [] if request.export else ["--no-export"]
    words += ["--exports", str(request.exports)] if request.exports else []
    return words + (["--dry-run"] if dry_run else [])
