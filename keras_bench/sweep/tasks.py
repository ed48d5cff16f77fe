"""Runs the points of a sweep one after another, and says what the rest of them will take."""

from collections import defaultdict
from collections.abc import Sequence

from keras_bench.config import DatasetConfig
from keras_bench.console import Log, duration
from keras_bench.errors import UserError
from keras_bench.files import write_bytes
from keras_bench.reading import read_json, read_record
from keras_bench.runs.fingerprint import finished_phases, phase_inputs
from keras_bench.runs.job import Job
from keras_bench.runs.weights import find_weights
from keras_bench.sweep.plan import Task
from keras_bench.workflow.launch import JobRunner, run_each
from keras_bench.workflow.parts import missing_parts


class PointRunner:
    """Runs the job of a point in a fresh process, unless it is finished and all it depends on is the same.

    What the data is now, only a process that opens it finds out. So the first job always gets one; what it found
    holds for the others that read the same images, and spares them a process that would do nothing.

    Args:
        run: runs one job and returns its exit code.
        log: the screen.
    """

    def __init__(self, run: JobRunner, log: Log) -> None:
        self.run = run
        self.log = log
        self.done: list[Job] = []
        self.data: dict[DatasetConfig, str] = {}  # fingerprint of the images by what selects them

    def __call__(self, job: Job) -> int:
        """Return the exit code."""
        if self._is_current(job):
            self.log.line("finished before with the same settings")
            return 0
        self._lend_audit(job)
        code = self.run(job)
        if code == 0:
            self.done.append(job)
            self.data[_image_settings(job)] = read_json(job.folder.dataset)["fingerprint"]
        return code

    def _is_current(self, job: Job) -> bool:
        """Return whether nothing is left to do; where a setting changed, the process of the job says which."""
        data = self.data.get(_image_settings(job))
        if data is None or not is_finished(job) or missing_parts(job):
            return False
        weights = find_weights(job, self.log).fingerprint
        try:
            return len(finished_phases(job, {p: phase_inputs(job, p, data, weights) for p in job.phases})) > 0
        except UserError:
            return False

    def _lend_audit(self, job: Job) -> None:
        """Copy the audit of the same images from another point: looking for duplicates can take as long as training.

        An audit names the data it is of, so where the images turn out to be others it is made anew.
        """
        lenders = [
            one.experiment_folder
            for one in self.done
            if _image_settings(one) == _image_settings(job) and one.experiment_folder.audit.is_file()
        ]
        if lenders and not job.experiment_folder.audit.is_file():
            with job.experiment_folder.lock_audit(self.log):
                if not job.experiment_folder.audit.is_file():
                    write_bytes(job.experiment_folder.audit, lenders[0].audit.read_bytes())


def _image_settings(job: Job) -> DatasetConfig:
    """Return what decides which images a job reads and how they are split."""
    return job.config.dataset.model_copy(update={"image_size": None})


def is_finished(job: Job) -> bool:
    """Return whether a run has finished every phase the sweep asks for."""
    return job.folder.run.is_file() and all(job.folder.result(phase).is_file() for phase in job.phases)


def run_tasks(tasks: Sequence[Task], run: JobRunner, log: Log) -> list[str] | None:
    """Run all tasks; returns what failed, or None where the very first was refused its input."""
    jobs = [task.job for task in tasks]
    before = [is_finished(job) for job in jobs]
    log.line(f"runs: {len(jobs)}" + (f", of which {sum(before)} finished before" if any(before) else ""))

    def tell() -> None:
        done = [job for job in jobs if is_finished(job)]
        tell_rest(done, [job.backbone.name for job in jobs if job not in done], log)

    tell()
    codes = run_each(
        jobs,
        [task.name for task in tasks],
        PointRunner(run, log),
        log,
        lambda number: None if before[number - 1] else tell(),
    )
    if codes == [UserError.exit_code]:
        return None
    return [f"{task.name} (exit code {code})" for task, code in zip(tasks, codes, strict=True) if code != 0]


def tell_rest(finished: Sequence[Job], left: Sequence[str], log: Log) -> None:
    """Say what the runs that are left will take, as `expected_seconds` has it; nothing where that is not known."""
    seconds = expected_seconds(finished, left)
    if left and seconds is not None:
        log.line(f"runs left: {len(left)}, about {duration(seconds)}, going by the finished ones")


def expected_seconds(finished: Sequence[Job], left: Sequence[str]) -> float | None:
    """Return how long runs of some models will take: each the mean of its model's finished runs, else of all.

    Args:
        finished: finished runs; those whose time was not kept do not count.
        left: the model of each run that is left.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    for job in finished:
        if job.folder.timing.is_file():
            seconds[job.backbone.name].append(read_record(job.folder.timing, lambda parts: float(parts["seconds"])))
    every = [value for values in seconds.values() for value in values]
    if not every:
        return None
    means = [seconds.get(model) or every for model in left]
    return sum(sum(values) / len(values) for values in means)
