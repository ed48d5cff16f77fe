"""Files of an experiment or a sweep that several processes share: the second uses the file that the first made."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from keras_bench.audit.inspect import audit_images
from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.evaluation.predictions import Predictions
from keras_bench.explain.run import choose_images
from keras_bench.files import replacing, write_json
from keras_bench.reading import read_json
from keras_bench.report.write import finished_runs, report, write_report
from keras_bench.runs import data as prepare
from keras_bench.runs.folders import experiment_folder
from keras_bench.runs.job import Request, resolve
from keras_bench.sweep.folder import sweep_folder
from keras_bench.sweep.plan import plan_sweep
from keras_bench.sweep.results import write_results
from keras_bench.workflow.compare import compare_runs
from tests.at_once import WaitingLog, waiting
from tests.made import make_run
from tests.made_sweep import FakeRunner, request, sweep


def test_an_audit_that_another_process_makes_meanwhile_is_used(image_folder, tmp_path, capsys, monkeypatch):
    settings = ("dataset.source=folder",)
    job = resolve(Request("digits", "MobileNet", "scratch", image_folder, "none", 0, tmp_path, settings=settings))
    data = prepare.load_data(job, *prepare.open_data(job, Log()), Log())
    audit = audit_images(data.index, data.splits, data.store, data.fingerprint, Log())
    # A line that only the other process's audit has, so that the output shows whose audit was used.
    theirs = replace(audit, problems=(*audit.problems, "seen by the other process"))

    def never(*_arguments):
        raise AssertionError("audited twice")

    monkeypatch.setattr("keras_bench.audit.inspect.audit_images", never)
    with waiting(job.experiment_folder.lock_audit(Log()), prepare.audit_data, job, data):
        write_json(job.experiment_folder.audit, theirs.to_json())
    assert "warning: seen by the other process" in capsys.readouterr().out


def test_the_images_that_the_first_process_explains_are_those_of_the_second(tmp_path):
    run = make_run(tmp_path, "MobileNet", skills=(("tl", 1.0),))
    test = Predictions.from_npz(run.predictions("tl", "test"))
    folder = experiment_folder(tmp_path, "made")
    config = SimpleNamespace(explain=SimpleNamespace(images=5, seed=0))
    job = SimpleNamespace(config=config, experiment_folder=folder, folder=run)
    log = WaitingLog()
    rows, drawn = choose_images(job, test, log)
    assert not log.waits.is_set()
    content = read_json(folder.explained)
    assert list(test.ids[rows]) == content["ids"]
    assert (drawn, len(rows)) == (5, 5 + 8 - int((~test.correct[rows[:5]]).sum()))
    assert not test.correct[rows[5:]].any()
    folder.explained.unlink()
    wrong = [str(name) for name in test.ids[~test.correct] if str(name) not in content["ids"]]
    theirs = [*content["ids"][:5], wrong[0]]  # another first run gets other images wrong
    with waiting(folder.lock_explained(Log()), choose_images, job, test) as results:
        write_json(folder.explained, {**content, "ids": theirs, "wrong_answers_of": "VGG16"})
    assert list(test.ids[results[0][0]]) == theirs
    assert json.loads(folder.explained.read_text())["wrong_answers_of"] == "VGG16"


def test_a_comparison_that_another_process_writes_meanwhile_is_not_written_again(tmp_path, capsys, monkeypatch):
    make_run(tmp_path, "MobileNet", skills=(("tl", 1.0),))
    folder = experiment_folder(tmp_path, "made")
    with waiting(folder.lock_comparison(Log()), compare_runs, folder):
        summary = write_report(folder, finished_runs(folder), Log())
        made = {path: path.stat().st_mtime_ns for path in folder.root.rglob("*") if path.is_file()}
    assert summary in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in made} == made
    # The verb `report` always writes its own comparison, but waits for its turn.
    monkeypatch.setattr("keras_bench.report.write.write_report", lambda *_: "its own")
    with waiting(folder.lock_comparison(Log()), report, folder, None, False):
        assert "its own" not in capsys.readouterr().out
    assert "its own" in capsys.readouterr().out


def test_the_table_of_a_sweep_is_written_by_one_process_at_a_time(tmp_path):
    asked = request(tmp_path, "grid: {model.dropout: [0.2]}\n")
    sweep(asked, FakeRunner())
    plan = plan_sweep(asked)
    points = list(plan.sweep.points)
    folder = sweep_folder(plan.request.out, plan.sweep.name)
    folder.results.unlink()
    with waiting(folder.lock_results(Log()), write_results, plan, points, plan.tasks(points)):
        assert not folder.results.exists()
    assert folder.results.is_file()


def test_a_search_that_another_process_is_running_is_refused_in_one_line(tmp_path):
    pytest.importorskip("optuna")
    text = "search: {method: random, trials: 2, seed: 5, space: {model.dropout: [0.2, 0.4]}}\n"
    asked = request(tmp_path, text)
    plan = plan_sweep(asked)
    runner = FakeRunner()
    with sweep_folder(plan.request.out, plan.sweep.name).lock_search():
        with pytest.raises(UserError, match="in use by another process; wait for it, or give"):
            sweep(asked, runner)
        assert runner.calls == []


def test_two_writers_of_the_same_file_do_not_share_the_unfinished_one(tmp_path):
    path = tmp_path / "file.txt"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("content", [b"", b"model,phase\nMobileNet,tl\n", b"\xff\xfe"])
def test_a_damaged_table_of_results_is_written_again(tmp_path, content):
    make_run(tmp_path, "MobileNet", skills=(("tl", 1.0),))
    folder = experiment_folder(tmp_path, "made")
    compare_runs(folder, Log())
    whole = folder.results.read_bytes()
    folder.results.write_bytes(content)
    compare_runs(folder, Log())
    assert folder.results.read_bytes() == whole
