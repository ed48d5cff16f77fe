"""Makes the 8-bit version of a bundle's model, and keeps it only where val shows that it lost next to nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_bench.bundle import FLOAT_MODEL, INT8_MODEL, Bundle
from keras_bench.config.schema import ExportConfig
from keras_bench.console import Log
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.statistics import proportion_interval
from keras_bench.export.places import positions_by_id, run_bundle
from keras_bench.export.records import Int8
from keras_bench.runs.data import Data, positions_of


def quantize_bundle(
    title: str, settings: ExportConfig, data: Data, folder: Path, val: Predictions, test: Predictions, log: Log
) -> Int8:
    """Try one plan after another, from the fastest to the safest, until val top-1 falls by little enough.

    The decision is made on val; test only says what the kept model is worth.

    Args:
        title: what is exported, for people.
        settings: how many images, and how much accuracy may go.
        data: the images.
        folder: the bundle, with model.onnx and labels.json in it; model.int8.onnx is left there only if it is kept.
        val: the float model's predictions on val.
        test: its predictions on the test images that are verified.
        log: the screen.
    """
    from keras_bench.export.quantize import PLANS, quantize

    val = val.rows(_drawn_positions(len(val.ids), settings.int8_val_images))
    train = positions_of(data, "train")
    calibration = train[_drawn_positions(len(train), settings.calibration_images)]
    attempts: list[dict[str, Any]] = []

    def outcome(kept: bool, reason: str, **found: Any) -> Int8:
        limits = (settings.int8_max_drop_points, len(val.ids), len(calibration))
        return Int8(kept, reason, tuple(attempts), *limits, **found)

    for plan in PLANS:
        layers = quantize(folder / FLOAT_MODEL, folder / INT8_MODEL, _batches(data, calibration), plan)
        top1 = _top1(folder, data, val, f"{title}: int8 on val", log)
        drop = 100 * (float(val.correct.mean()) - float(top1.mean()))
        attempts.append(
            {"plan": plan.name, "layers": layers, "val_top1": float(top1.mean()), "drop_points": round(drop, 3)}
        )
        log.line(f"{title}: int8 of {plan.name}: {_fall(drop)}")
        if drop <= settings.int8_max_drop_points:
            correct = _top1(folder, data, test, f"{title}: int8 on test", log)
            reason = f"{plan.name} in 8 bits; {_fall(drop)}"
            size = (folder / INT8_MODEL).stat().st_size / 1e6
            return outcome(True, reason, test_top1=proportion_interval(correct), megabytes=size)
    (folder / INT8_MODEL).unlink(missing_ok=True)
    least = min(attempt["drop_points"] for attempt in attempts)
    reason = (
        f"not kept: {_fall(least)} at best, more than {settings.int8_max_drop_points:g} (export.int8_max_drop_points)"
    )
    return outcome(False, reason)


def _fall(drop: float) -> str:
    return f"val top-1 {'rises' if drop < -0.05 else 'falls'} by {abs(drop):.1f} points"


def _drawn_positions(count: int, most: int) -> np.ndarray:
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def _batches(data: Data, positions: np.ndarray) -> Iterator[np.ndarray]:
    """Yield images that are equally large together, as decoded."""
    for position in positions:
        yield data.store.image(int(position))[None]


def _top1(folder: Path, data: Data, expected: Predictions, title: str, log: Log) -> np.ndarray:
    """Return whether the 8-bit model classifies each image correctly, bool, (N,)."""
    from keras_bench.export.files import write_sums

    write_sums(folder)
    positions = positions_by_id(data.index, expected.ids)
    predicted = run_bundle(Bundle(folder, INT8_MODEL, threads=1), data.store, positions, title, log).argmax(axis=1)
    return np.asarray(predicted == expected.labels)
