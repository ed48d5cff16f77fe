"""Finds the weights a run starts from, before any data is touched and without TensorFlow."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_bench.console import Log
from keras_bench.download import DownloadError, checksum_algorithm, digest_file, download
from keras_bench.errors import RunError, UserError
from keras_bench.phases import Phase, as_phase
from keras_bench.reading import read_record
from keras_bench.runs.folders import RunDir, parse_run_reference
from keras_bench.runs.job import Job

OPTIONS = (
    "--weights none (random), --weights PATH (.h5 without top, or .keras) or --weights run:<experiment>/<model>/seed<k>"
)


@dataclass(frozen=True)
class InitialWeights:
    """Where the backbone's initial weights lie.

    Attributes:
        path: the file; None for random weights.
        fingerprint: "none" or the file's sha256, the same wherever the file lies.
        origin: one phrase for people.
    """

    path: Path | None
    fingerprint: str
    origin: str


def find_weights(job: Job, log: Log) -> InitialWeights:
    """Return the initial weights a job names, downloading ImageNet's where they are missing.

    Raises:
        UserError: the weights are nowhere and cannot be downloaded, or a file is not the published one.
    """
    wanted = job.config.model.weights
    if wanted == "none":
        return InitialWeights(None, "none", "random weights")
    if wanted == "imagenet":
        path = _imagenet(job, log)
        origin = f"ImageNet weights {path.name}{_trained_at(job)}"
    elif wanted.startswith("run:"):
        path = _of_run(wanted, job.request.out)
        origin = f"the backbone of {wanted.removeprefix('run:')}"
    else:
        path = Path(wanted).expanduser()
        if not path.is_file() or path.suffix not in (".h5", ".keras"):
            raise UserError(f"weights: expected imagenet, none, run:… or an .h5 or .keras file, received {wanted!r}")
        origin = str(path)
    return InitialWeights(path, digest_file(path), origin)


def missing_weights(jobs: list[Job]) -> list[str]:
    """Return a line for each ImageNet file that is not where Keras keeps it."""
    lines = []
    for job in jobs:
        if job.config.model.weights == "imagenet":
            url, path, _ = _imagenet_place(job)
            if not path.is_file():
                lines.append(f"{path.name} ({_network(job)}) goes to {path.parent}/, from {url}")
    return lines


def weights_size(job: Job) -> int | None:
    """Return the input size, pixels, of the ImageNet weights a job names; None where one file serves all sizes."""
    model = job.config.model
    return (
        job.backbone.weights_size(job.image_size, model.alpha) if model.weights_size == "auto" else model.weights_size
    )


def weights_name(job: Job) -> str:
    """Return what a job calls its initial weights; the same for the same weights, whether they are here or not."""
    wanted, size = job.config.model.weights, weights_size(job)
    own = wanted == "imagenet" and size not in (None, job.backbone.image_size)
    return f"{wanted} for {size} pixels" if own else wanted


def offer_of_other_sizes(jobs: Sequence[Job]) -> str:
    """Return the settings that take weights of another input size which are here, where a job's own are missing.

    They are offered and never taken: what happens to lie in a folder must not decide a result.

    Args:
        jobs: all that one command line would run.

    Returns:
        "; or " with what to write for which weights; "" where there is nothing to offer.
    """
    offers = []
    for job in jobs:
        if job.config.model.weights != "imagenet" or _imagenet_place(job)[1].is_file():
            continue
        here = [size for size in _sizes(job) if _imagenet_place(job, size)[1].is_file()]
        if here:
            settings = " or ".join(_setting(job, size, jobs) for size in here)
            sizes = " and ".join(map(str, here))
            offers.append(f"; or {job.backbone.name}'s weights for {sizes} pixels, which are there: {settings}")
    return "".join(dict.fromkeys(offers))


def _setting(job: Job, size: int, jobs: Sequence[Job]) -> str:
    """Return how to choose weights for an input size: by --set only where every job of the command line has them."""
    if all(size in _sizes(other) for other in jobs):
        return f"--set model.weights_size={size}"
    return f"{job.backbone.name}: {{model: {{weights_size: {size}}}}} under models in the experiment"


def keras_home() -> Path:
    """Return Keras's folder: $KERAS_HOME or ~/.keras; weights lie in models/ below it."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def _sizes(job: Job) -> tuple[int, ...]:
    return job.backbone.weights_sizes(job.config.model.alpha)


def _network(job: Job) -> str:
    """Return the backbone, and the input size of its weights where it has several."""
    size = weights_size(job)
    return job.backbone.name if size is None else f"{job.backbone.name} for {size} pixels"


def _trained_at(job: Job) -> str:
    size = weights_size(job)
    if size is None:
        return ""
    return f", trained at {size} pixels" + (f" and used at {job.image_size}" if size != job.image_size else "")


def _imagenet_place(job: Job, size: int | None = None) -> tuple[str, Path, str]:
    """Return address, file and checksum of a job's ImageNet weights, or of those for another input size."""
    source = job.backbone.weights_source(job.config.model.alpha, size or weights_size(job))
    assert source is not None  # `resolve` refuses backbones without ImageNet weights
    url, name, checksum = source
    return url, keras_home() / "models" / name, checksum


def _imagenet(job: Job, log: Log) -> Path:
    url, path, checksum = _imagenet_place(job)
    if path.is_file():
        algorithm = checksum_algorithm(checksum)
        if checksum and digest_file(path, algorithm) != checksum:
            raise UserError(
                f"{path} is not the published file ({algorithm} should be {checksum}); delete it to download it "
                f"again, or use it as it is with --weights {path}"
            )
        return path
    log.line(f"ImageNet weights of {_network(job)} are not in {path.parent}: downloading {url}")
    try:
        return download(url, path, checksum, log)
    except (DownloadError, OSError) as error:
        raise UserError(
            f"ImageNet weights of {_network(job)} are missing: {error}. "
            f"Put {path.name} in {path.parent}/, or use {OPTIONS}{offer_of_other_sizes([job])}"
        ) from error


def _of_run(reference: str, out: Path) -> Path:
    run = parse_run_reference(reference, out)
    phase = final_phase(run)
    if phase is None:
        raise UserError(f"weights: {reference}: {run.root} holds no finished run; finish it first, or check --out")
    return run.model(phase)


def final_phase(run: RunDir) -> Phase | None:
    """Return the final phase that a finished run names, or None while it is not finished."""
    return read_record(run.run, lambda content: as_phase(content["final_phase"])) if run.run.is_file() else None


def finished_phase(run: RunDir) -> Phase:
    """Return the final phase of a run that has to be finished.

    Raises:
        RunError: it is not.
    """
    phase = final_phase(run)
    if phase is None:
        raise RunError(f"{run.root} holds no finished run; finish it first")
    return phase
