"""A sweep whose points are drawn by Optuna (Akiba et al., KDD 2019), one after another.

Trials are kept in the sweep's folder, so a search can be stopped at any time. A trial without a value, because it was
interrupted or failed, runs again with the same settings; its run folder knows how far it was.
SQLite rather than Optuna's journal: a line that was cut off makes a whole journal unreadable.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_bench.config.decision import DecisionMetric
from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.runs.folders import sweep_folder
from keras_bench.sweep.plan import SweepPlan, corner, describe_points, inputs_of
from keras_bench.sweep.points import Dimension, Point, Search, SearchRange
from keras_bench.sweep.results import point_run
from keras_bench.sweep.tasks import PointRunner, is_finished, tell_rest
from keras_bench.workflow.launch import JobRunner

DIGITS = 4  # significant digits of a drawn number: fine enough for a setting, and short in a folder's name


def require_optuna() -> Any:
    """Return the package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("a search needs Optuna, which is not installed: pip install 'keras-bench[search]'") from error
    return optuna


class Trials:
    """The trials of one search, in a file that survives whatever stops this process.

    Args:
        study: Optuna's.
        search: how they are drawn.
        distributions: Optuna's, by key.
    """

    def __init__(self, study: Any, search: Search, distributions: dict[str, Any]) -> None:
        self.study = study
        self.search = search
        self.distributions = distributions
        self.tried: set[int] = set()

    def next(self) -> tuple[int, Point] | None:
        """Return number and point of the trial to run now, or None when there is no more.

        Trials of earlier processes come first, in their order, then new ones; each comes once.
        """
        earlier = [trial for trial in self._trials("COMPLETE", "RUNNING") if trial.number not in self.tried]
        if not earlier and len(self.tried) >= self.search.trials:
            return None
        trial = earlier[0] if earlier else self._ask()
        self.tried.add(trial.number)
        return trial.number, self._point(trial)

    def tell(self, number: int, value: float) -> None:
        """Keep the value of a trial, unless it has one."""
        if self.study.trials[number].state.name == "RUNNING":
            self.study.tell(number, value)

    def points(self) -> list[Point]:
        """Return the different points that were drawn, those of failed trials too, in the order of the draw."""
        found = [self._point(trial) for trial in self._trials("COMPLETE", "RUNNING")]
        return [point for place, point in enumerate(found) if point not in found[:place]]

    def count(self) -> int:
        """Return how many trials have a value."""
        return len(self._trials("COMPLETE"))

    def _ask(self) -> Any:
        # A sampler that began anew after an interruption would draw what it drew before, so each trial has its seed.
        number = len(self.study.trials)
        seed = int(np.random.SeedSequence([self.search.seed, number]).generate_state(1)[0])
        samplers = require_optuna().samplers
        sampler = samplers.RandomSampler if self.search.method == "random" else samplers.TPESampler
        self.study.sampler = sampler(seed=seed)
        return self.study.ask(self.distributions)

    def _trials(self, *states: str) -> list[Any]:
        """Return trials in some states; one that was cut off while it was drawn has no point and does not count."""
        wanted = set(self.search.space)
        return [trial for trial in self.study.trials if trial.state.name in states and set(trial.params) == wanted]

    def _point(self, trial: Any) -> Point:
        return Point({key: drawn_value(within, trial.params[key]) for key, within in self.search.space.items()})


def run_search(plan: SweepPlan, run: JobRunner, log: Log) -> tuple[list[Point], list[str] | None]:
    """Run what is missing of a search; a trial's value is the mean val score of its final phases over the seeds.

    The score is top-1, or balanced accuracy where that decides within any point of the space.

    Returns:
        The points in the order of the draw, those of failed trials too; and what failed, or None where the very first
        run was refused its input.

    Raises:
        UserError: another process is at it.
    """
    failed: list[str] = []
    runner = PointRunner(run, log)
    model, decision = plan.models[0], plan.decision()
    with sweep_folder(plan.request.out, plan.sweep.name).lock_search(), open_trials(plan) as trials:
        total = trials.search.trials
        log.line(f"trials: {total}" + (f", of which {trials.count()} finished before" if trials.count() else ""))
        while (drawn := trials.next()) is not None:
            number, point = drawn
            label = describe_points([point])[0].label
            log.line(f"── trial {len(trials.tried)}/{total} {label}, {model} " + "─" * 40)
            jobs = [plan.job(point, model, seed) for seed in plan.seeds]
            finished_before = all(map(is_finished, jobs))
            codes = [runner(job) for job in jobs]
            if codes[0] == UserError.exit_code and len(trials.tried) == 1:
                return [], None
            if any(codes):
                failed.append(f"trial {len(trials.tried)}: {label} (exit code {next(filter(None, codes))})")
            else:
                trials.tell(number, float(np.mean([point_run(0, job, decision).val_score for job in jobs])))
            if not finished_before:
                tell_rest(runner.done, [model] * (total - len(trials.tried)) * len(plan.seeds), log)
        return trials.points(), failed


@contextmanager
def open_trials(plan: SweepPlan) -> Iterator[Trials]:
    """Open, or begin, the trials of exactly this search in the sweep's folder; `trials` may have been raised since."""
    optuna = require_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = plan.sweep.search
    assert search is not None
    path = sweep_folder(plan.request.out, plan.sweep.name).trials
    path.parent.mkdir(parents=True, exist_ok=True)
    # By a function of ours, since what a path may hold in an address of a database differs between versions.
    connect = {"creator": lambda: sqlite3.connect(path, check_same_thread=False)}
    storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=connect)
    try:
        study = optuna.create_study(
            storage=storage, study_name=_search_digest(plan), direction="maximize", load_if_exists=True
        )
        distributions = {key: _distribution(plan, key, within) for key, within in search.space.items()}
        if plan.sweep.baseline is not None:
            drawn = {key: encode(search.space[key], value) for key, value in plan.sweep.baseline.settings.items()}
            study.enqueue_trial(drawn, skip_if_exists=True)
        yield Trials(study, search, distributions)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _search_digest(plan: SweepPlan) -> str:
    """Return a digest of all that a search depends on but its data and how many trials it has."""
    search = plan.sweep.search
    assert search is not None
    job = plan.job(corner(plan), plan.models[0], plan.seeds[0])
    inputs = {
        phase: {key: value for key, value in settings.items() if key not in search.space}
        for phase, settings in inputs_of(job).items()
    }
    space = {key: vars(within) if isinstance(within, SearchRange) else within for key, within in search.space.items()}
    first = plan.sweep.baseline.settings if plan.sweep.baseline else None
    whole = [inputs, plan.request.weights, plan.seeds, search.method, search.seed, space, first]
    decision = plan.decision()
    whole += [] if decision is DecisionMetric.TOP1 else [decision]  # which an earlier version never went by
    return hashlib.blake2b(json.dumps(whole).encode("utf-8"), digest_size=8).hexdigest()


def _distribution(plan: SweepPlan, key: str, within: Dimension) -> Any:
    distributions = require_optuna().distributions
    if not isinstance(within, SearchRange):
        return distributions.CategoricalDistribution([json.dumps(value) for value in within])
    section, _, name = key.partition(".")
    value = getattr(getattr(plan.job(corner(plan), plan.models[0], plan.seeds[0]).config, section), name)
    if isinstance(value, int):
        return distributions.IntDistribution(int(within.low), int(within.high), log=within.log)
    return distributions.FloatDistribution(within.low, within.high, log=within.log)


def encode(within: Dimension, value: Any) -> Any:
    """Return a value as Optuna keeps it: numbers of a range as they are, others as JSON, since it takes no lists."""
    return value if isinstance(within, SearchRange) else json.dumps(value)


def drawn_value(within: Dimension, drawn: Any) -> Any:
    """Return the value that Optuna drew; numbers that are not whole have four significant digits."""
    if not isinstance(within, SearchRange):
        return json.loads(drawn)
    if isinstance(drawn, int):
        return drawn
    return min(max(float(f"{drawn:.{DIGITS}g}"), within.low), within.high)
