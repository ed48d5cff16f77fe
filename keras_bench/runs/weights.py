"""Finds a run's initial weights, before any data is read and without TensorFlow."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_bench.console import Log
from keras_bench.download import DownloadError, checksum_algorithm, digest_file, download
from keras_bench.errors import RunError, UserError
from keras_bench.phases import Phase, as_phase
from keras_bench.reading import read_record
from keras_bench.runs.damage import changed_files, describe, remedy
from keras_bench.runs.folders import RunDir, parse_run_reference
from keras_bench.runs.job import Job
from keras_bench.runs.weights_file import check_weights_file

OPTIONS = (
    "--weights none (random), --weights PATH (.h5 without top, or .keras) or --weights run:<experiment>/<model>/seed<k>"
)


@dataclass(frozen=True)
class InitialWeights:
    """The file of the backbone's initial weights.

    Attributes:
        path: the file; None for random weights.
        fingerprint: "none" or the file's sha256.
        origin: a description for display.
        is_published: whether the file's checksum is the published one.
    """

    path: Path | None
    fingerprint: str
    origin: str
    is_published: bool = False


def find_weights(job: Job, log: Log) -> InitialWeights:
    """Return a job's initial weights, downloading ImageNet weights if they are missing.

    Raises:
        UserError: the weights are missing and cannot be downloaded, or a file is not the published one.
    """
    weights = job.config.model.weights
    if weights == "none":
        return InitialWeights(None, "none", "random weights")
    is_published = False
    if weights == "imagenet":
        path = _imagenet_file(job, log)
        is_published = bool(_imagenet_source(job)[2])
        origin = f"ImageNet weights {path.name}{_trained_at(job)}"
    elif weights.startswith("run:"):
        path = _model_of_run(weights, job.request.out)
        origin = f"the backbone of {weights.removeprefix('run:')}"
    else:
        path = Path(weights).expanduser()
        if not path.is_file() or path.suffix not in (".h5", ".keras"):
            raise UserError(f"weights: expected imagenet, none, run:… or an .h5 or .keras file, received {weights!r}")
        origin = str(path)
        _compare_with_published(job, path, log)
    return InitialWeights(path, digest_file(path), origin, is_published)


def find_whole_weights(job: Job, log: Log) -> InitialWeights:
    """Return a job's initial weights as `find_weights` does, after reading the file to its end.

    A file whose checksum is the published one is not read again.

    Raises:
        UserError: as for `find_weights`, or the file is damaged.
    """
    weights = find_weights(job, log)
    if weights.path is not None and not weights.is_published:
        check_weights_file(weights.path)
    return weights


def _compare_with_published(job: Job, path: Path, log: Log) -> None:
    """Warn of a file given by --weights that has the name of the backbone's published file, but not its content."""
    source = job.backbone.weights_source(job.config.model.alpha, weights_size(job))
    if source is None or path.name != source[1] or not source[2]:
        return
    algorithm = checksum_algorithm(source[2])
    if digest_file(path, algorithm) != source[2]:
        log.warn(f"weights: {path} has the name of the published file, but is not that file ({algorithm} differs)")


def missing_weights(jobs: list[Job]) -> list[str]:
    """Return one line per ImageNet file that is not in Keras's folder."""
    lines = []
    for job in jobs:
        if job.config.model.weights == "imagenet":
            url, path, _ = _imagenet_source(job)
            if not path.is_file():
                lines.append(f"{path.name} ({_network_name(job)}) goes to {path.parent}/, from {url}")
    return lines


def weights_size(job: Job) -> int | None:
    """Return the input size, pixels, of the ImageNet weights that a job uses; None if one file serves all sizes."""
    model = job.config.model
    return (
        job.backbone.weights_size(job.image_size, model.alpha) if model.weights_size == "auto" else model.weights_size
    )


def weights_name(job: Job) -> str:
    """Return a name for a job's initial weights, equal for equal weights; the file need not exist."""
    weights, size = job.config.model.weights, weights_size(job)
    has_other_size = weights == "imagenet" and size not in (None, job.backbone.image_size)
    return f"{weights} for {size} pixels" if has_other_size else weights


def offer_of_other_sizes(jobs: Sequence[Job]) -> str:
    """Suggest settings that use local weights for another input size, for jobs whose own weights are missing.

    They are suggested, never used automatically: a result must not depend on which files happen to be in a folder.

    Args:
        jobs: all jobs of one command line.

    Returns:
        "; or " followed by weights and settings; "" if there is nothing to suggest.
    """
    offers = []
    for job in jobs:
        if job.config.model.weights != "imagenet" or _imagenet_source(job)[1].is_file():
            continue
        local_sizes = [size for size in _sizes(job) if _imagenet_source(job, size)[1].is_file()]
        if local_sizes:
            settings = " or ".join(_size_setting(job, size, jobs) for size in local_sizes)
            sizes = " and ".join(map(str, local_sizes))
            offers.append(f"; or {job.backbone.name}'s weights for {sizes} pixels, which are there: {settings}")
    return "".join(dict.fromkeys(offers))


def _size_setting(job: Job, size: int, jobs: Sequence[Job]) -> str:
    """Return the setting that selects weights for an input size: --set only if all jobs have weights for it."""
    if all(size in _sizes(other) for other in jobs):
        return f"--set model.weights_size={size}"
    return f"{job.backbone.name}: {{model: {{weights_size: {size}}}}} under models in the experiment"


def keras_home() -> Path:
    """Return Keras's folder: $KERAS_HOME or ~/.keras; weights are in its subfolder models/."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def _sizes(job: Job) -> tuple[int, ...]:
    return job.backbone.weights_sizes(job.config.model.alpha)


def _network_name(job: Job) -> str:
    """Return the backbone's name, with the input size of its weights if there are several."""
    size = weights_size(job)
    return job.backbone.name if size is None else f"{job.backbone.name} for {size} pixels"


def _trained_at(job: Job) -> str:
    size = weights_size(job)
    if size is None:
        return ""
    return f", trained at {size} pixels" + (f" and used at {job.image_size}" if size != job.image_size else "")


def _imagenet_source(job: Job, size: int | None = None) -> tuple[str, Path, str]:
    """Return URL, local path and checksum of a job's ImageNet weights, or of those for another input size."""
    source = job.backbone.weights_source(job.config.model.alpha, size or weights_size(job))
    assert source is not None  # `resolve` refuses backbones without ImageNet weights
    url, name, checksum = source
    return url, keras_home() / "models" / name, checksum


def _imagenet_file(job: Job, log: Log) -> Path:
    url, path, checksum = _imagenet_source(job)
    if path.is_file():
        algorithm = checksum_algorithm(checksum)
        if checksum and digest_file(path, algorithm) != checksum:
            raise UserError(
                f"{path} is not the published file ({algorithm} should be {checksum}); delete it to download it "
                f"again, or use it as it is with --weights {path}"
            )
        return path
    log.line(f"ImageNet weights of {_network_name(job)} are not in {path.parent}: downloading {url}")
    try:
        return download(url, path, checksum, log)
    except (DownloadError, OSError) as error:
        raise UserError(
            f"ImageNet weights of {_network_name(job)} are missing: {error}. "
            f"Put {path.name} in {path.parent}/, or use {OPTIONS}{offer_of_other_sizes([job])}"
        ) from error


def _model_of_run(reference: str, out: Path) -> Path:
    run = parse_run_reference(reference, out)
    phase = final_phase(run)
    if phase is None:
        raise UserError(f"weights: {reference}: {run.root} holds no finished run; finish it first, or check --out")
    model = run.model(phase)
    if not model.is_file() or model in changed_files(run.result(phase)):
        raise UserError(f"weights: {reference}: {describe(model)}; {remedy(run, [model])}")
    return model


def final_phase(run: RunDir) -> Phase | None:
    """Return a finished run's final phase, or None if the run is not finished."""
    return read_record(run.run, lambda content: as_phase(content["final_phase"])) if run.run.is_file() else None


def require_final_phase(run: RunDir) -> Phase:
    """Return the final phase of a run that must be finished.

    Raises:
        RunError: it is not finished.
    """
    phase = final_phase(run)
    if phase is None:
        raise RunError(f"{run.root} holds no finished run; finish it first")
    return phase
