"""The verb `lr-find`: which learning rate a phase can bear, from some steps with a growing rate. No run is touched."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_bench.console import Log
from keras_bench.environment import describe_environment
from keras_bench.errors import RunError, UserError
from keras_bench.files import save_figure, write_json, write_text
from keras_bench.lr_find.records import RateSearch
from keras_bench.phases import Phase
from keras_bench.runs.data import describe_data, load_data, open_data, positions_of, training_rows
from keras_bench.runs.fingerprint import finished_phases, phase_inputs
from keras_bench.runs.folders import RateSearchDir
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run
from keras_bench.runs.weights import InitialWeights, find_weights

FEWEST_STEPS = 20  # with fewer, a slope over single batches says nothing
HIGHEST_RATE = 10.0  # that a configuration accepts


@dataclass(frozen=True)
class RateRange:
    """Which rates to try: `steps` of them from `low` to `high`, each the same multiple of the one before."""

    low: float
    high: float
    steps: int


def find_rate(job: Job, span: RateRange, log: Log) -> None:
    """Train the last of the job's phases with a growing rate, draw the loss, and print the rate it points to.

    Args:
        job: the run whose phase it is; nothing in its folder is written.
        span: the rates.
        log: the screen.

    Raises:
        UserError: bad input, found before training.
        RunError: the loss never fell, or was not finite from the start.
    """
    _refuse_bad_range(span)
    phase = job.phases[-1]
    weights = find_weights(job, log)
    index, store, fingerprint = open_data(job, log)
    inputs = {name: phase_inputs(job, name, fingerprint, weights.fingerprint) for name in job.phases}
    continued = _finished_tl(job, inputs) if phase == "ft" else None
    log.line(f"{job.config.name}: learning rate for phase {phase} of {job.backbone.name}, seed {job.request.seed}")
    log.line(f"starts from: {_origin(job, weights, continued)}")
    data = load_data(job, index, store, fingerprint, log)
    for line in describe_data(data):
        log.line(line)
    from keras_bench.models.start import start_tensorflow
    from keras_bench.training.precision import describe_tf32

    devices = start_tensorflow(log)
    search = _train(Run(job, data, log, weights, tuple(devices)), span, continued)
    folder = job.folder.rate_search(phase)
    about = {
        "starts_from": str(continued) if continued else weights.origin,
        "inputs": inputs[phase],
        "environment": {**describe_environment(devices), "tf32": describe_tf32(job.config.training)},
    }
    _write_search(folder, job, search, about)
    _tell(job, search, folder, log)


def _refuse_bad_range(span: RateRange) -> None:
    if not 0 < span.low < span.high <= HIGHEST_RATE:
        raise UserError(
            f"--low, --high: expected rates with 0 < low < high <= {HIGHEST_RATE:g}, "
            f"received {span.low:g} and {span.high:g}"
        )
    if span.steps < FEWEST_STEPS:
        raise UserError(f"--steps: expected a whole number of at least {FEWEST_STEPS}, received {span.steps}")


def _finished_tl(job: Job, inputs: Mapping[Phase, dict[str, Any]]) -> Path | None:
    """Return the best weights of the run's finished tl, or None where there is none.

    Raises:
        UserError: it was made with other settings, so that ft could not continue it.
    """
    done = finished_phases(replace(job, phases=("tl",)), inputs)
    return job.folder.best_weights("tl") if done else None


def _origin(job: Job, weights: InitialWeights, continued: Path | None) -> str:
    if continued:
        return f"the best epoch of the finished tl in {job.folder.phase('tl')}"
    if job.phases[-1] == "ft":
        return f"{weights.origin} and a random head, since the run has no finished tl; ft itself would continue one"
    return weights.origin


def _train(run: Run, span: RateRange, continued: Path | None) -> RateSearch:
    from keras_bench.lr_find.range_test import search_rate
    from keras_bench.training.phase import fit_plan, starting_model

    train = positions_of(run.data, "train")[training_rows(run.job, run.data)]
    epochs = -(-span.steps // run.pipeline.steps(len(train)))
    plan = fit_plan(run, run.phases[-1], steps=span.steps)
    batches = run.pipeline.training(train, run.config.augmentation, epochs)
    return search_rate(starting_model(run, continued), plan, span.low, span.high, span.steps, batches, run.log)


def _write_search(folder: RateSearchDir, job: Job, search: RateSearch, about: dict[str, Any]) -> None:
    """Write points and figure, which replace those of an earlier search, and search.json last."""
    from keras_bench.lr_find.figure import rate_curve

    title = f"{job.backbone.name} {search.phase}, {job.config.name}, seed {job.request.seed}"
    write_text(folder.points, search.to_csv())
    save_figure(rate_curve(search, title), folder.curve)
    write_json(folder.search, {**search.to_json(), **about})


def _tell(job: Job, search: RateSearch, folder: RateSearchDir, log: Log) -> None:
    log.line(
        f"{search.phase}: {len(search.rates)} of {search.steps} rates tried, {search.low:.2g} to "
        f"{search.rates[-1]:.2g}; ended: {search.stopped}"
    )
    log.line(f"curve: {folder.curve}.png; points: {folder.points}")
    found = search.suggestion
    if found is None:
        raise RunError(
            f"the loss never fell between the rates {search.low:g} and {search.rates[-1]:g}, so none is suggested; "
            f"look at {folder.curve}.png, and try a lower --low or more --steps"
        )
    log.line(
        f"learning rate: {found.steepest:.2g}, where the smoothed loss falls fastest; "
        f"a tenth of the rate of its minimum is {found.below_minimum:.2g}"
    )
    if not found.clear:
        log.warn("the loss fell by no more than single batches scatter; repeat with more --steps or another --seed")
    log.line(f"next:    {next_command(job, found.steepest)}")


def next_command(job: Job, rate: float) -> str:
    """Return the command that trains the phase with this rate, to be pasted into a shell."""
    request, phase = job.request, job.phases[-1]
    written = f"{rate:.2g}"
    variant = request.variant
    if job.folder.read_result(phase) is not None:  # made with some other rate, and never overwritten
        variant = f"{variant}-rate-{written}" if variant else f"rate-{written}"
    words = ["keras-bench", "run", "--experiment", request.experiment, "--model", job.backbone.name, "--phase", phase]
    options = (
        ("--data", request.data),
        ("--weights", request.weights),
        ("--seed", request.seed or None),
        ("--out", request.out if request.out != Path("runs") else None),
        ("--variant", variant),
    )
    for option, value in options:
        words += [option, str(value)] if value is not None else []
    key = f"{phase}.learning_rate"
    kept = [text for text in request.settings if text.partition("=")[0].strip() != key]
    for text in [*kept, f"{key}={written}"]:
        words += ["--set", text]
    return shlex.join(words)
