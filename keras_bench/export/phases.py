"""Exports the phases of a finished run as checked ONNX bundles."""

import os
from collections.abc import Callable, Sequence
from functools import partial

from keras_bench.console import Log
from keras_bench.cost.cost_file import file_identity
from keras_bench.environment import describe_environment
from keras_bench.errors import ExportError, RunError, UserError
from keras_bench.evaluation.predictions import Predictions
from keras_bench.export.make import BundlePlan, make_bundle
from keras_bench.export.places import bundle_name, damaged_exports, export_finished, made_of
from keras_bench.export.records import Verification
from keras_bench.files import write_record
from keras_bench.phases import Phase
from keras_bench.reading import read_json
from keras_bench.runs.damage import damaged_files, describe, remedy
from keras_bench.runs.data import Data, audit_data, load_data, open_data, recorded_data
from keras_bench.runs.folders import RunDir
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run

WriteCard = Callable[[Phase, Verification], str]  # from a phase and its bundle's verification to MODEL_CARD.md's text


def export_run(job: Job, phases: Sequence[Phase], write_card: WriteCard, log: Log) -> None:
    """Export phases of a finished run from its files and its images.

    Args:
        job: the run.
        phases: the phases to export.
        write_card: returns the text of MODEL_CARD.md for a phase.
        log: the screen.

    Raises:
        UserError: the images are not those the run was made with.
        RunError: a file of the run is damaged.
        ExportError: a bundle could not be made or does not agree with Keras.
    """
    for path in [path for phase in phases for path in damaged_exports(job, phase)]:
        log.warn(f"{describe(path)}; it is made again")
    if all(export_finished(job, phase) for phase in phases):
        log.line(f"{job.exports}: {' and '.join(phases)} exported before with the same settings: nothing to do.")
        return
    data = data_of_run(job, log)
    from keras_bench.models.start import start_tensorflow

    start_tensorflow(log)
    with job.folder.lock():
        log.path = job.folder.log
        export_phases(Run(job, data, log), phases, write_card)


def refuse_damaged_run(run: RunDir) -> None:
    """Refuse to export from a finished run if a file that training wrote is damaged or missing.

    Raises:
        RunError: names the files and what makes them again.
    """
    damaged = damaged_files(run) if run.run.is_file() or run.cost.is_file() else []
    if damaged:
        raise RunError(f"{', '.join(map(describe, damaged))}; {remedy(run, damaged)}")


def data_of_run(job: Job, log: Log) -> Data:
    """Return the images a finished run was made with, split as in its splits.csv.

    Raises:
        UserError: they have moved or changed.
    """
    index, store, fingerprint = open_data(job, log)
    expected = read_json(job.folder.dataset)["fingerprint"]
    if fingerprint != expected:
        raise UserError(
            f"{index.location} is not the data {job.folder.root} was made with (fingerprint {fingerprint}, expected "
            f"{expected}), so a bundle cannot be checked; give the folder of the original images with --data"
        )
    data = load_data(job, index, store, fingerprint, log)
    return recorded_data(job, data) or audit_data(job, data, log)


def export_phases(run: Run, phases: Sequence[Phase], write_card: WriteCard) -> None:
    """Export those phases of a finished run that are not exported yet; the others are still exported when one fails.

    Raises:
        ExportError: a bundle could not be made or does not agree with Keras.
    """
    missing = [phase for phase in phases if not export_finished(run.job, phase)]
    if not missing:
        return
    failures = []
    for phase in missing:
        try:
            _export_phase(run, phase, write_card)
        except ExportError as error:
            failures.append(str(error))
    if failures:
        raise ExportError("; ".join(failures))


def _export_phase(run: Run, phase: Phase, write_card: WriteCard) -> None:
    job, data = run.job, run.data
    folder = job.exports / bundle_name(job, phase)
    plan = BundlePlan(
        title=f"export of {phase}",
        folder=folder,
        members=[(job.folder.model(phase), 1.0)],
        image_size=job.image_size,
        origin=_origin(job, phase),
        config=job.config,
        data=data,
        val=Predictions.from_npz(job.folder.predictions(phase, "val")),
        test=Predictions.from_npz(job.folder.predictions(phase, "test")),
        card=partial(write_card, phase),
    )
    verification = make_bundle(plan, run.log)
    content = {
        "bundle": os.path.relpath(folder, job.folder.root),
        "made_of": made_of(job, phase),
        "verification": verification.to_json(),
    }
    write_record(job.folder.export(phase), content)


def _origin(job: Job, phase: Phase) -> dict[str, object]:
    """Return the model's origin, for its file and verification.json."""
    result = job.folder.read_result(phase)
    assert result is not None  # only finished phases are exported
    return {
        "experiment": job.config.name,
        "model": job.backbone.name,
        "phase": phase,
        "seed": job.request.seed,
        "commit": result.environment.get("commit") or "unknown",
        "versions": describe_environment([])["packages"],
        "fingerprint": file_identity(job.folder, phase)["model_sha256"],
        "data": result.inputs["data"],
    }
