"""Turns a sweep file and the command line into runs, checking all of them before the first one starts."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from keras_bench.config import Config, Experiment, load_experiment, parse_setting
from keras_bench.config.decision import DecisionMetric, shared_decision
from keras_bench.config.load import flatten
from keras_bench.errors import UserError
from keras_bench.phases import Phase
from keras_bench.runs.fingerprint import phase_inputs
from keras_bench.runs.folders import variant_name
from keras_bench.runs.job import Job, Request, resolve
from keras_bench.runs.weights import weights_name
from keras_bench.sweep.file import Sweep, load_sweep
from keras_bench.sweep.points import Point, SearchRange
from keras_bench.sweep.records import SweepPoint, settings_text, short_keys

DECIDING = ("training.imbalance", "training.checkpoint_monitor")  # these select the metric that decides on val

# No training result depends on these, so they are not part of a variant's name unless the points vary them. Nor are
# the experiment's own settings.
WITHOUT_EFFECT = ("explain", "latency", "export", "runtime", "title", "data_hint", "final_phase")


@dataclass(frozen=True)
class SweepRequest:
    """The command line's values, unchecked; None and () leave the choice to the sweep file.

    Attributes:
        sweep: name or path.
        experiment: name or path.
        models: backbones.
        seeds: one run of every point per seed.
        phase: last phase to train.
        data: the user's data.
        weights: overrides model.weights.
        settings: the values of --set, in order.
        out: folder of all runs.
    """

    sweep: str
    experiment: str | None = None
    models: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    phase: Phase | None = None
    data: Path | None = None
    weights: str | None = None
    settings: tuple[str, ...] = field(default=())
    out: Path = Path("runs")


@dataclass(frozen=True)
class Task:
    """One run of a sweep.

    Attributes:
        number: index of its point in the sweep, from 0.
        name: its name on the screen.
        job: the run.
    """

    number: int
    name: str
    job: Job


@dataclass(frozen=True)
class SweepPlan:
    """A sweep with everything that its points share.

    Attributes:
        sweep: the file as read.
        experiment: the experiment that the points vary.
        request: the part of the request that is the same for every run: no model, seed, variant or point.
        models: backbones, in order.
        seeds: one run of every point per seed.
    """

    sweep: Sweep
    experiment: Experiment
    request: Request
    models: tuple[str, ...]
    seeds: tuple[int, ...]

    def job(self, point: Point, model: str, seed: int) -> Job:
        """Return the run of a point.

        Raises:
            UserError: a value is invalid, on its own or in combination with the others.
        """
        request = replace(self.request, model=model, seed=seed, layers=self.sweep.layers(point))
        config = resolve(request, self.experiment).config
        named = self._named(point, config, self.experiment.resolve(model))
        return resolve(replace(request, variant=variant_name(named)), self.experiment)

    def tasks(self, points: Sequence[Point]) -> list[Task]:
        """Return all runs of some points: every point of every model for one seed, then for the next."""
        labels = [point.label for point in describe_points(points)]
        return [
            Task(number, _task_name(labels[number], model, seed), self.job(point, model, seed))
            for seed in self.seeds
            for model in self.models
            for number, point in enumerate(points)
        ]

    def decision(self) -> DecisionMetric:
        """Return the metric that chooses the best point on val: balanced accuracy if it decides in any point."""
        points = self.sweep.points or _corners(self)
        jobs = (self.job(point, model, self.seeds[0]) for model in self.models for point in points)
        return shared_decision(job.config.training.decision for job in jobs)

    def shared_settings(self) -> dict[str, object]:
        """Return the settings that the file and the command line make for all points, by dotted key."""
        layers = [flatten(parse_setting(text).tree) for text in self.request.settings]
        weights = {"model.weights": self.request.weights} if self.request.weights is not None else {}
        return {**self.sweep.fixed, **{key: value for layer in layers for key, value in layer.items()}, **weights}

    def _named(self, point: Point, config: Config, unchanged: Config) -> dict[str, object]:
        """Return the settings that distinguish this point's runs from all other runs of the experiment."""
        values, defaults = flatten(config.model_dump(mode="json")), flatten(unchanged.model_dump(mode="json"))
        shared = [key for key in self.shared_settings() if key.partition(".")[0] not in WITHOUT_EFFECT]
        changed = [key for key in shared if values[key] != defaults[key]]
        return {key: values[key] for key in {*point.settings, *changed}}


def plan_sweep(request: SweepRequest) -> SweepPlan:
    """Read the sweep and check every point.

    Raises:
        UserError: a mistake in the file or on the command line, with its location.
    """
    sweep = load_sweep(request.sweep)
    name, origin = request.experiment or sweep.experiment, f"{sweep.path}: experiment"
    experiment = load_experiment(name, "--experiment" if request.experiment else origin)
    plan = SweepPlan(
        sweep=sweep,
        experiment=experiment,
        request=Request(
            experiment=name,
            phase=request.phase or sweep.phase,
            data=request.data,
            weights=request.weights,
            out=request.out,
            settings=request.settings,
        ),
        models=request.models or sweep.models or (next(iter(experiment.models)),),
        seeds=request.seeds or sweep.seeds,
    )
    _refuse_settings_that_vary(plan)
    if sweep.search is None:
        _refuse_equal_points(plan, sweep.points)
    else:
        _check_space(plan)
    return plan


def describe_points(points: Sequence[Point]) -> list[SweepPoint]:
    """Return the points with their labels."""
    names = short_keys(key for point in points for key in point.settings)
    return [
        SweepPoint(point.name or settings_text(point.settings, names), point.settings, bool(point.name))
        for point in points
    ]


def corner(plan: SweepPlan) -> Point:
    """Return one point of a search space: the lower end of every range, the first value of every list."""
    assert plan.sweep.search is not None
    space = plan.sweep.search.space
    return Point({key: values.low if isinstance(values, SearchRange) else values[0] for key, values in space.items()})


def _corners(plan: SweepPlan) -> list[Point]:
    """Return points of a search space with every combination of the values that select the metric that decides."""
    assert plan.sweep.search is not None
    first, space = corner(plan), plan.sweep.search.space
    varying = {key: values for key in DECIDING if isinstance(values := space.get(key), tuple)}
    return [
        Point({**first.settings, **dict(zip(varying, values, strict=True))})
        for values in itertools.product(*varying.values())
    ]


def _task_name(label: str, model: str, seed: int) -> str:
    return f"{label}, {model}" + (f" seed {seed}" if seed else "")


def _refuse_settings_that_vary(plan: SweepPlan) -> None:
    sweep, request = plan.sweep, plan.request
    varying = {key for point in sweep.points for key in point.settings}
    varying |= set(sweep.search.space if sweep.search else ())
    for text in request.settings:
        for key in flatten(parse_setting(text).tree):
            if key in varying:
                raise UserError(f"--set {text}: {sweep.path} varies {key}; leave the option out, or change the file")
    if request.weights is not None and "model.weights" in varying:
        raise UserError(f"--weights {request.weights}: {sweep.path} varies model.weights; leave the option out")


def _refuse_equal_points(plan: SweepPlan, points: Sequence[Point]) -> None:
    """Refuse two points that would train the same: a repeated value, or a key of a phase that is not trained."""
    labels = [point.label for point in describe_points(points)]
    for model in plan.models:
        seen: list[tuple[object, str]] = []
        for point, label in zip(points, labels, strict=True):
            job = plan.job(point, model, plan.seeds[0])
            equal = next((other for inputs, other in seen if inputs == inputs_of(job)), None)
            if equal is not None:
                raise UserError(
                    f"{plan.sweep.path}: {plan.sweep.kind}: {equal} and {label} would train the same {model}: "
                    f"they differ in nothing that phase {' or '.join(job.phases)} depends on"
                )
            seen.append((inputs_of(job), label))


def _check_space(plan: SweepPlan) -> None:
    """Check that both ends of every range and all values of every list are valid, and that each key has an effect."""
    search = plan.sweep.search
    assert search is not None
    if len(plan.models) != 1:
        raise UserError(
            f"{plan.sweep.path}: search: expected one model, received {', '.join(plan.models)}; use --model"
        )
    first = corner(plan)
    for key, values in search.space.items():
        others = (values.high,) if isinstance(values, SearchRange) else values[1:]
        _refuse_equal_points(plan, [first, *(Point({**first.settings, key: value}) for value in others)])


def inputs_of(job: Job) -> dict[Phase, dict[str, object]]:
    """Return everything but the data that the results of a run depend on."""
    return {phase: phase_inputs(job, phase, "", weights_name(job)) for phase in job.phases}
