import subprocess
import sys
from pathlib import Path

import pytest

from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.files import write_text
from keras_bench.runs.folders import experiment_folder, parse_run_reference, run_folder, runs_of, variant_name
from keras_bench.sweep.folder import sweep_folder


def test_paths_follow_the_documented_layout():
    run = run_folder(Path("runs"), "demo", "VGG16", 3, "wide")
    assert run.root == Path("runs/demo@wide/VGG16/seed3")
    assert run.best_weights("tl") == run.root / "tl" / "best.weights.h5"
    assert run.predictions("ft", "test") == run.root / "ft" / "predictions-test.npz"
    assert run_folder(Path("runs"), "demo", "VGG16", 0).root == Path("runs/demo/VGG16/seed0")


def test_a_variant_is_its_sorted_settings_made_safe():
    assert variant_name({"tl.optimizer": "sgd", "model.dropout": 0.2}) == "model.dropout=0.2,tl.optimizer=sgd"
    values = {"a.a": 1e-5, "a.b": True, "a.c": None, "a.d": [-0.1, 0.1], "a.e": 10.0, "a.f": 3}
    assert variant_name(values) == "a.a=1e-05,a.b=true,a.c=null,a.d=[-0.1,0.1],a.e=10,a.f=3"
    assert variant_name({}) == "default"
    weights = variant_name({"model.weights": "run:demo/VGG16/seed0"})
    assert weights.startswith("model.weights=run_demo_VGG16_seed0-")
    assert weights != variant_name({"model.weights": "run:demo_VGG16/seed0"})  # the digests differ
    long = [variant_name({"title": "x" * 200 + end}) for end in "ab"]
    assert [len(name) for name in long] == [120, 120]
    assert long[0] != long[1]
    assert parse_run_reference(f"run:demo@{long[0]}/VGG16/seed1", Path("runs")).model_name == "VGG16"


def test_a_sweep_folder_is_not_mistaken_for_runs(tmp_path):
    folder = sweep_folder(tmp_path, "dropout")
    assert folder.page == tmp_path / "sweeps" / "dropout" / "index.html"
    write_text(folder.results, "")
    write_text(folder.figures / "model.dropout.png", "")
    assert runs_of(tmp_path / "sweeps") == runs_of(folder.root) == []


def test_run_references_name_a_run_folder():
    run = parse_run_reference("run:demo@wide/VGG16/seed12", Path("runs"))
    assert run.root == Path("runs/demo@wide/VGG16/seed12")
    for bad in ("run:demo", "run:demo/VGG16/0x", "run:../VGG16/seed0/..", "run:a/b/c/seed0", "run:../../seed0"):
        with pytest.raises(UserError, match="expected run:<experiment>/<model>/seed<k>, received"):
            parse_run_reference(bad, Path("runs"))


def test_a_run_in_use_is_refused(tmp_path):
    code = (
        "import sys, pathlib; from keras_bench.runs.folders import run_folder\n"
        "with run_folder(pathlib.Path(sys.argv[1]), 'demo', 'VGG16', 0).lock():\n"
        "    print('locked', flush=True); sys.stdin.readline()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) as holder:
        assert holder.stdout.readline() == "locked\n"
        with (
            pytest.raises(UserError, match="in use by another process"),
            run_folder(tmp_path, "demo", "VGG16", 0).lock(),
        ):
            pass
        holder.communicate("go\n")
    with run_folder(tmp_path, "demo", "VGG16", 0).lock():
        pass


def test_runs_are_listed_by_model_and_seed(tmp_path):
    for model, seed in (("VGG16", 10), ("VGG16", 2), ("ResNet50", 0)):
        write_text(run_folder(tmp_path, "demo", model, seed).config, "")
    (tmp_path / "demo" / "stray").mkdir()
    listed = [(run.model_name, run.seed) for run in runs_of(tmp_path / "demo")]
    assert listed == [("ResNet50", 0), ("VGG16", 2), ("VGG16", 10)]


def test_thumbnails_of_any_id_stay_inside_the_run_folder():
    run = run_folder(Path("runs"), "demo", "VGG16", 0)
    names = {run.thumbnail(name) for name in ("a.jpg", "../../a.jpg", "class 🦔/<b>.jpg", "x" * 5000)}
    assert len(names) == 4
    assert {path.parent for path in names} == {run.root / "thumbnails"}


def unfinished(*paths):
    """Write what a killed process would have left of these files, and return it."""
    left = [path.with_name(f".writing-0123456789abcdef-{path.name}") for path in paths]
    for path in left:
        write_text(path, "")
    return left


def test_a_lock_sweeps_what_is_written_under_it_and_nothing_else(tmp_path):
    run, other = run_folder(tmp_path, "demo", "VGG16", 0), run_folder(tmp_path, "demo", "VGG16", 1)
    experiment = experiment_folder(tmp_path, "demo")
    write_text(run.config, "")
    by_run = unfinished(
        run.run, run.log, run.splits, run.history("tl"), run.model("ft"), run.state("tl") / "epoch0001.keras",
        run.best_weights("tl"), run.explanations, run.thumbnail("1"), run.cost,
    )  # fmt: skip
    by_run += [run.phase("tl") / ".writing-best.weights.h5"]  # as earlier versions called it
    write_text(by_run[-1], "")
    by_report = unfinished(
        run.model_card, run.class_report("tl"), run.figures / "learning_curves.svg",
        run.figures / "confusion_matrix.png", experiment.results, experiment.page, experiment.summary,
        experiment.figures / "coverage.png",
    )  # fmt: skip
    by_latency, by_audit = unfinished(run.latency), unfinished(experiment.audit)
    by_explained, elsewhere = unfinished(experiment.explained), unfinished(other.run, tmp_path / "notes.txt")
    locks = {
        run.lock: by_run,
        lambda: experiment.lock_comparison(Log()): by_report,
        lambda: run.lock_latency(Log()): by_latency,
        lambda: experiment.lock_audit(Log()): by_audit,
        lambda: experiment.lock_explained(Log()): by_explained,
    }
    remaining = {path for left in locks.values() for path in left} | set(elsewhere)
    for lock, left in locks.items():
        with lock():
            pass
        remaining -= set(left)
        assert set(tmp_path.rglob(".writing-*")) == remaining
    assert remaining == set(elsewhere)


def test_the_locks_of_a_sweep_and_of_a_search_sweep_their_folders(tmp_path):
    sweep, search = sweep_folder(tmp_path, "dropout"), run_folder(tmp_path, "demo", "VGG16", 0).rate_search("tl")
    unfinished(sweep.results, sweep.figures / "a.png", search.points, search.search)
    with sweep.lock_results(Log()), search.lock(Log()):
        assert not list(tmp_path.rglob(".writing-*"))
