"""Makes the 8-bit version of a bundle's model, and keeps it only if its accuracy on val hardly falls."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_bench.bundle.model import Bundle
from keras_bench.bundle.sums import FLOAT_MODEL, INT8_MODEL
from keras_bench.config.schema import ExportConfig
from keras_bench.console import Log
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import Interval
from keras_bench.evaluation.statistics import proportion_interval
from keras_bench.export.places import positions_by_id, run_bundle
from keras_bench.export.records import Attempt, Int8
from keras_bench.runs.data import Data, positions_of


def quantize_bundle(
    title: str, settings: ExportConfig, data: Data, folder: Path, val: Predictions, test: Predictions, log: Log
) -> Int8:
    """Try one plan after another, from the fastest to the safest, until val top-1 falls by little enough.

    Val alone decides; test only measures the accuracy of the model that is kept.

    Args:
        title: name of the export, for the screen.
        settings: number of images, and how much val top-1 may fall.
        data: the images.
        folder: the bundle, with model.onnx and labels.json in it; model.int8.onnx stays there only if it is kept.
        val: the float model's predictions on val.
        test: the float model's predictions on the verified test images.
        log: the screen.
    """
    from keras_bench.export.quantize import PLANS, quantize

    val = val.rows(_drawn_positions(len(val.ids), settings.int8_val_images))
    train = positions_of(data, "train")
    calibration = train[_drawn_positions(len(train), settings.calibration_images)]
    attempts: list[Attempt] = []

    def outcome(kept: bool, reason: str, test_top1: Interval | None = None, megabytes: float | None = None) -> Int8:
        limits = (settings.int8_max_drop_points, len(val.ids), len(calibration))
        return Int8(kept, reason, tuple(attempts), *limits, test_top1, megabytes)

    for plan in PLANS:
        layers = quantize(folder / FLOAT_MODEL, folder / INT8_MODEL, _batches(data, calibration), plan)
        top1 = float(_correct(folder, data, val, f"{title}: int8 on val", log).mean())
        drop = 100 * (float(val.correct.mean()) - top1)
        attempts.append(Attempt(plan.name, layers, top1, round(drop, 3)))
        log.line(f"{title}: int8 of {plan.name}: {_describe_drop(drop)}")
        if drop <= settings.int8_max_drop_points:
            correct = _correct(folder, data, test, f"{title}: int8 on test", log)
            reason = f"{plan.name} in 8 bits; {_describe_drop(drop)}"
            size = (folder / INT8_MODEL).stat().st_size / 1e6
            return outcome(True, reason, test_top1=proportion_interval(correct), megabytes=size)
    (folder / INT8_MODEL).unlink(missing_ok=True)
    least = min(attempt.drop_points for attempt in attempts)
    limit = f"{settings.int8_max_drop_points:g} (export.int8_max_drop_points)"
    return outcome(False, f"not kept: {_describe_drop(least)} at best, more than {limit}")


def _describe_drop(drop: float) -> str:
    return f"val top-1 {'rises' if drop < -0.05 else 'falls'} by {abs(drop):.1f} points"


def _drawn_positions(count: int, limit: int) -> np.ndarray:
    """Return the rows of at most `limit` of `count` images, drawn at random and sorted."""
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


def _batches(data: Data, positions: np.ndarray) -> Iterator[np.ndarray]:
    """Yield batches of one decoded image each, since images differ in size."""
    for position in positions:
        yield data.store.image(int(position))[None]


def _correct(folder: Path, data: Data, float_model: Predictions, title: str, log: Log) -> np.ndarray:
    """Return whether the 8-bit model predicts each image of the float model's predictions correctly, bool, (N,)."""
    from keras_bench.export.files import write_sums

    write_sums(folder)
    positions = positions_by_id(data.index, float_model.ids)
    predicted = run_bundle(Bundle(folder, INT8_MODEL, threads=1), data.store, positions, title, log).argmax(axis=1)
    return np.asarray(predicted == float_model.labels)
