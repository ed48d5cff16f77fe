"""Suggests a phase's learning rate from a few training steps with a growing rate. It changes no run."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from keras_bench.console import Log
from keras_bench.environment import describe_environment
from keras_bench.errors import RunError, UserError
from keras_bench.files import save_figure, write_json
from keras_bench.frames import write_frame
from keras_bench.lr_find.records import RateSearch
from keras_bench.phases import Phase
from keras_bench.runs.data import describe_data, load_data, open_data, positions_of, require_folders, training_rows
from keras_bench.runs.fingerprint import finished_phases, phase_inputs
from keras_bench.runs.folders import RateSearchDir
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run
from keras_bench.runs.weights import InitialWeights, find_whole_weights

MIN_STEPS = 20  # with fewer, a slope over single batches is meaningless
HIGHEST_RATE = 10.0  # the highest that a configuration accepts


@dataclass(frozen=True)
class RateRange:
    """The rates to try: `steps` of them from `low` to `high`, each the same multiple of the previous one."""

    low: float
    high: float
    steps: int


def find_rate(job: Job, span: RateRange, log: Log) -> None:
    """Train the job's last phase with a growing rate, plot the loss, and print the suggested rate.

    Args:
        job: the run that the phase belongs to; nothing in its folder is written.
        span: the rates to try.
        log: the screen.

    Raises:
        UserError: the input is wrong; found before training.
        RunError: the loss never fell, or was not finite at the first step.
    """
    _refuse_bad_range(span)
    phase = job.phases[-1]
    require_folders(job)
    weights = find_whole_weights(job, log)
    index, store, fingerprint = open_data(job, log)
    inputs = {name: phase_inputs(job, name, fingerprint, weights.fingerprint) for name in job.phases}
    tl_weights = _finished_tl(job, inputs) if phase == "ft" else None
    log.line(f"{job.config.name}: learning rate for phase {phase} of {job.backbone.name}, seed {job.request.seed}")
    log.line(f"starts from: {_describe_start(job, weights, tl_weights)}")
    data = load_data(job, index, store, fingerprint, log)
    for line in describe_data(data):
        log.line(line)
    from keras_bench.models.start import start_tensorflow
    from keras_bench.training.precision import describe_tf32

    devices = start_tensorflow(log)
    search = _train(Run(job, data, log, weights, tuple(devices)), span, tl_weights)
    folder = job.folder.rate_search(phase)
    provenance = {
        "starts_from": str(tl_weights) if tl_weights else weights.origin,
        "inputs": inputs[phase],
        "environment": {**describe_environment(devices), "tf32": describe_tf32(job.config.training)},
    }
    _write_search(folder, job, search, provenance, log)
    _report(job, search, folder, log)


def _refuse_bad_range(span: RateRange) -> None:
    if not 0 < span.low < span.high <= HIGHEST_RATE:
        raise UserError(
            f"--low, --high: expected rates with 0 < low < high <= {HIGHEST_RATE:g}, "
            f"received {span.low:g} and {span.high:g}"
        )
    if span.steps < MIN_STEPS:
        raise UserError(f"--steps: expected a whole number of at least {MIN_STEPS}, received {span.steps}")


def _finished_tl(job: Job, inputs: Mapping[Phase, dict[str, object]]) -> Path | None:
    """Return the best weights of the run's finished tl, or None if tl is not finished.

    Raises:
        UserError: tl was finished with other settings, so ft could not continue it.
    """
    finished = finished_phases(replace(job, phases=("tl",)), inputs)
    return job.folder.best_weights("tl") if finished else None


def _describe_start(job: Job, weights: InitialWeights, tl_weights: Path | None) -> str:
    if tl_weights:
        return f"the best epoch of the finished tl in {job.folder.phase('tl')}"
    if job.phases[-1] == "ft":
        return f"{weights.origin} and a random head, since the run has no finished tl; ft itself would continue one"
    return weights.origin


def _train(run: Run, span: RateRange, tl_weights: Path | None) -> RateSearch:
    """Run the range test from the weights the phase would start from."""
    from keras_bench.lr_find.range_test import search_rate
    from keras_bench.training.phase import fit_plan, starting_model

    positions = positions_of(run.data, "train")[training_rows(run.job, run.data)]
    epochs = -(-span.steps // run.pipeline.steps(len(positions)))
    plan = fit_plan(run, run.phases[-1], steps=span.steps)
    batches = run.pipeline.training(positions, run.config.augmentation, epochs)
    return search_rate(starting_model(run, tl_weights), plan, span.low, span.high, span.steps, batches, run.log)


def _write_search(
    folder: RateSearchDir, job: Job, search: RateSearch, provenance: Mapping[str, object], log: Log
) -> None:
    """Write points and figure, replacing those of an earlier search, and search.json last."""
    from keras_bench.lr_find.figure import rate_curve

    title = f"{job.backbone.name} {search.phase}, {job.config.name}, seed {job.request.seed}"
    with folder.lock(log):
        write_frame(folder.points, search.points, float_format="%.9g")
        save_figure(rate_curve(search, title), folder.curve)
        write_json(folder.search, {**search.to_json(), **provenance})


def _report(job: Job, search: RateSearch, folder: RateSearchDir, log: Log) -> None:
    """Print the result of a search and the next command.

    Raises:
        RunError: the search suggests no rate.
    """
    log.line(
        f"{search.phase}: {len(search.rates)} of {search.steps} rates tried, {search.low:.2g} to "
        f"{search.rates[-1]:.2g}; ended: {search.stopped}"
    )
    log.line(f"curve: {folder.curve}.png; points: {folder.points}")
    suggestion = search.suggestion
    if suggestion is None:
        raise RunError(
            f"the loss never fell between the rates {search.low:g} and {search.rates[-1]:g}, so none is suggested; "
            f"look at {folder.curve}.png, and try a lower --low or more --steps"
        )
    log.line(
        f"learning rate: {suggestion.steepest:.2g}, where the smoothed loss falls fastest; "
        f"a tenth of the rate at its minimum is {suggestion.below_minimum:.2g}"
    )
    if not suggestion.clear:
        log.warn("the loss fell by no more than the noise of single batches; use more --steps or another --seed")
    log.line(f"next:    {next_command(job, suggestion.steepest)}")


def next_command(job: Job, rate: float) -> str:
    """Return the command that trains the phase with this rate, ready to paste into a shell."""
    request, phase = job.request, job.phases[-1]
    rate_text = f"{rate:.2g}"
    variant = request.variant
    if job.folder.read_result(phase) is not None:  # finished with another rate, and never overwritten
        variant = f"{variant}-rate-{rate_text}" if variant else f"rate-{rate_text}"
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
    other_settings = [setting for setting in request.settings if setting.partition("=")[0].strip() != key]
    for setting in [*other_settings, f"{key}={rate_text}"]:
        words += ["--set", setting]
    return shlex.join(words)
