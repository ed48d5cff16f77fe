"""Chooses the test images to explain, the same for every model of an experiment. No TensorFlow."""

from collections.abc import Mapping

import numpy as np

from keras_bench.console import Log
from keras_bench.evaluation.predictions import Predictions
from keras_bench.explain.records import Explanations
from keras_bench.files import write_record
from keras_bench.reading import read_record
from keras_bench.runs.damage import is_unreadable
from keras_bench.runs.job import Job

WRONG = 8  # wrong predictions to explain, however accurate the model


def choose_images(job: Job, test: Predictions, log: Log) -> tuple[np.ndarray, int]:
    """Return the test images to explain, the same for every model of the experiment, and how many were drawn.

    First comes a seeded draw from the ids, independent of any model's predictions, so the checks over it are unbiased.
    If it holds fewer than eight wrong predictions of the experiment's first run, more of these follow, so that mistakes
    can be inspected.

    Returns:
        rows of `test`, int64, and the length of the draw.
    """
    settings = job.config.explain
    row_of = {str(name): row for row, name in enumerate(test.ids)}
    names = np.array(sorted(row_of))
    count = min(settings.images, len(names))
    draw = [str(name) for name in np.random.default_rng(settings.seed).permutation(names)[:count]]
    with job.experiment_folder.lock_explained(log):  # two runs at the same time must not choose differently
        chosen = _earlier_choice(job, draw, row_of)
        if chosen is None:
            chosen = draw + _more_mistakes(draw, names, test, settings.seed)
            _write_choice(job, chosen, {"wrong_answers_of": job.folder.label})
    return np.array([row_of[name] for name in chosen], dtype=np.int64), count


def _more_mistakes(draw: list[str], names: np.ndarray, test: Predictions, seed: int) -> list[str]:
    """Return ids of wrong predictions outside the draw, as many as the draw lacks."""
    wrong = {str(name) for name in test.ids[~test.correct]}
    not_drawn = wrong - set(draw)
    order = map(str, np.random.default_rng(seed).permutation(names))
    return [name for name in order if name in not_drawn][: max(0, WRONG - len(wrong & set(draw)))]


def _earlier_choice(job: Job, draw: list[str], row_of: dict[str, int]) -> list[str] | None:
    """Return the choice of the experiment's first run if it begins with the same draw, else None."""
    explained = job.experiment_folder.explained
    if not explained.is_file() or is_unreadable(explained):
        return None
    ids = read_record(explained, lambda content: list(content["ids"]))
    fits = ids[: len(draw)] == draw and len(ids) <= len(draw) + WRONG and all(name in row_of for name in ids)
    return ids if fits else None


def choice_lost(job: Job) -> bool:
    """Return whether explained.json is missing or damaged."""
    explained = job.experiment_folder.explained
    return not explained.is_file() or is_unreadable(explained)


def restore_choice(job: Job, log: Log) -> None:
    """Write explained.json again with the images that a run's explanations.npz holds."""
    with job.experiment_folder.lock_explained(log):
        if choice_lost(job):
            _write_choice(job, Explanations.from_npz(job.folder.explanations).ids.tolist(), {})


def _write_choice(job: Job, ids: list[str], origin: Mapping[str, str]) -> None:
    """Write explained.json; `origin` names the run whose mistakes follow the draw, if it is known."""
    settings = job.config.explain
    drawn = min(settings.images, len(ids))
    write_record(job.experiment_folder.explained, {"ids": ids, "drawn": drawn, "seed": settings.seed, **origin})
