"""Chooses which explained test images the report shows, for all models side by side. No TensorFlow."""

import numpy as np

from keras_bench.evaluation.predictions import Predictions
from keras_bench.explain.records import Explanations
from keras_bench.report.comparison import ExplainedImage, ModelExplanation
from keras_bench.runs.folders import RunDir
from keras_bench.runs.weights import finished_phase

# How many images of each kind are wanted; what one kind lacks, the others fill.
WANTED = {"all wrong": 3, "they disagree": 2, "all correct": 3}


def explained_images(runs: list[RunDir], labels: list[str]) -> list[ExplainedImage]:
    """Return up to eight images that every model explained, with its maps and its prediction.

    The rule is fixed and looks at no map: in the seeded order in which the images were drawn, the first that all
    models get wrong, that they disagree on, and that all get correct.

    Args:
        runs: finished runs.
        labels: one for each.
    """
    found = [Explanations.from_npz(run.explanations) for run in runs if run.explanations.is_file()]
    if len(found) < len(runs) or not found:
        return []
    tests = [Predictions.from_npz(run.predictions(finished_phase(run), "test")) for run in runs]
    places = [{str(name): i for i, name in enumerate(test.ids)} for test in tests]
    shared = [str(name) for name in found[0].ids if all(str(name) in set(one.ids.tolist()) for one in found[1:])]
    kinds = {
        name: _agreement_kind([test.correct[place[name]] for test, place in zip(tests, places, strict=True)])
        for name in shared
    }
    images = []
    for name in _choose(kinds):
        models = []
        for label, one, test, place in zip(labels, found, tests, places, strict=True):
            row = int(np.flatnonzero(one.ids == name)[0])
            predicted = int(test.predicted[place[name]])
            maps = {method: values[row] for method, values in one.maps.items()}
            models.append(ModelExplanation(label, predicted, float(test.confidence[place[name]]), maps))
        first = int(np.flatnonzero(found[0].ids == name)[0])
        true = int(tests[0].labels[places[0][name]])
        images.append(ExplainedImage(name, true, found[0].images[first], kinds[name], models))
    return images


def _agreement_kind(correct: list[bool]) -> str:
    if all(correct):
        return "all correct"
    return "they disagree" if any(correct) else "all wrong"


def _choose(kinds: dict[str, str]) -> list[str]:
    chosen = [name for kind, count in WANTED.items() for name in [n for n, k in kinds.items() if k == kind][:count]]
    spare = [name for name in kinds if name not in chosen]
    return chosen + spare[: sum(WANTED.values()) - len(chosen)]
