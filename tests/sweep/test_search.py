"""A search with Optuna: after an interruption it draws the same values as without one and loses no trial."""

import csv
import re
import sys

import pytest

from keras_bench.errors import UserError
from keras_bench.sweep.folder import sweep_folder
from keras_bench.sweep.plan import plan_sweep
from keras_bench.sweep.points import SearchRange
from tests.made_sweep import FakeRunner, request, sweep


def space(trials=4, method="random", more="", seed=0):
    return (
        f"search: {{method: {method}, trials: {trials}, seed: {seed}, space: {{model.dropout: {{low: 0.1, high: 0.7}}, "
        f"training.batch_size: [16, 32]{more}}}}}\n"
    )


def test_if_optuna_is_missing_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    for dry_run in (False, True):
        with pytest.raises(UserError, match=r"a search needs Optuna.*: pip install '\.\[search\]' in a checkout"):
            sweep(request(tmp_path, space()), FakeRunner(), dry_run)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def search():
    """The module, for tests that need Optuna."""
    pytest.importorskip("optuna", minversion="4.0", reason="needs Optuna: pip install '.[search]'")
    from keras_bench.sweep import search

    return search


@pytest.fixture
def _without_table(monkeypatch):
    monkeypatch.setattr("keras_bench.sweep.results.write_results", lambda plan, points, tasks, log: None)


def test_a_search_ends_in_the_table_of_its_trials(search, tmp_path):
    more = ", tl.learning_rate: {low: 1e-5, high: 1e-2, log: true}, augmentation.zoom: [[0, 0], [-0.1, 0.1]]"
    first = "{model.dropout: 0.3, training.batch_size: 32, tl.learning_rate: 1e-3, augmentation.zoom: [0, 0]}"
    runner = FakeRunner()
    code, output = sweep(request(tmp_path, space(3, more=more) + f"baseline: {first}\n"), runner)
    assert code == 0
    assert runner.calls[0][:2] == (0.3, 32)
    assert "── trial 1/3 dropout=0.3, batch_size=32, learning_rate=0.001, zoom=[0, 0], MobileNet" in output
    assert output.count("runs left: ") == 2
    folder = sweep_folder(tmp_path / "runs", "study")
    with folder.results.open() as stream:
        rows = list(csv.DictReader(stream))
    drawn = [(float(row["model.dropout"]), int(row["training.batch_size"])) for row in rows]
    assert drawn == [call[:2] for call in runner.calls]
    assert [row["baseline"] for row in rows] == ["True", "False", "False"]
    assert max(rows, key=lambda row: float(row["val_top1"]))["best_on_val"] == "True"
    assert (folder.figures / "model.dropout.png").is_file()


@pytest.mark.usefixtures("_without_table")
def test_a_resumed_search_draws_the_same_values_as_an_uninterrupted_one(search, tmp_path):
    for name in ("uninterrupted", "resumed"):
        (tmp_path / name).mkdir()
    uninterrupted, first, second = FakeRunner(), FakeRunner(stops_at=3), FakeRunner()
    sweep(request(tmp_path / "uninterrupted", space(4)), uninterrupted)
    assert len(set(uninterrupted.calls)) == 4
    with pytest.raises(KeyboardInterrupt):
        sweep(request(tmp_path / "resumed", space(4)), first)
    assert first.calls == uninterrupted.calls[:3]
    code, output = sweep(request(tmp_path / "resumed", space(4)), second)
    assert code == 0
    assert "trials: 4, of which 2 finished before" in output
    # The first trial runs again to fingerprint the data as it is now; the interrupted one keeps its settings.
    assert second.calls == [uninterrupted.calls[0], uninterrupted.calls[2], uninterrupted.calls[3]]


# The Bayesian sampler draws its first ten trials at random.
@pytest.mark.parametrize(("method", "count"), [("random", 3), ("bayesian", 12)])
def test_the_drawn_values_do_not_depend_on_where_a_search_was_interrupted(search, tmp_path, method, count):
    drawn = []
    for name, per_process in (("uninterrupted", count), ("interrupted", count - 1)):
        (tmp_path / name).mkdir()
        plan = plan_sweep(request(tmp_path / name, space(count, method)))
        for start in range(0, count, per_process):
            with search.open_trials(plan) as trials:
                trials.tried |= set(range(start))  # the trials of earlier processes, which would be checked again
                for _ in range(start, min(count, start + per_process)):
                    number, point = trials.next()
                    trials.tell(number, 1 - abs(point.settings["model.dropout"] - 0.4))
        with search.open_trials(plan) as trials:
            drawn.append([point.settings for point in trials.points()])
            assert [trials.next() is None for _ in range(count + 1)] == [False] * count + [True]
    assert drawn[0] == drawn[1]
    assert len({settings["model.dropout"] for settings in drawn[0]}) == count


@pytest.mark.usefixtures("_without_table")
def test_a_failed_trial_does_not_stop_the_others_and_runs_again(search, tmp_path):
    text = "search: {method: random, trials: 4, seed: 5, space: {model.dropout: [0.2, 0.4]}}\n"
    failing, repeated = FakeRunner(fails=(0.4,)), FakeRunner()
    code, output = sweep(request(tmp_path, text), failing)
    assert code == 1
    assert {call[0] for call in failing.calls} == {0.2, 0.4}
    assert re.search(r"not finished: trial \d: dropout=0.4 \(exit code 1\)", output)
    assert sweep(request(tmp_path, text), repeated)[0] == 0
    assert {call[0] for call in repeated.calls} == {0.2, 0.4}


@pytest.mark.usefixtures("_without_table")
def test_a_first_run_that_is_refused_stops_the_search_and_keeps_its_settings(search, tmp_path):
    text = "search: {method: random, trials: 3, space: {model.dropout: [0.2, 0.4]}}\n"
    refused, repeated = FakeRunner(fails=(0.2, 0.4), code=2), FakeRunner()
    assert sweep(request(tmp_path, text), refused)[0] == 2
    assert len(refused.calls) == 1
    assert sweep(request(tmp_path, text), repeated)[0] == 0
    assert repeated.calls[0] == refused.calls[0]


@pytest.mark.usefixtures("_without_table")
def test_more_trials_continue_the_same_search_and_another_seed_starts_a_new_one(search, tmp_path):
    first, more, other = FakeRunner(), FakeRunner(), FakeRunner()
    sweep(request(tmp_path, space(2)), first)
    _, output = sweep(request(tmp_path, space(3)), more)
    assert "trials: 3, of which 2 finished before" in output
    assert more.calls[0] == first.calls[0]
    assert len(more.calls) == 2
    _, output = sweep(request(tmp_path, space(2, seed=1)), other)
    assert "trials: 2\n" in output
    assert not set(other.calls) & set(first.calls)


@pytest.mark.usefixtures("_without_table")
def test_the_value_of_a_trial_is_val_top1_averaged_over_its_seeds(search, tmp_path):
    two_seeds = request(tmp_path, space(2), seeds=(0, 4))
    runner = FakeRunner()
    sweep(two_seeds, runner)
    assert [call[3] for call in runner.calls] == [0, 4, 0, 4]
    plan = plan_sweep(two_seeds)
    with search.open_trials(plan) as trials:
        for trial, point in zip(trials.study.trials, trials.points(), strict=True):
            runs = [search.point_run(0, plan.job(point, "MobileNet", seed)) for seed in (0, 4)]
            assert trial.value == pytest.approx((runs[0].val_score + runs[1].val_score) / 2)


def test_a_trial_interrupted_while_its_values_were_drawn_does_not_count(search, tmp_path):
    plan = plan_sweep(request(tmp_path, space(2)))
    with search.open_trials(plan) as trials:
        trials.study.ask({"model.dropout": trials.distributions["model.dropout"]})
    with search.open_trials(plan) as trials:
        assert trials.points() == []
        assert [trials.next() is None for _ in range(3)] == [False, False, True]


def test_whole_numbers_are_drawn_for_keys_that_require_them(search, tmp_path):
    text = "search: {method: random, trials: 9, space: {training.batch_size: {low: 1, high: 3}, "
    text += "model.l2: {low: 0, high: 1}}}\n"
    plan = plan_sweep(request(tmp_path, text))
    with search.open_trials(plan) as trials:
        points = [trials.next()[1].settings for _ in range(9)]
    assert {point["training.batch_size"] for point in points} == {1, 2, 3}
    assert all(isinstance(point["model.l2"], float) and 0 < point["model.l2"] < 1 for point in points)


def test_drawn_numbers_are_rounded_and_stay_within_their_range(search):
    assert search.drawn_value(SearchRange(0.0, 1.0), 0.123456) == 0.1235
    assert search.drawn_value(SearchRange(0.12344, 0.5), 0.123441) == 0.12344
    assert search.drawn_value(SearchRange(1e-5, 1e-2, True), 3.14159e-4) == 3.142e-4
    assert search.drawn_value(SearchRange(1, 9), 4) == 4
    for value in ([-0.1, 0.1], None, True, "adam", 0.5):
        assert search.drawn_value((value,), search.encode((value,), value)) == value


def test_a_dry_run_of_a_search_plans_its_first_point(search, tmp_path, monkeypatch):
    planned = []
    monkeypatch.setattr("keras_bench.sweep.run.run_alone", lambda job, dry_run: planned.append(job) or 0)
    code, output = sweep(request(tmp_path, space()), FakeRunner(), dry_run=True)
    assert code == 0
    assert "4 trials by random search (seed 0) of model.dropout 0.1 to 0.7; training.batch_size among 16, 32" in output
    assert planned[0].config.model.dropout == 0.1
