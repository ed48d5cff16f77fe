"""Explains a finished run's predictions on test images, the same ones for every model, and checks the maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_bench.config.schema import ExplainConfig
from keras_bench.console import Log
from keras_bench.evaluation.predictions import Predictions
from keras_bench.explain.records import EXPLANATION_METHODS, RANDOM, ExplanationChecks, Explanations, MethodScores
from keras_bench.files import write_bytes, write_json
from keras_bench.reading import read_json, read_record
from keras_bench.runs.data import Data, positions_of
from keras_bench.runs.fingerprint import changed_settings
from keras_bench.runs.job import Job
from keras_bench.runs.run import Run
from keras_bench.runs.weights import finished_phase

if TYPE_CHECKING:
    import keras

WRONG = 8  # wrong predictions that can be shown, however accurate the model
IMAGE_SIDE, MAP_SIDE = 128, 64  # of what is kept for display, pixels at most
LARGE_ENOUGH = 128  # pixels: networks that reduce an image 32 times leave 4×4 cells of it
SALIENCY_TOP = 99  # percentile that is shown brightest: one pixel must not blacken the rest


@dataclass(frozen=True)
class ExplainedBatch:
    """What is explained.

    Attributes:
        images: float32, (N, side, side, 3), as evaluation saw them.
        predicted: int64, (N,), the model's.
        boxes: float64, (N, 4), as shares of the side; NaN where unknown.
        drawn: how many of them, from the first, are the unbiased draw that the checks use.
        layer: whose activations the class-activation maps use.
        cells: squares per side of deletion, insertion and similarity.
    """

    images: np.ndarray
    predicted: np.ndarray
    boxes: np.ndarray
    drawn: int
    layer: str
    cells: int


def explain_finished(job: Job) -> bool:
    """Return whether checks.json holds for the final phase and these settings; needs no TensorFlow."""
    if not (job.folder.explanation_checks.is_file() and job.folder.explanations.is_file()):
        return False
    checks = read_json(job.folder.explanation_checks)
    if checks.get("layer_side") is None and job.image_size < LARGE_ENOUGH:
        return False  # of an earlier version, whose maps of so small images had fewer than 4×4 cells
    before = checks.get("settings", {})
    return not changed_settings(before, _settings(job), ExplainConfig().model_dump(mode="json"))


def explain_run(run: Run) -> None:
    """Compute the maps of the final phase, check them, and write explanations.npz, then checks.json."""
    from keras_bench.explain.cam import choose_cam_layer
    from keras_bench.explain.maps import enlarge, linear_view
    from keras_bench.models.weights import load_model

    job, data, log, phase = run.job, run.data, run.log, run.final_phase
    test = Predictions.from_npz(job.folder.predictions(phase, "test"))
    rows, drawn = choose_images(job, test, log)
    model = load_model(job.folder.model(phase))
    cells = min(job.config.explain.cells, job.image_size)
    positions = positions_of(data, "test")[rows]
    boxes = _boxes(data, positions)
    cam = choose_cam_layer(model, job.backbone)
    subject = ExplainedBatch(_pixels(run, positions), test.predicted[rows], boxes, drawn, cam.name, cells)
    log.line(
        f"explanations of {phase}: {len(EXPLANATION_METHODS)} methods on {len(rows)} test images, then deletion, "
        f"insertion and randomised weights"
    )
    if cam.note:
        log.line(cam.note)
    view = linear_view(model)
    own = _maps(job, view, subject, log)
    maps = {method: enlarge(values, job.image_size) for method, values in own.items()}
    curves = _curves(job, model, subject, maps, log)
    similarities = _similarities(run, model, view, subject, maps)
    scores = {
        method: _scores(subject, own[method], maps[method], curves[method], similarities[method])
        for method in EXPLANATION_METHODS
    }
    scores[RANDOM] = _random_scores(curves[RANDOM], drawn)
    shares = (boxes[:drawn, 2] - boxes[:drawn, 0]) * (boxes[:drawn, 3] - boxes[:drawn, 1])
    checks = ExplanationChecks(
        phase=phase,
        layer=subject.layer,
        settings=_settings(job),
        ids=tuple(map(str, test.ids[rows[:drawn]])),
        correct=tuple(map(bool, test.correct[rows[:drawn]])),
        box_share=tuple(None if np.isnan(share) else float(share) for share in shares),
        scores=scores,
        layer_side=cam.side,
        last_side=cam.last_side,
    )
    shown = {method: _for_display(method, values) for method, values in maps.items()}
    pictures = _reduced(subject.images, IMAGE_SIDE).round().clip(0, 255).astype(np.uint8)
    write_bytes(job.folder.explanations, Explanations(test.ids[rows], pictures, shown, subject.predicted).to_npz())
    write_json(job.folder.explanation_checks, checks.to_json())


def choose_images(job: Job, test: Predictions, log: Log) -> tuple[np.ndarray, int]:
    """Return which test images are explained, the same for every model of the experiment, and how many were drawn.

    A seeded draw from the ids, whatever any model predicted, so that the checks over it are unbiased; after it up to
    eight wrong predictions of the experiment's first run, where the draw holds fewer, so that mistakes can be seen.

    Returns:
        int64, rows of `test`, and the length of the draw.
    """
    settings = job.config.explain
    place = {str(name): i for i, name in enumerate(test.ids)}
    names = np.array(sorted(place))
    count = min(settings.images, len(names))
    draw = [str(name) for name in np.random.default_rng(settings.seed).permutation(names)[:count]]
    with job.experiment_folder.lock_explained(log):  # two first runs at a time must not choose differently
        chosen = _earlier_choice(job, draw, place)
        if chosen is None:
            chosen = draw + _more_mistakes(draw, names, test, settings.seed)
            content = {"ids": chosen, "drawn": count, "seed": settings.seed, "wrong_answers_of": job.folder.label}
            write_json(job.experiment_folder.explained, content)
    return np.array([place[name] for name in chosen], dtype=np.int64), count


def _more_mistakes(draw: list[str], names: np.ndarray, test: Predictions, seed: int) -> list[str]:
    """Return wrong predictions that are not drawn, as many as the draw lacks of those that can be shown."""
    wrong = {str(name) for name in test.ids[~test.correct]}
    spare = wrong - set(draw)
    order = map(str, np.random.default_rng(seed).permutation(names))
    return [name for name in order if name in spare][: max(0, WRONG - len(wrong & set(draw)))]


def _earlier_choice(job: Job, draw: list[str], place: dict[str, int]) -> list[str] | None:
    """Return the choice of the experiment's first run where it begins with the same draw."""
    if not job.experiment_folder.explained.is_file():
        return None
    ids = read_record(job.experiment_folder.explained, lambda content: list(content["ids"]))
    fits = ids[: len(draw)] == draw and len(ids) <= len(draw) + WRONG and all(name in place for name in ids)
    return ids if fits else None


def _settings(job: Job) -> dict[str, Any]:
    """Return everything the scores depend on, the model that is explained included."""
    phase = finished_phase(job.folder)
    result = job.folder.read_result(phase)
    assert result is not None  # a finished run has the result of its final phase
    made = {"phase": phase, "best_epoch": result.best_epoch, "trained": result.environment.get("time")}
    return {**job.config.explain.model_dump(mode="json"), **made, "data": result.inputs.get("data")}


def _pixels(run: Run, positions: np.ndarray) -> np.ndarray:
    """Return the images as evaluation feeds them, float32, (N, side, side, 3)."""
    batches = [np.asarray(images) for images, _ in run.pipeline.evaluation(positions)]
    return np.concatenate(batches).astype(np.float32)


def _boxes(data: Data, positions: np.ndarray) -> np.ndarray:
    """Return the objects' boxes as shares of the image's sides, float64, (N, 4); NaN where unknown."""
    if data.index.boxes is None:
        return np.full((len(positions), 4), np.nan)
    shapes = [data.store.image(int(position)).shape for position in positions]
    sizes = np.array([(width, height, width, height) for height, width, _ in shapes], dtype=np.float64)
    return np.asarray(data.index.boxes[positions] / sizes)


def _maps(job: Job, view: keras.Model, subject: ExplainedBatch, log: Log) -> dict[str, np.ndarray]:
    from keras_bench.explain.maps import compute_maps

    maps = {}
    with log.progress("explanation maps", len(EXPLANATION_METHODS) * len(subject.images), "maps") as advance:
        for method in EXPLANATION_METHODS:
            maps[method] = compute_maps(
                view, subject.images, subject.predicted, method, subject.layer, job.config.explain, advance
            )
    return maps


def _curves(
    job: Job, model: keras.Model, subject: ExplainedBatch, maps: dict[str, np.ndarray], log: Log
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the deletion and insertion areas of each method and of the random map, on the first images drawn."""
    from keras_bench.explain.checks import blurred, deletion_and_insertion, evidence_order, random_order

    settings = job.config.explain
    count = min(settings.curve_images, subject.drawn)
    images, classes = subject.images[:count], subject.predicted[:count]
    background = blurred(images)
    orders = {method: evidence_order(maps[method][:count], subject.cells) for method in EXPLANATION_METHODS}
    orders[RANDOM] = random_order(count, subject.cells, settings.seed)

    def predict(batch: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict(batch, batch_size=job.config.training.portion_size, verbose=0))

    with log.progress("deletion and insertion", len(orders) * 2 * (settings.steps + 1) * count, "images") as advance:
        return {
            method: deletion_and_insertion(predict, images, background, order, classes, settings.steps, advance)
            for method, order in orders.items()
        }


def _similarities(
    run: Run, model: keras.Model, view: keras.Model, subject: ExplainedBatch, maps: dict[str, np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """Return for each method the similarity of its maps after the head, then also the backbone, was randomised."""
    import keras

    from keras_bench.explain.checks import randomized, similarity
    from keras_bench.explain.maps import compute_maps, enlarge, refresh_view
    from keras_bench.models.build import HEAD, build_model

    job, log, settings = run.job, run.log, run.config.explain
    count = min(settings.randomized_images, subject.drawn)
    # Not the run's own seed: a backbone that began at random would get the very weights it has.
    keras.utils.set_random_seed(job.request.seed + settings.seed + 1)
    fresh = build_model(run.model_spec)
    found: dict[str, list[np.ndarray]] = {method: [] for method in EXPLANATION_METHODS}
    with log.progress("randomised weights", 2 * len(EXPLANATION_METHODS) * count, "maps") as advance:
        for with_backbone in (False, True):
            with randomized(model, fresh, HEAD, with_backbone):
                refresh_view(view, model)
                for method in EXPLANATION_METHODS:
                    images, classes = subject.images[:count], subject.predicted[:count]
                    changed = compute_maps(view, images, classes, method, subject.layer, settings, advance)
                    changed = enlarge(changed, job.image_size)
                    found[method].append(similarity(maps[method][:count], changed, subject.cells))
    return found


def _scores(
    subject: ExplainedBatch,
    own: np.ndarray,
    maps: np.ndarray,
    curves: tuple[np.ndarray, np.ndarray],
    similarities: list[np.ndarray],
) -> MethodScores:
    from keras_bench.explain.checks import mass_in_box, pointing

    boxes, drawn = subject.boxes[: subject.drawn], subject.drawn
    deletion, insertion = _padded(curves, drawn)
    head, backbone = _padded(similarities, drawn)
    hits, mass = pointing(own[:drawn], boxes), mass_in_box(maps[:drawn], boxes)
    return MethodScores(deletion, insertion, tuple(hits), tuple(mass), head, backbone)


def _random_scores(curves: tuple[np.ndarray, np.ndarray], drawn: int) -> MethodScores:
    """Return the scores of a random map, which has curves only."""
    deletion, insertion = _padded(curves, drawn)
    nothing = (None,) * drawn
    return MethodScores(deletion, insertion, nothing, nothing, nothing, nothing)


def _padded(columns: Any, count: int) -> list[tuple[float | None, ...]]:
    """Return each column as plain numbers, None for the images it was not computed for."""
    return [(*map(float, column), *(None,) * (count - len(column))) for column in columns]


def _for_display(method: str, maps: np.ndarray) -> np.ndarray:
    """Return the maps reduced and each scaled to [0, 255] by its own strongest evidence, uint8."""
    small = _reduced(maps[..., None], MAP_SIDE)[..., 0]
    share = SALIENCY_TOP if method in ("saliency", "smoothgrad") else 100
    top = np.percentile(small, share, axis=(1, 2), keepdims=True)
    return (255 * np.clip(small / np.where(top > 0, top, 1), 0, 1)).round().astype(np.uint8)


def _reduced(images: np.ndarray, side: int) -> np.ndarray:
    """Return images averaged down to at most `side` pixels a side, float64, (N, side, side, channels)."""
    from keras_bench.explain.checks import cell_means

    if images.shape[1] <= side:
        return images.astype(np.float64)
    return np.stack([cell_means(images[..., k], side) for k in range(images.shape[-1])], axis=-1)
