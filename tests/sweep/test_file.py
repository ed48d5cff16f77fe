"""Sweep files: how they are read, and one helpful line for each kind of mistake."""

from pathlib import Path

import pytest

from keras_bench.config import load_experiment
from keras_bench.config.load import flatten
from keras_bench.errors import UserError
from keras_bench.sweep.file import load_sweep
from keras_bench.sweep.points import Point, SearchRange, nest
from tests.checks import check_head_comment

SWEEPS = Path(__file__).parents[2] / "experiments" / "sweeps"


def load(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_sweep(str(path))


def test_a_grid_varies_its_last_key_fastest(tmp_path):
    sweep = load(tmp_path, "experiment: digits\ngrid: {model.dropout: [0.2, 0.4], tl.optimizer: [adam, sgd]}\n")
    assert [tuple(point.settings.values()) for point in sweep.points] == [
        (0.2, "adam"), (0.2, "sgd"), (0.4, "adam"), (0.4, "sgd"),
    ]  # fmt: skip
    assert sweep.points[0] == Point({"model.dropout": 0.2, "tl.optimizer": "adam"})
    assert sweep.baseline is sweep.points[0]
    assert (sweep.name, sweep.models, sweep.phase, sweep.seeds, sweep.fixed) == ("study", (), None, (0,), {})


def test_points_keep_their_order_keys_and_names(tmp_path):
    text = (
        "experiment: digits\nbaseline: b\npoints: [{name: a}, {name: b, tl.epochs: 3}, {augmentation.zoom: [0, 0.1]}]\n"
    )
    sweep = load(tmp_path, text)
    assert sweep.points == (Point({}, "a"), Point({"tl.epochs": 3}, "b"), Point({"augmentation.zoom": [0, 0.1]}))
    assert sweep.baseline is sweep.points[1]


def test_the_baseline_is_the_first_point_with_its_values(tmp_path):
    grid = "grid: {model.dropout: [0.2, 0.4], tl.optimizer: [adam, sgd]}\n"
    assert load(tmp_path, "experiment: digits\nbaseline: {tl.optimizer: sgd}\n" + grid).baseline.settings == {
        "model.dropout": 0.2,
        "tl.optimizer": "sgd",
    }


def test_a_search_has_ranges_and_choices(tmp_path):
    text = (
        "experiment: digits\nmodels: [VGG16, VGG19]\nphase: tl\nseeds: [2, 0]\nset: {tl.epochs: 2}\n"
        "search: {method: random, trials: 5, seed: 3, space: {tl.learning_rate: {low: 1e-5, high: 1e-2, log: true}, "
        "augmentation.zoom: [[0, 0], [-0.1, 0.1]]}}\nbaseline: {augmentation.zoom: [0, 0], tl.learning_rate: 1e-3}\n"
    )
    sweep = load(tmp_path, text)
    assert (sweep.models, sweep.phase, sweep.seeds, sweep.points) == (("VGG16", "VGG19"), "tl", (2, 0), ())
    assert (sweep.search.method, sweep.search.trials, sweep.search.seed) == ("random", 5, 3)
    assert sweep.search.space == {
        "tl.learning_rate": SearchRange(1e-5, 1e-2, True),
        "augmentation.zoom": ([0, 0], [-0.1, 0.1]),
    }
    assert list(sweep.baseline.settings) == ["tl.learning_rate", "augmentation.zoom"]


def test_parts_that_follow_training_are_off_unless_the_file_sets_them(tmp_path):
    experiment = load_experiment("digits")
    without = load(tmp_path, "experiment: digits\ngrid: {model.dropout: [0.2, 0.4]}\n")
    config = experiment.resolve("MobileNet", without.layers(without.points[1]))
    assert [config.explain.enabled, config.latency.enabled, config.export.enabled] == [False] * 3
    assert config.model.dropout == 0.4
    fixed = "set: {export.enabled: true, model.dropout: 0.1, tl.epochs: 2}\n"
    sweep = load(tmp_path, "experiment: digits\n" + fixed + "grid: {model.dropout: [0.2]}\n")
    config = experiment.resolve("MobileNet", sweep.layers(sweep.points[0]))
    assert (config.export.enabled, config.latency.enabled) == (True, False)
    assert (config.model.dropout, config.tl.epochs) == (0.2, 2)  # the point is stronger than `set`


def test_dotted_keys_and_trees_convert_into_each_other():
    tree = {"model": {"dropout": 0.2, "l2": 0}, "title": "x"}
    assert nest({"model.dropout": 0.2, "model.l2": 0, "title": "x"}) == tree
    assert flatten(tree) == {"model.dropout": 0.2, "model.l2": 0, "title": "x"}


GRID = "grid: {model.dropout: [0.2, 0.4]}\n"
SPACE = "search: {method: random, trials: 2, space: {model.dropout: {low: 0.1, high: 0.5}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GRID + "basline: x", r"study.yaml: basline: unknown key 'basline'; did you mean 'baseline'"),
        ("title: x", r"study.yaml: expected one of grid, points and search, received none of them"),
        (GRID + SPACE, r"expected one of grid, points and search, received grid and search"),
        (GRID + "title: 3", r"study.yaml: title: expected text, received 3"),
        (GRID + "models: MobileNet", r"models: expected a list of backbones, e.g. \[MobileNet\], received 'MobileNet'"),
        (GRID + "models: [MobilNet]", r"study.yaml: models: unknown model 'MobilNet'; did you mean 'MobileNet"),
        (GRID + "phase: fit", r"study.yaml: phase: expected one of scratch, tl, ft, received 'fit'"),
        (GRID + "seeds: 3", r"study.yaml: seeds: expected a list of whole numbers from 0 to 4294967295, received 3"),
        (
            GRID + "seeds: [0, true]",
            r"seeds: expected a list of whole numbers from 0 to 4294967295, received \[0, True\]",
        ),
        (GRID + "set: [1]", r"study.yaml: set: expected keys and values, e.g. \{model.dropout: 0.2\}, received \[1\]"),
        (
            GRID + "set: {model.dropot: 1}",
            r"set: model.dropot: unknown key 'model.dropot'; did you mean 'model.dropout'",
        ),
        (GRID + "set: {dropout: 1}", r"set: dropout: unknown key 'dropout'; did you mean 'model.dropout'"),
        (GRID + "set: {model: {dropout: 1}}", r"set: model: expected full dotted keys, e.g. \{model.dropout: 0.2\}"),
        (GRID + "set: {name: x}", r"set: name: the experiment's name is the folder of its runs"),
        (GRID + "set: {tl.epochs.x: 1}", r"set: tl.epochs.x: unknown key"),
        (
            GRID + "baseline: {tl.epochs: 3}",
            r"baseline: expected the name or values of a point, received .* matches none of them",
        ),
        (GRID + "baseline: {model.dropout: 0.3}", r"baseline: expected the name or values of a point"),
        (GRID + "baseline: none", r"study.yaml: baseline: unknown point 'none'"),
        ("grid: {model.dropot: [1]}", r"study.yaml: grid: model.dropot: unknown key"),
        (
            "grid: {model.dropout: 0.2}",
            r"grid: model.dropout: expected a list of values, e.g. \[0.2, 0.4\], received 0.2",
        ),
        ("grid: {model.dropout: []}", r"grid: model.dropout: expected a list of values.*received \[\]"),
        ("grid: {}", r"study.yaml: grid: expected at least one key with its values"),
        ("points: {}", r"study.yaml: points: expected a list, e.g. \[\{model.dropout: 0.2\}\], received \{\}"),
        ("points: [3]", r"study.yaml: points: 1: expected keys and values.*received 3"),
        ("points: [{name: 3}]", r"points: 1: name: expected text, received 3; put it in quotes"),
        ("points: [{name: a}, {name: a}]", r"points: 2: name: 'a' is already the name of another point"),
        ("points: [{}, {tl.epoch: 3}]", r"points: 2: tl.epoch: unknown key 'tl.epoch'; did you mean 'tl.epochs'"),
        ("search: 3", r"study.yaml: search: expected the keys method, trials, seed, space, received 3"),
        ("search: {methd: random}", r"search: methd: unknown key 'methd'; did you mean 'method'"),
        ("search: {method: grid}", r"search: method: expected random or bayesian, received 'grid'"),
        (
            "search: {method: random}",
            r"search: trials: expected a whole number of at least 1 and at most 10,000, received None",
        ),
        ("search: {method: random, trials: 2, seed: -1}", r"search: seed: expected a whole number of at least 0"),
        ("search: {method: random, trials: 2}", r"search: space: expected keys with their ranges or values"),
        (SPACE.replace("low: 0.1", "low: 0.6"), r"space: model.dropout: expected finite numbers low < high"),
        (SPACE.replace("low: 0.1", "lo: 0.1"), r"space: model.dropout: lo: unknown key 'lo'; did you mean 'low'"),
        (
            SPACE.replace("low: 0.1", "log: 3, low: 0.1"),
            r"space: model.dropout: log: expected true or false, received 3",
        ),
        (SPACE.replace("low: 0.1", "log: true, low: 0"), r"low: expected more than 0 where log is true, received 0"),
        (SPACE.replace("{low: 0.1, high: 0.5}", "[]"), r"space: model.dropout: expected a list of values"),
        (SPACE.replace("model.dropout", "model.drop"), r"search: space: model.drop: unknown key"),
        (SPACE + "baseline: {}", r"baseline: expected a value for each key of search.space, received \{\}"),
        (
            SPACE + "baseline: {model.dropout: 0.6}",
            r"baseline: model.dropout: expected a value within search.space, received 0.6",
        ),
        ("a: [", r"study.yaml: not valid YAML"),
        ("grid: {model.dropout: [1], model.dropout: [2]}", r"study.yaml: not valid YAML .*duplicate key"),
    ],
)
def test_every_error_names_the_file_the_key_and_what_was_expected(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, "experiment: digits\n" + text)


def test_a_sweep_needs_an_experiment(tmp_path):
    with pytest.raises(UserError, match=r"study.yaml: experiment: expected text, received None"):
        load(tmp_path, GRID)


def test_included_sweeps_are_found_by_name_and_an_unknown_name_gets_a_suggestion():
    assert load_sweep("dropout").points[1].settings == {"model.dropout": 0.4}
    with pytest.raises(UserError, match=r"sweep: unknown sweep 'dropuot'; did you mean 'dropout'"):
        load_sweep("dropuot")
    with pytest.raises(UserError, match=r"sweep: no file 'nowhere.yaml'"):
        load_sweep("nowhere.yaml")


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_included_sweep_has_a_head_comment(path):
    check_head_comment(path, "experiments/sweeps")
