"""Explains a finished run's predictions on test images, the same for every model, and checks the maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_bench.config.recipe import MAX_SEED
from keras_bench.config.schema import ExplainConfig
from keras_bench.console import Log
from keras_bench.evaluation.predictions import Predictions
from keras_bench.explain.choice import choice_lost, choose_images, restore_choice
from keras_bench.explain.records import (
    EXPLANATION_METHODS,
    RANDOM,
    ExplanationChecks,
    MethodScores,
    explanations_intact,
)
from keras_bench.files import write_bytes, write_record
from keras_bench.parallel import map_in_order
from keras_bench.reading import read_json
from keras_bench.runs.damage import FILES, digests_of, is_unreadable
from keras_bench.runs.data import Data, positions_of
from keras_bench.runs.fingerprint import changed_settings
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run
from keras_bench.runs.weights import require_final_phase

if TYPE_CHECKING:
    import keras

    from keras_bench.explain.checks import Predict
    from keras_bench.explain.maps import Explainer

LARGE_ENOUGH = 128  # pixels: a network that reduces the image by a factor of 32 leaves 4×4 cells
COMPARED = 8  # images on which the predictions of ONNX Runtime have to agree with Keras's


@dataclass(frozen=True)
class ExplainedBatch:
    """The images and predictions to explain.

    Attributes:
        images: the images as evaluation sees them, float32, (N, side, side, 3).
        predicted: the class predicted for each image, int64, (N,).
        boxes: box of each object, float64, (N, 4), as shares of the sides; NaN if unknown.
        drawn: the first `drawn` images are the unbiased draw that the checks use.
        layer: the layer whose activations the class-activation maps use.
        cells: cells per side for deletion, insertion and similarity.
    """

    images: np.ndarray
    predicted: np.ndarray
    boxes: np.ndarray
    drawn: int
    layer: str
    cells: int


def explain_finished(job: Job) -> bool:
    """Return whether checks.json belongs to the final phase's model and these settings; needs no TensorFlow."""
    return _maps_finished(job) and not choice_lost(job)


def damaged_explanations(job: Job) -> list[Path]:
    """Return the files of the explanations that are damaged; missing ones do not count."""
    checks, maps, choice = job.folder.explanation_checks, job.folder.explanations, job.experiment_folder.explained
    damaged = [path for path in (checks, choice) if is_unreadable(path)]
    return [*damaged, *([maps] if maps.is_file() and not explanations_intact(job.folder) else [])]


def _maps_finished(job: Job) -> bool:
    if not job.folder.explanation_checks.is_file() or is_unreadable(job.folder.explanation_checks):
        return False
    if not explanations_intact(job.folder):
        return False
    checks = read_json(job.folder.explanation_checks)
    if checks.get("layer_side") is None and job.image_size < LARGE_ENOUGH:
        return False  # made by an earlier version, whose maps of images this small had fewer than 4×4 cells
    recorded = checks.get("settings", {})
    return not changed_settings(recorded, _settings(job), ExplainConfig().model_dump(mode="json"))


def explain_run(run: Run) -> None:
    """Compute the maps of the final phase, check them, and write explanations.npz, then checks.json.

    If only the choice of images is missing, it is read from explanations.npz.
    """
    if _maps_finished(run.job):
        restore_choice(run.job, run.log)
        return
    from keras_bench.explain.cam import choose_cam_layer
    from keras_bench.explain.display import explanations_to_show
    from keras_bench.explain.maps import Explainer, enlarge
    from keras_bench.models.weights import load_model

    job, log, phase = run.job, run.log, run.final_phase
    test = Predictions.from_npz(job.folder.predictions(phase, "test"))
    rows, drawn = choose_images(job, test, log)
    model = load_model(job.folder.model(phase))
    cam = choose_cam_layer(model, job.backbone)
    subject = _batch(run, test, rows, drawn, cam.name)
    log.line(
        f"explanations of {phase}: {len(EXPLANATION_METHODS)} methods on {len(rows)} test images, then their checks"
    )
    if cam.note:
        log.line(cam.note)
    explainer = Explainer(model, subject.layer)
    unscaled = _maps(job, explainer, subject, log)
    maps = {method: enlarge(values, job.image_size) for method, values in unscaled.items()}
    curves = _curves(job, model, subject, maps, log)
    similarities = _similarities(run, model, explainer, subject, maps)
    checks = ExplanationChecks(
        phase=phase,
        layer=subject.layer,
        settings=_settings(job),
        ids=tuple(map(str, test.ids[rows[:drawn]])),
        correct=tuple(map(bool, test.correct[rows[:drawn]])),
        box_share=_box_shares(subject.boxes[:drawn]),
        scores=_all_scores(subject, unscaled, maps, curves, similarities),
        layer_side=cam.side,
        last_side=cam.last_side,
    )
    write_bytes(
        job.folder.explanations, explanations_to_show(test.ids[rows], subject.images, subject.predicted, maps).to_npz()
    )
    digests = {FILES: digests_of(job.folder.explanations.parent, [job.folder.explanations])}
    write_record(job.folder.explanation_checks, {**checks.to_json(), **digests})


def _settings(job: Job) -> dict[str, object]:
    """Return everything the scores depend on, including the identity of the model."""
    phase = require_final_phase(job.folder)
    result = job.folder.read_result(phase)
    assert result is not None  # a finished run has the result of its final phase
    model = {"phase": phase, "best_epoch": result.best_epoch, "trained": result.environment.get("time")}
    return {**job.config.explain.model_dump(mode="json"), **model, "data": result.inputs.get("data")}


def _batch(run: Run, test: Predictions, rows: np.ndarray, drawn: int, layer: str) -> ExplainedBatch:
    """Return the chosen test images with what their maps are computed and checked with."""
    positions = positions_of(run.data, "test")[rows]
    cells = min(run.config.explain.cells, run.job.image_size)
    pixels, boxes = _pixels(run, positions), _boxes(run.data, positions)
    return ExplainedBatch(pixels, test.predicted[rows], boxes, drawn, layer, cells)


def _pixels(run: Run, positions: np.ndarray) -> np.ndarray:
    """Return the images as evaluation sees them, float32, (N, side, side, 3)."""
    batches = [np.asarray(images) for images, _ in run.pipeline.evaluation(positions)]
    return np.concatenate(batches).astype(np.float32)


def _boxes(data: Data, positions: np.ndarray) -> np.ndarray:
    """Return the objects' boxes as shares of the image's sides, float64, (N, 4); NaN if unknown."""
    if data.index.boxes is None:
        return np.full((len(positions), 4), np.nan)
    shapes = [data.store.image(int(position)).shape for position in positions]
    sizes = np.array([(width, height, width, height) for height, width, _ in shapes], dtype=np.float64)
    return np.asarray(data.index.boxes[positions] / sizes)


def _box_shares(boxes: np.ndarray) -> tuple[float | None, ...]:
    """Return the share of the image that each box covers; None if the box is unknown."""
    shares = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return tuple(None if np.isnan(share) else float(share) for share in shares)


def _maps(job: Job, explainer: Explainer, subject: ExplainedBatch, log: Log) -> dict[str, np.ndarray]:
    """Return the maps of each method at its own resolution."""
    from keras_bench.explain.maps import compute_maps

    with log.progress("explanation maps", len(EXPLANATION_METHODS) * len(subject.images), "maps") as advance:
        return compute_maps(explainer, subject.images, subject.predicted, job.config.explain, advance)


def _curves(
    job: Job, model: keras.Model, subject: ExplainedBatch, maps: dict[str, np.ndarray], log: Log
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the deletion and insertion areas of each method and of the random map, over the first images drawn."""
    from keras_bench.explain.checks import (
        blurred,
        curve_predictions,
        deletion_and_insertion,
        evidence_order,
        random_order,
    )

    settings = job.config.explain
    count = min(settings.curve_images, subject.drawn)
    images, classes = subject.images[:count], subject.predicted[:count]
    orders = {method: evidence_order(maps[method][:count], subject.cells) for method in EXPLANATION_METHODS}
    orders[RANDOM] = random_order(count, subject.cells, settings.seed)
    total = curve_predictions(count, settings.steps, len(orders))
    predict = _predictor(model, images, total, log)
    with log.progress("deletion and insertion", total, "images") as advance:
        return deletion_and_insertion(predict, images, blurred(images), orders, classes, settings.steps, advance)


def _predictor(model: keras.Model, images: np.ndarray, total: int, log: Log) -> Predict:
    """Return the function from batches of images to probabilities, by the engine that computes `total` images sooner.

    Args:
        model: the model.
        images: some of the images to predict, on which ONNX Runtime has to agree with Keras.
        total: number of images to predict.
        log: the screen.
    """
    from keras_bench.evaluation.predict import BATCHES_AT_ONCE
    from keras_bench.models.forward import is_worth_converting, load_engine

    engine = "onnxruntime" if is_worth_converting(total * images[0, ..., 0].size) else "keras"
    forward, threads = load_engine(engine, model, images[:COMPARED], "probabilities", log)
    return lambda batches: map_in_order(forward, batches, max(threads, BATCHES_AT_ONCE))


def _similarities(
    run: Run, model: keras.Model, explainer: Explainer, subject: ExplainedBatch, maps: dict[str, np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """Return, for each method, the similarity to its maps after the head, then head and backbone, are randomised."""
    import keras

    from keras_bench.explain.checks import randomized, similarity
    from keras_bench.explain.maps import compute_maps, enlarge
    from keras_bench.models.build import HEAD, build_model

    job, log, settings = run.job, run.log, run.config.explain
    count = min(settings.randomized_images, subject.drawn)
    images, classes = subject.images[:count], subject.predicted[:count]
    # Not the run's own seed, which would give a randomly initialised backbone the same weights again.
    keras.utils.set_random_seed((job.request.seed + settings.seed + 1) % (MAX_SEED + 1))
    fresh = build_model(run.model_spec)
    similarities: dict[str, list[np.ndarray]] = {method: [] for method in EXPLANATION_METHODS}
    with log.progress("randomised weights", 2 * len(EXPLANATION_METHODS) * count, "maps") as advance:
        for with_backbone in (False, True):
            with randomized(model, fresh, HEAD, with_backbone):
                explainer.refresh()
                changed = compute_maps(explainer, images, classes, settings, advance)
                for method, values in changed.items():
                    enlarged = enlarge(values, job.image_size)
                    similarities[method].append(similarity(maps[method][:count], enlarged, subject.cells))
    return similarities


def _all_scores(
    subject: ExplainedBatch,
    unscaled: dict[str, np.ndarray],
    maps: dict[str, np.ndarray],
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
    similarities: dict[str, list[np.ndarray]],
) -> dict[str, MethodScores]:
    """Return the scores of each method and of the random map."""
    scores = {
        method: _scores(subject, unscaled[method], maps[method], curves[method], similarities[method])
        for method in EXPLANATION_METHODS
    }
    return {**scores, RANDOM: _random_scores(curves[RANDOM], subject.drawn)}


def _scores(
    subject: ExplainedBatch,
    unscaled: np.ndarray,
    maps: np.ndarray,
    curves: tuple[np.ndarray, np.ndarray],
    similarities: list[np.ndarray],
) -> MethodScores:
    """Return the scores of one method from its maps at their own resolution and enlarged to the image."""
    from keras_bench.explain.checks import mass_in_box, pointing_hits

    boxes, drawn = subject.boxes[: subject.drawn], subject.drawn
    deletion, insertion = _padded(curves, drawn)
    head, backbone = _padded(similarities, drawn)
    hits, mass = pointing_hits(unscaled[:drawn], boxes), mass_in_box(maps[:drawn], boxes)
    return MethodScores(deletion, insertion, tuple(hits), tuple(mass), head, backbone)


def _random_scores(curves: tuple[np.ndarray, np.ndarray], drawn: int) -> MethodScores:
    """Return the scores of the random map, which has only curves."""
    (deletion, insertion), missing = _padded(curves, drawn), (None,) * drawn
    return MethodScores(deletion, insertion, missing, missing, missing, missing)


def _padded(columns: Sequence[np.ndarray], count: int) -> list[tuple[float | None, ...]]:
    """Return each column as plain numbers, padded to `count` images with None."""
    return [(*map(float, column), *(None,) * (count - len(column))) for column in columns]
