"""The end of training: chooses the final phase on val, and keeps thumbnails of the images that the report shows."""

import io
import random

import numpy as np
from PIL import Image

from keras_bench.evaluation.predictions import Predictions
from keras_bench.files import save_figure, write_bytes, write_json
from keras_bench.report.read import shown_positions
from keras_bench.report.run_figures import sample_predictions
from keras_bench.runs.data import positions_of
from keras_bench.runs.results import best_phase
from keras_bench.runs.run import Run

GRID_IMAGES = 18  # images in the grid of sample predictions
THUMBNAIL = 128  # longest side of a thumbnail, pixels


def choose_final_phase(run: Run) -> None:
    """Choose the final phase on val, draw sample predictions, and write run.json: training is finished."""
    job, log = run.job, run.log
    results = job.folder.read_results(job.phases)
    decision = job.config.training.decision
    final = best_phase(results, decision)
    test = Predictions.from_npz(job.folder.predictions(final, "test"))
    _draw_samples(run, test, final)
    write_json(
        job.folder.run,
        {
            "experiment": job.config.name,
            "model": job.backbone.name,
            "seed": job.request.seed,
            "phases": list(results),
            "final_phase": final,
            "chosen_by": f"val {decision}",
        },
    )
    choice = f", chosen on val{decision.clause} among {' and '.join(results)}" if len(results) > 1 else ""
    log.line(f"final phase: {final}{choice}")


def keep_thumbnails(run: Run) -> None:
    """Write small JPEGs of the test images that the report shows: mistakes and confused pairs."""
    test = Predictions.from_npz(run.folder.predictions(run.final_phase, "test"))
    positions = positions_of(run.data, "test")
    for row in shown_positions(test):
        thumbnail = Image.fromarray(run.data.store.image(int(positions[row])))
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
        stream = io.BytesIO()
        thumbnail.save(stream, format="JPEG", quality=85)
        write_bytes(run.folder.thumbnail(str(test.ids[row])), stream.getvalue())


def _draw_samples(run: Run, test: Predictions, final: str) -> None:
    """Draw a grid of random test images with the predictions of the final phase."""
    job, data = run.job, run.data
    count = min(GRID_IMAGES, len(test.ids))
    rows = np.array(sorted(random.Random(job.request.seed).sample(range(len(test.ids)), count)))
    images = [data.store.image(int(position)) for position in positions_of(data, "test")[rows]]
    title = f"{job.backbone.name} {final}, test of {job.config.name}"
    figure = sample_predictions(images, test.rows(rows), data.index.class_titles, title)
    save_figure(figure, job.folder.figures / "sample_predictions")
