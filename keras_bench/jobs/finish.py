"""The end of a run: chooses the final phase on val, draws the first figures, writes run.json."""

import random

import numpy as np
from matplotlib.figure import Figure

from keras_bench.console import Log
from keras_bench.jobs.prepare import Data, positions_of
from keras_bench.jobs.request import Job
from keras_bench.records.history import read_history
from keras_bench.records.predictions import Predictions
from keras_bench.reporting.figures import confusion_matrix, learning_curves, sample_predictions
from keras_bench.rundir import PHASE_ORDER, replacing, write_json

SAMPLES = 18  # images in the grid of sample predictions


def finish_run(job: Job, data: Data, log: Log) -> None:
    """Choose the final phase, draw its figures, and write run.json, which marks the run finished."""
    found = {phase: job.run.read_result(phase) for phase in PHASE_ORDER if phase in job.phases}
    results = {phase: result for phase, result in found.items() if result is not None}
    # max keeps the first of equals: the phase that cost less.
    final = max(results, key=lambda phase: results[phase].metrics["val"].top1)
    figures = _draw(job, data, list(results), final)
    for name, figure in figures.items():
        with replacing(job.run.figures / f"{name}.png") as path:
            figure.savefig(path, dpi=130)
    write_json(
        job.run.run,
        {
            "experiment": job.config.name,
            "model": job.backbone.name,
            "seed": job.request.seed,
            "phases": list(results),
            "final_phase": final,
            "chosen_by": "val top1",
            "figures": [f"figures/{name}.png" for name in figures],
        },
    )
    among = f", chosen on val among {' and '.join(results)}" if len(results) > 1 else ""
    log.line(f"final phase: {final}{among}")


def _draw(job: Job, data: Data, phases: list[str], final: str) -> dict[str, Figure]:
    test = Predictions.from_npz(job.run.predictions(final, "test"))
    where = f"{job.backbone.name} {final}, test of {job.config.name}"
    titles = data.index.class_titles
    chosen = np.array(sorted(random.Random(job.request.seed).sample(range(len(test.ids)), min(SAMPLES, len(test.ids)))))
    images = [data.store.image(int(position)) for position in positions_of(data, "test")[chosen]]
    histories = {phase: read_history(job.run.history(phase)) for phase in phases}
    return {
        "learning_curves": learning_curves(histories, f"{job.backbone.name}, {job.config.name}"),
        "confusion_matrix": confusion_matrix(test, titles, where),
        "sample_predictions": sample_predictions(images, test.rows(chosen), titles, where),
    }
