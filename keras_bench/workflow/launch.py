"""Runs jobs one after another, each in a process of its own, since TensorFlow keeps the memory of finished models."""

import json
import signal
import sys
from collections.abc import Callable, Sequence

from keras_bench.config.load import flatten
from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.forks import run_forked
from keras_bench.processes import SIGNALS, Interrupted, run_child
from keras_bench.runs.job import Job
from keras_bench.runs.memory import smaller_batch
from keras_bench.runs.weights import (
    OPTIONS,
    find_weights,
    find_whole_weights,
    missing_weights,
    offer_of_other_sizes,
    weights_name,
)
from keras_bench.workflow.warm import function_for

JobRunner = Callable[[Job], int]

RUN_MODULE = "keras_bench.run"
KILLED = (-9, 137)  # SIGKILL, as Python and as shells report it


def run_each(
    jobs: Sequence[Job], names: Sequence[str], run: JobRunner, log: Log, after: Callable[[int], None] | None = None
) -> list[int]:
    """Run jobs in turn and return their exit codes; the others still run when one fails.

    The exception: when the first job ends with a user error (exit code 2), the others are not started and the list
    holds that one code. Each job's own input was checked before, so only input that all share, such as the images, can
    still be wrong, and every job would stop with the same message.

    Args:
        jobs: at least one.
        names: name of each job for the screen.
        run: runs a job and returns its exit code.
        log: the screen.
        after: called after each job with the number of jobs run so far.

    Raises:
        KeyboardInterrupt: the user stopped it.
    """
    codes = []
    for number, (job, name) in enumerate(zip(jobs, names, strict=True), start=1):
        log.line(f"── {number}/{len(jobs)} {name} " + "─" * 40)
        codes.append(run(job))
        warn_of_kill(job, name, codes[-1], log)
        if codes == [UserError.exit_code]:
            break
        if after is not None:
            after(number)
    return codes


def warn_of_kill(job: Job, name: str, code: int, log: Log) -> None:
    """Say what to do if the system killed a job's process, which it does when memory runs out."""
    if code in KILLED:
        log.warn(f"{name} was {describe_exit(code)}; {smaller_batch(job, others=True)}")


def describe_exit(code: int) -> str:
    """Return in words how a process ended that did not succeed."""
    if code in KILLED:
        return "killed by the system, most likely because memory ran out"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}"


def run_alone(job: Job, dry_run: bool = False) -> int:
    """Run one job in a process of its own and return its exit code.

    Where that is safe, it is a fork of a process that has imported TensorFlow but not started it, and is then spared
    the imports; results are the same to the bit.

    Raises:
        KeyboardInterrupt: the user stopped it.
    """
    command = run_command(job, dry_run)
    code = run_forked(RUN_MODULE, command[3:], function_for(job)) if command[2] == RUN_MODULE else None
    if code is None:
        code = run_child(command).returncode
    if code - 128 in SIGNALS:
        raise Interrupted(code - 128)
    return code


def run_command(job: Job, dry_run: bool = False) -> list[str]:
    """Return the command line that runs one job, without the comparison, which follows once all have run."""
    request = job.request
    command = [sys.executable, "-m", RUN_MODULE, "--model", job.backbone.name, "--in-suite"]
    command += ["--experiment", request.experiment, "--seed", str(request.seed), "--out", str(request.out)]
    for option, argument in (("phase", request.phase), ("data", request.data), ("weights", request.weights)):
        command += [f"--{option}", str(argument)] if argument is not None else []
    command += ["--variant", request.variant] if request.variant else []
    for layer in request.layers:
        for key, value in flatten(layer.tree).items():
            command += ["--set", f"{key}={json.dumps(value, ensure_ascii=False)}"]
    for setting in request.settings:
        command += ["--set", setting]
    command += [] if request.export else ["--no-export"]
    command += ["--exports", str(request.exports)] if request.exports else []
    return command + (["--dry-run"] if dry_run else [])


def find_all_weights(jobs: Sequence[Job], log: Log) -> None:
    """Find or download the weights of all jobs, and read each file to its end, before the first job starts.

    Those of another run are left to each job, since an earlier job may still make them.

    Raises:
        UserError: some are missing and could not be downloaded, and the message names all of them; or one is damaged.
    """
    _download_missing(jobs, log)
    files: dict[tuple[object, ...], Job] = {}
    for job in jobs:
        weights = job.config.model.weights
        if weights != "none" and not weights.startswith("run:"):
            name = (job.backbone.name, job.config.model.alpha) if weights == "imagenet" else ()
            files[weights_name(job), *name] = job
    for job in files.values():
        find_whole_weights(job, log)


def _download_missing(jobs: Sequence[Job], log: Log) -> None:
    missing = list(dict.fromkeys(missing_weights(list(jobs))))
    if not missing:
        return
    log.line("missing ImageNet weights:")
    for name in missing:
        log.line(f"  {name}")
    try:
        for job in jobs:
            find_weights(job, log)
    except UserError as error:
        raise UserError(
            f"{len(missing)} files of ImageNet weights are missing and could not be downloaded: {'; '.join(missing)}. "
            f"Put the files there, or use {OPTIONS}{offer_of_other_sizes(jobs)}"
        ) from error
