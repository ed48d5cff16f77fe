"""Makes files of a finished phase again from those that are intact: model, weights and predictions."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from keras_bench.errors import LostResultError
from keras_bench.evaluation.metrics import compute_metrics
from keras_bench.files import write_bytes, write_record
from keras_bench.models.build import build_model
from keras_bench.models.saving import save_model, save_weights
from keras_bench.phases import Phase
from keras_bench.reading import read_json
from keras_bench.runs.damage import FILES, SPLITS, digests_of, phase_files, recorded_digests
from keras_bench.runs.damaged_history import history_damaged
from keras_bench.training.phase import best_model, fit_plan, predict_phase

if TYPE_CHECKING:
    from keras_bench.evaluation.predictions import Predictions
    from keras_bench.runs.run import Run

# The model gives the recorded cross-entropy, up to this relative difference, on another processor too.
TOLERANCE = 1e-3


def restore_phase(run: Run, phase: Phase, damaged: Collection[Path]) -> None:
    """Make the damaged files of a finished phase again, and record their digests in its result.json.

    Args:
        run: the run, with the images and splits of the phase.
        phase: a finished phase, of which model.keras or best.weights.h5 is intact.
        damaged: the damaged files.

    Raises:
        LostResultError: the model does not give the recorded results, so that its predictions are lost.
    """
    folder = run.folder
    if not any(path in damaged for path in phase_files(folder, phase)):
        return
    if folder.best_weights(phase) in damaged or not folder.best_weights(phase).is_file():
        _save_weights(run, phase)
    best = best_model(run, fit_plan(run, phase))
    if folder.model(phase) in damaged:
        save_model(best, folder.model(phase))
    lost = [split for split in SPLITS if folder.predictions(phase, split) in damaged]
    if lost:
        predictions = predict_phase(run, phase, best)
        _refuse_other_results(run, phase, predictions)
        for split in lost:
            write_bytes(folder.predictions(phase, split), predictions[split].to_npz())
    lost_history = {folder.history(phase)} if history_damaged(folder, phase) else set()  # keeps its recorded digest
    files = [path for path in phase_files(folder, phase) if path.is_file() and path not in lost_history]
    content = read_json(folder.result(phase))
    digests = {**recorded_digests(folder.result(phase)), **digests_of(folder.phase(phase), files)}
    write_record(folder.result(phase), {**content, FILES: digests})


def _save_weights(run: Run, phase: Phase) -> None:
    """Write best.weights.h5 with the weights of model.keras."""
    keras.mixed_precision.set_global_policy("float32")
    model = build_model(run.model_spec)
    model.load_weights(run.folder.model(phase))
    save_weights(model, run.folder.best_weights(phase))


def _refuse_other_results(run: Run, phase: Phase, predictions: dict[str, Predictions]) -> None:
    result = run.folder.read_result(phase)
    assert result is not None  # the phase is finished
    for split in SPLITS:
        before, now = result.metrics[split].cross_entropy, compute_metrics(predictions[split]).cross_entropy
        if not math.isclose(before, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise LostResultError(
                f"{run.folder.predictions(phase, split)}: damaged or missing, and {run.folder.model(phase)} does not "
                f"give the recorded results (cross-entropy on {split} was {before:.4f}, is now {now:.4f}): restore "
                f"the file from a copy, or remove {run.folder.phase(phase)} to train the phase again"
            )
