"""A sweep whose points are drawn by Optuna (Akiba et al., KDD 2019), one after another.

Trials are kept in the sweep's folder, so a search can be stopped at any time. A trial without a value, because it was
interrupted or failed, runs again with the same settings and resumes from its run folder.
SQLite rather than Optuna's journal: one truncated line makes a whole journal unreadable.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_bench.config.decision import DecisionMetric
from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.sweep.folder import sweep_folder
from keras_bench.sweep.plan import SweepPlan, corner, describe_points, inputs_of
from keras_bench.sweep.points import Dimension, Point, Search, SearchRange
from keras_bench.sweep.results import point_run
from keras_bench.sweep.tasks import PointRunner, is_finished, log_remaining_time
from keras_bench.workflow.launch import JobRunner, describe_exit, warn_of_kill

if TYPE_CHECKING:
    from types import ModuleType

    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

DIGITS = 4  # significant digits of a drawn number: fine enough for a setting, and short in a folder's name


def require_optuna() -> ModuleType:
    """Return the Optuna package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "a search needs Optuna, which is not installed: pip install '.[search]' in a checkout, otherwise "
            "pip install 'keras-bench[search]'"
        ) from error
    return optuna


class Trials:
    """The trials of one search, in a file that survives an interruption of this process.

    Args:
        study: the Optuna study.
        search: how trials are drawn.
        distributions: Optuna distributions by key.
    """

    def __init__(self, study: optuna.Study, search: Search, distributions: dict[str, BaseDistribution]) -> None:
        self.study = study
        self.search = search
        self.distributions = distributions
        self.tried: set[int] = set()

    def next(self) -> tuple[int, Point] | None:
        """Return the number and the point of the next trial, or None when all have run.

        Trials of earlier processes come first, in their order, then new ones; each is returned once.
        """
        earlier = [trial for trial in self._trials("COMPLETE", "RUNNING") if trial.number not in self.tried]
        if not earlier and len(self.tried) >= self.search.trials:
            return None
        trial = earlier[0] if earlier else self._ask()
        self.tried.add(trial.number)
        return trial.number, self._point(trial)

    def tell(self, number: int, value: float) -> None:
        """Store the value of a trial, unless it already has one."""
        if self.study.trials[number].state.name == "RUNNING":
            self.study.tell(number, value)

    def points(self) -> list[Point]:
        """Return the distinct points in the order in which they were drawn, including those of failed trials."""
        points = [self._point(trial) for trial in self._trials("COMPLETE", "RUNNING")]
        return [point for number, point in enumerate(points) if point not in points[:number]]

    def count(self) -> int:
        """Return the number of trials that have a value."""
        return len(self._trials("COMPLETE"))

    def _ask(self) -> optuna.Trial:
        # A sampler restarted after an interruption would repeat its draws, so each trial has a seed of its own.
        number = len(self.study.trials)
        seed = int(np.random.SeedSequence([self.search.seed, number]).generate_state(1)[0])
        samplers = require_optuna().samplers
        sampler = samplers.RandomSampler if self.search.method == "random" else samplers.TPESampler
        self.study.sampler = sampler(seed=seed)
        return self.study.ask(self.distributions)

    def _trials(self, *states: str) -> list[FrozenTrial]:
        """Return the trials in some states, except trials without a point, whose drawing was interrupted."""
        keys = set(self.search.space)
        return [trial for trial in self.study.trials if trial.state.name in states and set(trial.params) == keys]

    def _point(self, trial: optuna.Trial | FrozenTrial) -> Point:
        return Point({key: drawn_value(within, trial.params[key]) for key, within in self.search.space.items()})


def run_search(plan: SweepPlan, run: JobRunner, log: Log) -> tuple[list[Point], list[str] | None]:
    """Run the missing trials of a search; a trial's value is the mean val score of its final phases over the seeds.

    The score is top-1, or balanced accuracy if it decides in any point of the space.

    Returns:
        The points in the order in which they were drawn, including those of failed trials; and the failed trials, or
        None where the very first run refused its input.

    Raises:
        UserError: another process is running the same search.
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
                failed.append(f"trial {len(trials.tried)}: {label} ({describe_exit(next(filter(None, codes)))})")
                for job, code in zip(jobs, codes, strict=True):
                    warn_of_kill(job, label, code, log)
            else:
                trials.tell(number, float(np.mean([point_run(0, job, decision).val_score for job in jobs])))
            if not finished_before:
                log_remaining_time(runner.done, [model] * (total - len(trials.tried)) * len(plan.seeds), log)
        return trials.points(), failed


@contextmanager
def open_trials(plan: SweepPlan) -> Iterator[Trials]:
    """Open or create the trials of exactly this search in the sweep's folder; the number of trials may have grown."""
    optuna = require_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = plan.sweep.search
    assert search is not None
    path = sweep_folder(plan.request.out, plan.sweep.name).trials
    path.parent.mkdir(parents=True, exist_ok=True)
    # Connected by our own function, since versions differ in which paths a database URL may contain.
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
    """Return a digest of everything that a search depends on except its data and its number of trials."""
    search = plan.sweep.search
    assert search is not None
    job = plan.job(corner(plan), plan.models[0], plan.seeds[0])
    inputs = {
        phase: {key: value for key, value in settings.items() if key not in search.space}
        for phase, settings in inputs_of(job).items()
    }
    space = {key: vars(within) if isinstance(within, SearchRange) else within for key, within in search.space.items()}
    first = plan.sweep.baseline.settings if plan.sweep.baseline else None
    identity = [inputs, plan.request.weights, plan.seeds, search.method, search.seed, space, first]
    decision = plan.decision()
    identity += [] if decision is DecisionMetric.TOP1 else [decision]  # earlier versions always decided by top-1
    return hashlib.blake2b(json.dumps(identity).encode("utf-8"), digest_size=8).hexdigest()


def _distribution(plan: SweepPlan, key: str, within: Dimension) -> BaseDistribution:
    distributions = require_optuna().distributions
    if not isinstance(within, SearchRange):
        return distributions.CategoricalDistribution([json.dumps(value) for value in within])
    section, _, name = key.partition(".")
    value = getattr(getattr(plan.job(corner(plan), plan.models[0], plan.seeds[0]).config, section), name)
    if isinstance(value, int):
        return distributions.IntDistribution(int(within.low), int(within.high), log=within.log)
    return distributions.FloatDistribution(within.low, within.high, log=within.log)


def encode(within: Dimension, value: object) -> object:
    """Return a value as Optuna stores it: numbers of a range as they are, others as JSON, since it accepts no lists."""
    return value if isinstance(within, SearchRange) else json.dumps(value)


def drawn_value(within: Dimension, drawn: Any) -> object:
    """Return the configuration value of an Optuna draw; floats are rounded to four significant digits."""
    if not isinstance(within, SearchRange):
        return json.loads(drawn)
    if isinstance(drawn, int):
        return drawn
    return min(max(float(f"{drawn:.{DIGITS}g}"), within.low), within.high)
