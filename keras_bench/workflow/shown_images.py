"""The images of a run that the report shows: thumbnails, and a grid of sample predictions. No TensorFlow."""

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image

from keras_bench.download import digest_file
from keras_bench.errors import DamagedFileError
from keras_bench.evaluation.predictions import Predictions
from keras_bench.files import save_figure, write_bytes, write_record
from keras_bench.images import UnreadableImageError, decode
from keras_bench.reading import read_json
from keras_bench.runs.damage import FILES, changed_files, digests_of, is_unreadable, recorded_digests
from keras_bench.runs.data import positions_of
from keras_bench.runs.folders import RunDir
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run
from keras_bench.runs.weights import final_phase, require_final_phase

MADE_OF = "made_of"  # the key of what the images depend on, in their record
GRID_IMAGES = 18  # images in the grid of sample predictions
THUMBNAIL = 128  # longest side of a thumbnail, pixels


def images_missing(job: Job) -> bool:
    """Return whether a finished run lacks its images, has those of other predictions, or some of them are damaged."""
    run = job.folder
    if final_phase(run) is None or damaged_images(job):
        return True
    if run.shown_images.is_file():
        return read_json(run.shown_images).get(MADE_OF) != made_of(run)
    return not _are_of_earlier_version(run)


def made_of(run: RunDir) -> dict[str, str]:
    """Return what the images of a finished run depend on: `phase`, the final one, and the digest of its predictions."""
    phase = require_final_phase(run)
    predictions = run.predictions(phase, "test")
    return {"phase": phase, "predictions_sha256": digest_file(predictions) if predictions.is_file() else "missing"}


def _are_of_earlier_version(run: RunDir) -> bool:
    """Return whether an earlier version, which kept no records, made a thumbnail of every image that the report shows.

    Without cost.json, which follows them in every version, a killed process may have left only some of them.
    """
    from keras_bench.report.read import shown_positions

    phase = require_final_phase(run)
    if not run.cost.is_file() or recorded_digests(run.result(phase)):
        return False
    try:
        test = Predictions.from_npz(run.predictions(phase, "test"))
    except DamagedFileError:
        return False
    return all(run.thumbnail(str(test.ids[row])).is_file() for row in shown_positions(test))


def damaged_images(job: Job) -> list[Path]:
    """Return the images that are damaged or missing; of an earlier version's only those that cannot be decoded."""
    record = job.folder.shown_images
    if record.is_file():
        return [record] if is_unreadable(record) else changed_files(record)
    return [path for path in _thumbnails(job.folder) if not _can_be_decoded(path)]


def _thumbnails(run: RunDir) -> list[Path]:
    return sorted(run.shown_images.parent.glob("[!.]*.jpg"))


def _can_be_decoded(path: Path) -> bool:
    try:
        decode(path.read_bytes())
    except UnreadableImageError:
        return False
    return True


def make_images(run: Run) -> None:
    """Draw sample predictions, and write small JPEGs of the test images that the report shows: mistakes and pairs."""
    from keras_bench.report.read import shown_positions

    test = Predictions.from_npz(run.folder.predictions(run.final_phase, "test"))
    positions = positions_of(run.data, "test")
    files = _draw_samples(run, test)
    for row in shown_positions(test):
        thumbnail = Image.fromarray(run.data.store.image(int(positions[row])))
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
        stream = io.BytesIO()
        thumbnail.save(stream, format="JPEG", quality=85)
        files.append(run.folder.thumbnail(str(test.ids[row])))
        write_bytes(files[-1], stream.getvalue())
    record = run.folder.shown_images
    write_record(record, {MADE_OF: made_of(run.folder), FILES: digests_of(record.parent, files)})


def _draw_samples(run: Run, test: Predictions) -> list[Path]:
    """Draw a grid of random test images with the predictions of the final phase; return the figure's files."""
    from keras_bench.report.run_figures import sample_predictions  # loads Matplotlib

    job, data = run.job, run.data
    count = min(GRID_IMAGES, len(test.ids))
    rows = np.array(sorted(random.Random(job.request.seed).sample(range(len(test.ids)), count)))
    images = [data.store.image(int(position)) for position in positions_of(data, "test")[rows]]
    title = f"{job.backbone.name} {run.final_phase}, test of {job.config.name}"
    figure = sample_predictions(images, test.rows(rows), data.index.class_titles, title)
    save_figure(figure, job.folder.figures / "sample_predictions")
    return [job.folder.figures / f"sample_predictions{suffix}" for suffix in (".png", ".svg")]
