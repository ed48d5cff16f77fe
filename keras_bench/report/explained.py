"""Chooses the explained test images that the report shows, with all models side by side. No TensorFlow."""

from keras_bench.explain.records import Explanations, explanations_intact
from keras_bench.report.comparison import ExplainedImage, ModelExplanation
from keras_bench.report.phase_predictions import phase_predictions
from keras_bench.runs.folders import RunDir

# Number of images to show of each kind; if there are too few of one kind, more of the others are shown.
IMAGES_PER_KIND = {"all wrong": 3, "they disagree": 2, "all correct": 3}


def explained_images(runs: list[RunDir], labels: list[str]) -> list[ExplainedImage]:
    """Return up to eight images that were explained for every model, with each model's maps and prediction.

    The rule is fixed and does not depend on the maps: in the seeded order in which the images were drawn, it takes the
    first ones that all models get wrong, that they disagree on, and that all get correct.

    Args:
        runs: finished runs.
        labels: one label per run.
    """
    explanations = [Explanations.from_npz(run.explanations) for run in runs if explanations_intact(run)]
    if len(explanations) < len(runs) or not explanations:
        return []
    tests = [phase_predictions(run, "test") for run in runs]
    rows = [{str(id_): row for row, id_ in enumerate(explained.ids)} for explained in explanations]
    positions = [{str(id_): position for position, id_ in enumerate(test.ids)} for test in tests]
    kinds = {
        id_: _agreement([test.correct[of_id[id_]] for test, of_id in zip(tests, positions, strict=True)])
        for id_ in rows[0]
        if all(id_ in of_id for of_id in rows)
    }
    images = []
    for id_ in _choose(kinds):
        models = []
        for number, (label, explained, test) in enumerate(zip(labels, explanations, tests, strict=True)):
            row, position = rows[number][id_], positions[number][id_]
            maps = {method: values[row] for method, values in explained.maps.items()}
            models.append(
                ModelExplanation(label, int(test.predicted[position]), float(test.confidence[position]), maps)
            )
        true = int(tests[0].labels[positions[0][id_]])
        images.append(ExplainedImage(id_, true, explanations[0].images[rows[0][id_]], kinds[id_], models))
    return images


def _agreement(correct: list[bool]) -> str:
    if all(correct):
        return "all correct"
    return "they disagree" if any(correct) else "all wrong"


def _choose(kinds: dict[str, str]) -> list[str]:
    """Return the ids of the images to show, from the kind of each image by id."""
    chosen: list[str] = []
    for kind, count in IMAGES_PER_KIND.items():
        chosen += [id_ for id_ in kinds if kinds[id_] == kind][:count]
    others = [id_ for id_ in kinds if id_ not in chosen]
    return chosen + others[: sum(IMAGES_PER_KIND.values()) - len(chosen)]
