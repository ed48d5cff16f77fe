"""A damaged history.csv of a finished phase: named once, left out of figures, and no number changes."""

import csv

import pytest

from keras_bench.cli.main import main
from keras_bench.console import Log
from keras_bench.files import write_record, write_text
from keras_bench.reading import read_json
from keras_bench.runs.damage import FILES, damaged_files, digests_of
from keras_bench.runs.damaged_history import damaged_histories, history_remedy
from keras_bench.runs.folders import ExperimentDir
from keras_bench.workflow.compare import compare_runs
from tests.damage import DAMAGE, change_digit
from tests.made import make_run

CHANGES = {**DAMAGE, "changed digit": change_digit, "missing": lambda path: path.unlink()}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run, tl then ft, whose histories have digests, beside another run."""
    monkeypatch.setenv("KERAS_BENCH_CACHE", str(tmp_path / "cache"))
    run = make_run(tmp_path, "MobileNet")
    for phase in ("tl", "ft"):
        digests = digests_of(run.phase(phase), [run.history(phase)])
        write_record(run.result(phase), {**read_json(run.result(phase)), FILES: digests})
    return run


def report(run, capsys):
    code = main(["report", "made", "--out", str(run.root.parents[2])])
    output = " ".join(capsys.readouterr().out.split())
    with (run.root.parents[1] / "results.csv").open() as stream:
        return code, output, list(csv.DictReader(stream))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_results_stand_without_their_history(run, change):
    change(run.history("tl"))
    assert damaged_files(run, with_models=False) == []
    assert damaged_histories(run) == [run.history("tl")]
    assert history_remedy(run, [run.history("tl")]).endswith(
        f"remove {run.phase('tl')} and {run.phase('ft')} to train tl and ft again"
    )


def test_an_unfinished_phase_has_no_damaged_history(run):
    run.history("ft").unlink()
    run.result("ft").unlink()
    assert damaged_histories(run) == []


@pytest.mark.parametrize("phases", [("tl",), ("tl", "ft")])
def test_a_report_names_it_once_and_keeps_every_number(run, capsys, phases):
    make_run(run.root.parents[2], "VGG16")
    before = report(run, capsys)[2]
    figure = run.figures / "learning_curves.png"
    assert figure.is_file()
    for phase in phases:
        change_digit(run.history(phase))
    code, output, rows = report(run, capsys)
    assert (code, rows) == (0, before)
    assert output.count("history.csv") == len(phases)
    assert f"reports leave out the learning curves and the overfitting gap of {' and '.join(phases)}" in output
    assert "is left out" not in output
    assert figure.is_file() == (len(phases) == 1)


def test_without_any_history_the_report_has_no_curves_at_all(run, capsys):
    for phase in ("tl", "ft"):
        run.history(phase).unlink()
    code, output, rows = report(run, capsys)
    assert (code, len(rows)) == (0, 2)
    assert "learning curves" in output


def test_a_current_comparison_names_it_too(run, capsys):
    folder = ExperimentDir(run.root.parents[1])
    compare_runs(folder, Log())
    write_text(run.history("ft"), "")
    capsys.readouterr()
    compare_runs(folder, Log())
    output = " ".join(capsys.readouterr().out.split())
    assert output.count(f"{run.history('ft')} is damaged: the results stand") == 1
