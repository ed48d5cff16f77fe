"""Reads what a finished run predicted."""

from keras_bench.evaluation.predictions import Predictions
from keras_bench.phases import Phase
from keras_bench.runs.folders import RunDir
from keras_bench.runs.weights import require_final_phase


def phase_predictions(run: RunDir, split: str, phase: Phase | None = None) -> Predictions:
    """Return a finished run's predictions on "val" or "test", those of its final phase by default."""
    return Predictions.from_npz(run.predictions(phase or require_final_phase(run), split))
