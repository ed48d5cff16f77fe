"""What counts as damage in a run folder, what is said about it, and what is refused. Without TensorFlow."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from keras_bench.cli.main import main
from keras_bench.console import Log
from keras_bench.ensemble.run import run_ensemble
from keras_bench.errors import DamagedFileError, LostResultError, RunError, UserError
from keras_bench.evaluation.predictions import Predictions
from keras_bench.files import write_bytes, write_json, write_record, write_text
from keras_bench.reading import read_json
from keras_bench.runs.damage import (
    FILES,
    changed_files,
    damaged_files,
    describe,
    digests_of,
    lost_results,
    refuse_lost,
    refuse_other_splits,
    remedy,
)
from keras_bench.runs.damaged_history import damaged_histories
from keras_bench.runs.folders import ExperimentDir
from keras_bench.runs.job import Request, resolve
from keras_bench.runs.weights import find_weights
from keras_bench.workflow.compare import damaged_comparison
from tests.made import make_run
from tests.made_sweep import EMPTY_ZIP, FakeRunner, request, sweep


@pytest.fixture
def run(tmp_path):
    """A finished run of an earlier version, without digests."""
    return make_run(tmp_path, "MobileNet")


def seal(record, *files):
    """Write a record as this version does, with the digests of files beside it."""
    write_record(record, {**read_json(record), FILES: digests_of(record.parent, files)})


def test_a_record_recognises_one_changed_digit(tmp_path):
    path = tmp_path / "cost.json"
    write_record(path, {"parameters": 1234, "names": ("é", "b"), "share": 0.1})
    assert read_json(path) == {"parameters": 1234, "names": ["é", "b"], "share": 0.1}
    write_text(path, json.dumps(json.loads(path.read_text())))  # another layout is the same content
    assert read_json(path)["parameters"] == 1234
    write_text(path, path.read_text().replace("1234", "1235"))
    with pytest.raises(DamagedFileError, match="its content has changed since it was written"):
        read_json(path)
    path.unlink()
    with pytest.raises(DamagedFileError, match="it is missing"):
        read_json(path)


def test_a_run_of_an_earlier_version_is_whole_without_digests(run):
    assert damaged_files(run) == []
    run.predictions("tl", "val").write_bytes(b"\xff")
    write_bytes(run.model("ft"), b"no archive")
    write_bytes(run.best_weights("ft"), b"no HDF5")
    assert damaged_files(run) == [run.predictions("tl", "val"), run.best_weights("ft"), run.model("ft")]
    assert damaged_files(run, with_models=False) == [run.predictions("tl", "val")]


def test_a_readable_file_with_another_digest_is_damaged(run):
    seal(run.result("tl"), run.history("tl"))
    seal(run.environment, run.config)
    assert (damaged_files(run), damaged_histories(run)) == ([], [])
    write_text(run.history("tl"), run.history("tl").read_text().replace("1.5", "1.6"))
    write_text(run.config, "name: made\n")
    assert (damaged_files(run), damaged_histories(run)) == ([run.config], [run.history("tl")])
    assert changed_files(run.environment) == [run.config]


def test_what_only_training_makes_is_refused_with_the_folders_to_remove(run):
    write_bytes(run.model("tl"), EMPTY_ZIP)
    write_bytes(run.best_weights("tl"), b"intact")
    refuse_lost(run, [run.model("tl"), run.predictions("tl", "val"), run.run, run.config])
    run.best_weights("tl").unlink()
    with pytest.raises(LostResultError) as refused:
        refuse_lost(run, [run.model("tl"), run.best_weights("tl")])
    text = f"{run.model('tl')} is damaged; {run.best_weights('tl')} is missing: this cannot be made again without"
    assert str(refused.value).startswith(text)
    assert str(refused.value).endswith(f"remove {run.phase('tl')} and {run.phase('ft')} to train tl and ft again")
    with pytest.raises(LostResultError, match=re.escape(f"remove {run.phase('ft')} to train ft again")):
        refuse_lost(run, [run.model("ft"), run.best_weights("ft")])


def test_a_phase_without_a_result_was_finished_if_run_json_lists_it_and_its_state_folder_is_gone(run):
    write_json(run.run, {**read_json(run.run), "phases": ["tl", "ft"]})
    assert lost_results(run, ("tl", "ft")) == []
    run.result("ft").unlink()
    assert lost_results(run, ("tl", "ft")) == [run.result("ft")]
    run.state("ft").mkdir()  # killed just before result.json was written
    assert lost_results(run, ("tl", "ft")) == []
    write_text(run.result("tl"), "{}")
    assert lost_results(run, ("tl", "ft")) == [run.result("tl")]


def test_a_run_that_an_earlier_version_left_before_its_result_goes_on(run):
    """It kept no state folder before the first saved state."""
    run.result("ft").unlink()
    run.run.unlink()
    assert lost_results(run, ("tl", "ft")) == []
    write_json(run.export("ft"), {})
    assert lost_results(run, ("tl", "ft")) == [run.result("ft")]
    run.export("ft").unlink()
    run.result("tl").unlink()  # ft continued it
    assert lost_results(run, ("tl", "ft")) == [run.result("tl")]


def test_a_removed_phase_is_missing_and_trained_again(run):
    write_json(run.run, {**read_json(run.run), "phases": ["tl", "ft"]})
    shutil.rmtree(run.phase("ft"))
    assert damaged_files(run) == [run.result("ft")]
    assert damaged_files(run, ["tl"]) == []
    refuse_lost(run, damaged_files(run))
    assert remedy(run, damaged_files(run)) == "the command that made the run trains ft again"


def test_an_edited_configuration_is_changed_rather_than_damaged(run):
    write_text(run.config, f"# a note\n{run.config.read_text()}")
    assert describe(run.config) == f"{run.config} was changed since it was written"
    write_text(run.config, "")
    assert describe(run.config) == f"{run.config} is damaged"
    run.config.unlink()
    assert describe(run.config) == f"{run.config} is missing"


def test_an_edited_record_is_changed_rather_than_damaged(run):
    write_record(run.run, read_json(run.run))
    tree = json.loads(run.run.read_text())
    write_text(run.run, json.dumps({**tree, "final_phase": "tl"}))
    assert describe(run.run) == f"{run.run} was changed since it was written"
    write_text(run.run, "{")
    assert describe(run.run) == f"{run.run} is damaged"


def test_a_table_with_other_line_ends_is_not_damaged(run):
    content = run.history("tl").read_bytes()
    assert b"\r\n" in content
    seal(run.result("tl"), run.history("tl"))
    run.history("tl").write_bytes(content.replace(b"\r\n", b"\n"))
    assert damaged_histories(run) == []
    seal(run.result("tl"), run.history("tl"))
    run.history("tl").write_bytes(content)
    assert damaged_histories(run) == []
    run.history("tl").write_bytes(content.replace(b"1.5", b"1.6"))
    assert damaged_histories(run) == [run.history("tl")]


def test_a_comparison_without_a_removed_run_is_not_damaged(run):
    folder = ExperimentDir(run.root.parents[1])
    write_text(run.model_card, "card")
    write_text(folder.results, "results")
    write_text(folder.figures / "coverage.svg", "figure")
    files = [run.model_card, folder.results, folder.figures / "coverage.svg"]
    write_record(folder.comparison, {FILES: digests_of(folder.root, files)})
    shutil.rmtree(run.root)
    assert damaged_comparison(folder) == []
    shutil.rmtree(folder.figures)
    assert damaged_comparison(folder) == files[2:]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            ["run", "--set", "tl.epochs=2", "--data", "my photos"],
            ": keras-bench run --set tl.epochs=2 --data 'my photos' --out {out}",
        ),
        (["--model", "MobileNet", "--in-suite"], ": keras-bench run --model MobileNet --out {out}"),
        (
            ["run", "--out", "there", "--exports=there/bundles", "--seed", "0"],
            ": keras-bench run --out {out} --exports {out}/bundles --seed 0",
        ),
        (["run", "--exports", "elsewhere", "--out=there"], ": keras-bench run --exports elsewhere --out {out}"),
        ([], ""),
    ],
)
def test_the_remedy_is_the_command_of_the_run_for_the_folder_where_it_is_now(run, command, words):
    write_json(run.environment, {**read_json(run.environment), "command": command})
    assert (
        remedy(run, [run.run]) == f"the command that made the run makes it again{words.format(out=run.root.parents[2])}"
    )
    write_text(run.result("ft"), "{}")
    assert "to train ft again" in remedy(run, [run.result("ft")])


def test_splits_drawn_again_must_be_those_of_the_run(run):
    rows = [
        pd.DataFrame({"id": Predictions.from_npz(run.predictions("ft", split)).ids, "split": split})
        for split in ("val", "test")
    ]
    splits = pd.concat(rows).astype(str)
    refuse_other_splits(run, splits)
    with pytest.raises(LostResultError, match=r"splits\.csv is missing, and the settings draw other splits today"):
        refuse_other_splits(run, splits.iloc[1:])
    write_text(run.splits, splits.to_csv(index=False, lineterminator="\n"))
    seal(run.dataset, run.splits)
    run.splits.unlink()
    refuse_other_splits(run, splits)
    with pytest.raises(LostResultError, match="other splits"):
        refuse_other_splits(run, splits.assign(split="val"))


def sealed(run, phase="ft"):
    """Give a run's phase the digests that this version records."""
    write_bytes(run.model(phase), EMPTY_ZIP)
    seal(run.result(phase), run.model(phase), run.predictions(phase, "test"))
    return run


def flatter(run, phase="ft"):
    """Make a run's predictions on test all correct; the file stays readable."""
    saved = Predictions.from_npz(run.predictions(phase, "test"))
    perfect = np.eye(len(saved.class_names), dtype=np.float32)[saved.labels]
    write_bytes(run.predictions(phase, "test"), replace(saved, probabilities=perfect).to_npz())


def test_an_ensemble_does_not_average_changed_predictions(run, tmp_path, capsys):
    asked = Request("digits", "MobileNet", "ft", out=tmp_path, settings=("model.weights=none",))
    runs = [sealed(each) for each in (run, make_run(tmp_path, "VGG16"))]
    jobs = [replace(resolve(asked), folder=folder) for folder in runs]
    run_ensemble(jobs, "both", fit=False, export=False, log=Log())
    assert "The ensemble is" in capsys.readouterr().out
    flatter(runs[1])
    named = f"^{re.escape(str(runs[1].predictions('ft', 'test')))} is damaged; the command that made the run"
    with pytest.raises(RunError, match=named):
        run_ensemble(jobs, "both", fit=False, export=False, log=Log())
    assert capsys.readouterr().out == ""


def test_a_changed_model_is_not_measured(run, tmp_path, capsys):
    write_bytes(sealed(run).model("ft"), b"other")
    assert main(["report", "made", "--out", str(tmp_path), "--measure"]) == 2
    assert f"{run.model('ft')} is damaged" in capsys.readouterr().err


def test_a_changed_model_gives_no_initial_weights(run, tmp_path):
    setting = "model.weights=run:made/MobileNet/seed0"
    job = resolve(Request("digits", "MobileNet", "tl", out=tmp_path, settings=(setting,)))
    with pytest.raises(UserError, match="model.keras is missing"):
        find_weights(job, Log())
    sealed(run)
    assert find_weights(job, Log()).path == run.model("ft")
    write_bytes(run.model("ft"), b"other")
    with pytest.raises(
        UserError, match=f"^weights: run:made/MobileNet/seed0: {re.escape(str(run.model('ft')))} is dam"
    ):
        find_weights(job, Log())


def test_a_sweep_leaves_changed_predictions_out_of_its_table(tmp_path):
    class Flatterer(FakeRunner):
        """Its runs end with an error, as those whose damage cannot be mended."""

        def __call__(self, job):
            super().__call__(job)
            sealed(job.folder, "tl")
            if job.config.model.dropout == 0.2:
                flatter(job.folder, "tl")
                return 1
            return 0

    asked = request(tmp_path, "grid: {model.dropout: [0.2, 0.4]}\n")
    code, output = sweep(asked, Flatterer())
    assert code == 1
    words = " ".join(output.split())
    assert "predictions-test.npz is damaged; the command that made the run makes it again" in words
    assert "is left out: " in words
    assert "100.0" not in output.partition("is left out")[2]


def test_a_changed_file_beside_its_record_is_named_without_a_detour(tmp_path):
    record, figure = tmp_path / "thumbnails" / "files.json", tmp_path / "figures" / "a.png"
    for path in (record, figure):
        path.parent.mkdir()
    figure.write_bytes(b"1")
    write_record(record, {FILES: digests_of(record.parent, [figure])})
    assert changed_files(record) == []
    figure.write_bytes(b"2")
    assert changed_files(record) == [figure]
