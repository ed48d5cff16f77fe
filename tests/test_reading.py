"""Run-folder files of earlier and later versions, and damaged ones."""

import json

import numpy as np
import pandas as pd
import pytest

from keras_bench.audit.findings import AlikeClass, Audit, DuplicateGroup, Leaks
from keras_bench.cost.records import Cost, Latency, latencies_from_json
from keras_bench.errors import RunError, UserError
from keras_bench.evaluation.metrics import SplitMetrics
from keras_bench.evaluation.predictions import Predictions
from keras_bench.evaluation.records import Interval
from keras_bench.explain.records import ExplanationChecks, Explanations, MethodScores
from keras_bench.export.records import Agreement, Attempt, Int8, Verification
from keras_bench.files import write_record
from keras_bench.reading import read_json
from keras_bench.report.intact import intact_runs
from keras_bench.report.read import read_comparison
from keras_bench.report.tables import results_frame
from keras_bench.report.write import finished_runs
from keras_bench.runs.damage import FILES, digests_of
from keras_bench.runs.folders import experiment_folder, run_folder
from keras_bench.runs.results import PhaseResult
from keras_bench.runs.weights import final_phase, require_final_phase
from tests.damage import DAMAGE
from tests.logs import WarningsLog
from tests.made import make_run

LEAKS = Leaks("val or test", ("a/1.jpg",), ("a/3.jpg",), (AlikeClass("a", ("a/3.jpg",), 4, (("a/3.jpg", "a/2.jpg"),)),))
AUDIT = Audit(
    source="folder", location="photos", fingerprint="f", images=4, unreadable={}, class_titles={"a": "A"},
    images_per_class={"a": {"train": 3, "val": 1}}, imbalance=1.0, widths={16: 3, 32: 1}, heights={16: 4},
    modes={"RGB": 4}, formats={"JPEG": 4}, exact_groups=1, near_groups=0, across_splits=1, leaks={"train": LEAKS},
    conflicting=0,
    groups=(DuplicateGroup("exact", ("a/1.jpg", "a/2.jpg"), ("train", "val"), ("a", "a")),),
    near_distance=6, near_likeness=0.9, pretraining_overlap="", split="s",
    imbalance_problem="", problems=("one",),
)  # fmt: skip
AGREEMENT = Agreement(10, 1, 0, 0.1, 0.01, Interval(0.5, 0.2, 0.8), Interval(0.6, 0.3, 0.8), ("a/1.jpg",))
INT8 = Int8(True, "small", (Attempt("all", 3, 0.5, 0.2),), test_top1=Interval(0.5, 0.2, 0.8), megabytes=1.5)
CHECKS = ExplanationChecks(
    "tl", "top", {"images": 2}, ("a", "b"), (True, False), (0.3, None),
    {"gradcam": MethodScores((0.1, None), (0.2, 0.3), (1.0, None), (0.5, None), (0.1, 0.2), (0.0, 0.1))},
)  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [
        AUDIT,
        Cost(32, 4, 5, 6, 16, 20),
        CHECKS,
        Verification(
            {"model": "VGG16"}, {"test_images": 10}, AGREEMENT, {"tie": 0.1}, ({"p50_ms": 1.5},), INT8, 2.0, 9
        ),
    ],
)
def test_records_survive_a_round_trip_through_json(record):
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))) == record


def result_tree(**metrics):
    scores = {"images": 5, "cross_entropy": 1.0, "top1": 0.5, "balanced_accuracy": 0.4, "macro_f1": 0.3} | metrics
    return {
        "phase": "tl", "best_epoch": 1, "epochs": 2, "seconds": 3, "seconds_per_epoch": 1.5, "images_per_second": 9.0,
        "parameters": 4, "trainable_parameters": 2, "peak_memory_mb": 100.0, "metrics": {"val": scores},
        "inputs": {"data": "f"}, "resolved": {}, "environment": {"packages": {"keras-bench": "0.0.9"}},
    }  # fmt: skip


def test_a_metric_that_an_earlier_version_lacked_is_undefined_and_one_of_a_later_version_is_ignored():
    assert PhaseResult.from_json(result_tree()).metrics["val"] == SplitMetrics(
        images=5, cross_entropy=1.0, top1=0.5, top5=None, balanced_accuracy=0.4, macro_f1=0.3, macro_auc=None
    )
    later = result_tree(top3=0.9) | {"new": 1}
    assert PhaseResult.from_json(later) == PhaseResult.from_json(result_tree())


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        (result_tree(top1="much"), r"metrics\.val\.top1: Input should be a valid number"),
        ({**result_tree(), "metrics": {"val": {"images": 5}}}, r"metrics\.val\.cross_entropy: Field required"),
        ([1], "expected keys and values, received list"),
    ],
)
def test_a_result_that_cannot_be_read_is_refused_in_one_line_with_the_version_that_wrote_it(tree, why, tmp_path):
    run = run_folder(tmp_path, "made", "VGG16", 0)
    run.phase("tl").mkdir(parents=True)
    run.result("tl").write_text(json.dumps(tree))
    with pytest.raises(UserError, match=why) as refused:
        run.read_result("tl")
    line = str(refused.value)
    assert line.startswith(f"{run.result('tl')} cannot be read (")
    assert "\n" not in line
    assert ("written by 0.0.9, this is 0." in line) == isinstance(tree, dict)


@pytest.mark.parametrize("damage", ["empty", "cut to half", "one byte in the middle", "missing"])
def test_every_file_that_the_report_reads_is_named_where_it_is_damaged(damage, tmp_path):
    """A damaged run is left out, damaged figures beside its training are not shown, and other numbers stay."""
    run, _ = make_run(tmp_path, "VGG16"), make_run(tmp_path, "MobileNet")
    _seal(run)
    rows, _ = _rows_and_warnings(tmp_path)
    training = [run.config, run.environment, run.dataset, run.run, run.result("tl")]
    training += [run.predictions("tl", "val"), run.predictions("ft", "test")]
    parts = [run.cost, run.latency, run.explanation_checks, run.explanations]
    for path in [*training, run.history("ft"), *parts]:
        whole = path.read_bytes()
        path.unlink() if damage == "missing" else DAMAGE[damage](path)
        left, warned = _rows_and_warnings(tmp_path)
        if path in training:
            assert [line for line in warned if line.startswith(f"a run is left out: {path} ")], path
            assert {model for model, *_ in left} == {"MobileNet"}
        elif path == run.history("ft"):
            assert [line for line in warned if line.startswith(f"{path} is ") and "the results stand" in line]
            assert {model for model, *_ in left} == {"MobileNet", "VGG16"}
        elif damage != "missing":
            assert [line for line in warned if line.startswith(f"{path} is damaged, and the report does without")]
        assert left <= rows
        path.write_bytes(whole)
    assert _rows_and_warnings(tmp_path) == (rows, [])


def _rows_and_warnings(out):
    """Return every number of the table by model, phase and column, and the warnings of the comparison."""
    folder, log = experiment_folder(out, "made"), WarningsLog()
    table = results_frame(read_comparison(folder, intact_runs(finished_runs(folder), log), log))
    numbers = {
        (row["model"], row["phase"], column, row[column])
        for row in table.to_dict("records")
        for column in table
        if not pd.isna(row[column])
    }
    return numbers, log.warned


def _seal(run):
    """Record the digests that a run of this version holds."""
    for record in (run.cost, run.latency, run.explanation_checks, run.run):
        write_record(record, read_json(record))
    for record, files in [
        (run.environment, [run.config]),
        (run.dataset, []),
        *((run.result(phase), [run.history(phase), *run.phase(phase).glob("*.npz")]) for phase in ("tl", "ft")),
    ]:
        write_record(record, {**read_json(record), FILES: digests_of(record.parent, files)})


def test_an_array_that_is_missing_is_named(tmp_path):
    path = tmp_path / "predictions-test.npz"
    np.savez(path, ids=np.array(["a"]), labels=np.array([0]), class_names=np.array(["a"]))
    with pytest.raises(UserError, match="probabilities"):
        Predictions.from_npz(path)
    with pytest.raises(UserError, match="images"):
        Explanations.from_npz(path)


def test_unknown_fields_of_a_later_version_are_dropped_from_latencies():
    latency = Latency("predict", "cpu", "a processor", 2, 1, 10, 200, 5.0, 6.0, 7.0, 5.5, 700.0, 500.0, "now")
    measurement = {**latency.__dict__, "energy": 3.0}
    assert latencies_from_json({"measurements": [measurement]}) == [latency]


def test_an_unfinished_run_has_no_final_phase(tmp_path):
    run = run_folder(tmp_path, "made", "VGG16", 0)
    assert final_phase(run) is None
    with pytest.raises(RunError, match="VGG16/seed0 holds no finished run; finish it first"):
        require_final_phase(run)
