"""Runs the points of a sweep one after another, and estimates how long the remaining ones will take."""

from collections import defaultdict
from collections.abc import Sequence

from keras_bench.config import DatasetConfig
from keras_bench.console import Log, duration
from keras_bench.errors import LostResultError, UserError
from keras_bench.files import write_bytes
from keras_bench.reading import read_intact, read_json
from keras_bench.runs.damage import damaged_files
from keras_bench.runs.fingerprint import finished_phases, phase_inputs
from keras_bench.runs.job import Job
from keras_bench.runs.weights import find_weights
from keras_bench.sweep.plan import Task
from keras_bench.workflow.launch import JobRunner, describe_exit, run_each
from keras_bench.workflow.parts import missing_parts


class PointRunner:
    """Runs the job of a point in a process of its own, unless it is finished and everything it depends on is unchanged.

    Only a process that opens the data learns its fingerprint, so the first job always gets one. Its fingerprint holds
    for all jobs that read the same images, and spares the finished ones a process that would do nothing.

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
        """Return whether nothing is left to do; if a setting changed, the job's own process reports which."""
        data = self.data.get(_image_settings(job))
        if data is None or not is_finished(job) or missing_parts(job) or damaged_files(job.folder, job.phases):
            return False
        weights = find_weights(job, self.log).fingerprint
        try:
            return len(finished_phases(job, {p: phase_inputs(job, p, data, weights) for p in job.phases})) > 0
        except (UserError, LostResultError):
            return False

    def _lend_audit(self, job: Job) -> None:
        """Copy the audit of the same images from another point: finding duplicates can take as long as training.

        An audit records the fingerprint of its data, so it is rebuilt if the images turn out to be different.
        """
        lenders = [
            done.experiment_folder
            for done in self.done
            if _image_settings(done) == _image_settings(job) and done.experiment_folder.audit.is_file()
        ]
        if lenders and not job.experiment_folder.audit.is_file():
            with job.experiment_folder.lock_audit(self.log):
                if not job.experiment_folder.audit.is_file():
                    write_bytes(job.experiment_folder.audit, lenders[0].audit.read_bytes())


def _image_settings(job: Job) -> DatasetConfig:
    """Return the settings that determine which images a job reads and how they are split."""
    return job.config.dataset.model_copy(update={"image_size": None})


def is_finished(job: Job) -> bool:
    """Return whether a run has finished every phase that the sweep trains."""
    return job.folder.run.is_file() and all(job.folder.result(phase).is_file() for phase in job.phases)


def run_tasks(tasks: Sequence[Task], run: JobRunner, log: Log) -> list[str] | None:
    """Run all tasks and return the failed ones, or None where the very first run refused its input."""
    jobs = [task.job for task in tasks]
    finished_before = [is_finished(job) for job in jobs]
    count = sum(finished_before)
    log.line(f"runs: {len(jobs)}" + (f", of which {count} finished before" if count else ""))

    def report_remaining() -> None:
        finished = [job for job in jobs if is_finished(job)]
        log_remaining_time(finished, [job.backbone.name for job in jobs if job not in finished], log)

    report_remaining()
    codes = run_each(
        jobs,
        [task.name for task in tasks],
        PointRunner(run, log),
        log,
        lambda number: None if finished_before[number - 1] else report_remaining(),
    )
    if codes == [UserError.exit_code]:
        return None
    return [f"{task.name} ({describe_exit(code)})" for task, code in zip(tasks, codes, strict=True) if code != 0]


def log_remaining_time(finished: Sequence[Job], left: Sequence[str], log: Log) -> None:
    """Print how long the remaining runs will take, as estimated by `expected_seconds`; nothing if that is unknown."""
    seconds = expected_seconds(finished, left)
    if left and seconds is not None:
        log.line(f"runs left: {len(left)}, about {duration(seconds)}, estimated from the finished ones")


def expected_seconds(finished: Sequence[Job], left: Sequence[str]) -> float | None:
    """Estimate the total time of some runs: for each the mean of its model's finished runs, or of all if it has none.

    Args:
        finished: finished runs; runs without a recorded time do not count.
        left: the model of each remaining run.

    Returns:
        Seconds, or None where no finished run has a recorded time.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    for job in finished:
        if job.folder.timing.is_file():
            spent = read_intact(job.folder.timing, lambda parts: float(parts["seconds"]))
            seconds[job.backbone.name] += [spent] if spent is not None else []
    all_seconds = [value for values in seconds.values() for value in values]
    if not all_seconds:
        return None
    samples = [seconds.get(model) or all_seconds for model in left]
    return sum(sum(values) / len(values) for values in samples)
