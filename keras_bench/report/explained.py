"""Chooses the explained test images that the report shows, with all models side by side. No TensorFlow."""

from collections.abc import Sequence

from keras_bench.evaluation.records import MethodVerdict
from keras_bench.explain.records import Explanations, explanations_intact
from keras_bench.report.comparison import ExplainedImage, ModelExplanation
from keras_bench.report.phase_predictions import phase_predictions
from keras_bench.runs.folders import RunDir

# Number of images to show of each kind; if there are too few of one kind, more of the others are shown.
IMAGES_PER_KIND = {"all wrong": 3, "they disagree": 2, "all correct": 3}
SAMPLES = 6  # images of the first screen
FAMILIAR = "gradcam"  # the method that most readers know


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


def sample_images(run: RunDir, label: str) -> list[ExplainedImage]:
    """Return the first six explained test images of a run, in the seeded order in which they were drawn.

    Neither the answers nor the maps play a part in the choice, so wrong answers are about as frequent as in test.

    Args:
        run: a finished run.
        label: its label.
    """
    if not explanations_intact(run):
        return []
    explained, test = Explanations.from_npz(run.explanations), phase_predictions(run, "test")
    positions = {str(id_): position for position, id_ in enumerate(test.ids)}
    images = []
    for row, id_ in enumerate(map(str, explained.ids)):
        position = positions.get(id_)
        if position is not None and int(explained.explained[row]) == int(test.predicted[position]):
            maps = {method: values[row] for method, values in explained.maps.items()}
            answer = ModelExplanation(label, int(test.predicted[position]), float(test.confidence[position]), maps)
            kind = _agreement([bool(test.correct[position])])
            images.append(ExplainedImage(id_, int(test.labels[position]), explained.images[row], kind, [answer]))
    return images[:SAMPLES]


def shown_method(verdicts: Sequence[MethodVerdict]) -> str:
    """Return the method whose maps stand for all: Grad-CAM, unless it fails a check that another method passes.

    Of several others that pass, it is the one with the largest gain.
    """
    passed = {verdict.method: verdict.gain.value for verdict in verdicts if passes_checks(verdict)}
    return max(passed, key=passed.__getitem__) if passed and FAMILIAR not in passed else FAMILIAR


def passes_checks(verdict: MethodVerdict) -> bool:
    """Return whether a method beats random maps, and no check found that its maps ignore the weights."""
    ignores = verdict.changes_with_head is False or verdict.changes_with_backbone is False
    return verdict.beats_random and not ignores


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
