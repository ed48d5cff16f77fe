"""Finds the weights a run starts from, before any data is touched and without TensorFlow."""

import os
from dataclasses import dataclass
from pathlib import Path

from keras_bench.console import Log
from keras_bench.download import DownloadError, checksum_algorithm, digest_file, download
from keras_bench.errors import RunError, UserError
from keras_bench.jobs.request import Job
from keras_bench.records.reading import read_record
from keras_bench.rundir import RunDir, parse_run_reference

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
        origin = f"ImageNet weights {path.name}"
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
                lines.append(f"{path.name} ({job.backbone.name}) goes to {path.parent}/, from {url}")
    return lines


def keras_home() -> Path:
    """Return Keras's folder: $KERAS_HOME or ~/.keras; weights lie in models/ below it."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def _imagenet_place(job: Job) -> tuple[str, Path, str]:
    source = job.backbone.weights_source(job.config.model.alpha)
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
    log.line(f"ImageNet weights of {job.backbone.name} are not in {path.parent}: downloading {url}")
    try:
        return download(url, path, checksum, log)
    except (DownloadError, OSError) as error:
        raise UserError(
            f"ImageNet weights of {job.backbone.name} are missing: {error}. "
            f"Put {path.name} in {path.parent}/, or use {OPTIONS}"
        ) from error


def _of_run(reference: str, out: Path) -> Path:
    run = parse_run_reference(reference, out)
    phase = final_phase(run)
    if phase is None:
        raise UserError(f"weights: {reference}: {run.root} holds no finished run; finish it first, or check --out")
    return run.model(phase)


def final_phase(run: RunDir) -> str | None:
    """Return the final phase that a finished run names, or None while it is not finished."""
    return read_record(run.run, lambda content: str(content["final_phase"])) if run.run.is_file() else None


def finished_phase(run: RunDir) -> str:
    """Return the final phase of a run that has to be finished.

    Raises:
        RunError: it is not.
    """
    phase = final_phase(run)
    if phase is None:
        raise RunError(f"{run.root} holds no finished run; finish it first")
    return phase
