"""Runs, sweeps and searches in which top-1 and balanced accuracy disagree about what is best."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from keras_bench.cli.main import main
from keras_bench.config.decision import DecisionMetric
from keras_bench.console import Log
from keras_bench.ensemble.run import run_ensemble
from keras_bench.evaluation.metrics import compute_metrics
from keras_bench.evaluation.predictions import Predictions
from keras_bench.files import write_bytes, write_json
from keras_bench.runs.folders import run_folder
from keras_bench.runs.job import Request, resolve
from keras_bench.runs.run import Run
from keras_bench.sweep.folder import sweep_folder
from keras_bench.sweep.plan import plan_sweep
from keras_bench.workflow.final import choose_final_phase
from tests.made import make_run, make_training
from tests.made_sweep import EMPTY_ZIP, FakeRunner, request, sweep

NAMES = ["a", "b", "c"]
LABELS = np.repeat([0, 1, 2], [120, 40, 40])
# Number of correct predictions for each class. LARGE: top-1 68 %, balanced accuracy (1 + 0.2 + 0.2) / 3 = 46.7 %.
# SMALL: top-1 65 %, balanced accuracy (0.55 + 0.8 + 0.8) / 3 = 71.7 %.
LARGE, SMALL = (120, 8, 8), (66, 32, 32)


def make_predictions(correct, split):
    ranks = np.concatenate([np.arange(n) for n in (120, 40, 40)])  # of each image within its class
    is_correct = ranks < np.array(correct)[LABELS]
    predicted = np.where(is_correct, LABELS, (LABELS + 1) % 3)
    ids = np.array([f"{split}/image {i:05d}.jpg" for i in range(len(LABELS))])
    return Predictions(ids, LABELS, np.eye(3, dtype=np.float32)[predicted] * 0.7 + np.float32(0.1), np.array(NAMES))


def set_predictions(run, phase, correct):
    """Replace the predictions of a phase of a finished run on val and on test."""
    predictions = {split: make_predictions(correct, split) for split in ("val", "test")}
    for split, of_split in predictions.items():
        write_bytes(run.predictions(phase, split), of_split.to_npz())
    result = run.read_result(phase)
    metrics = {split: compute_metrics(of_split) for split, of_split in predictions.items()}
    write_json(run.result(phase), replace(result, metrics=metrics).to_json())


def made(out, model, correct, chosen_by=None):
    run = make_run(out, model, names=NAMES, skills=(("tl", 1.0),))
    set_predictions(run, "tl", correct)
    write_bytes(run.model("tl"), EMPTY_ZIP)
    if chosen_by:
        write_json(run.run, {**run.read_run(), "chosen_by": chosen_by})
    return run


def reported(out):
    assert main(["report", "made", "--out", str(out)]) == 0
    folder = out / "made"
    with (folder / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return rows, (folder / "summary.txt").read_text(), (folder / "index.html").read_text()


def test_a_run_without_a_recorded_decision_is_ranked_by_top1_as_before(tmp_path):
    for model, correct in (("MobileNet", SMALL), ("VGG16", LARGE)):
        history = made(tmp_path, model, correct).history("tl")
        rows = [line.split(",") for line in history.read_text().splitlines()]
        kept = [column for column, name in enumerate(rows[0]) if "balanced" not in name]  # as earlier versions wrote it
        assert len(kept) == len(rows[0]) - 4
        history.write_text("".join(",".join(row[column] for column in kept) + "\n" for row in rows))
    rows, summary, page = reported(tmp_path)
    assert [row["model"] for row in rows] == ["VGG16", "MobileNet"]
    assert {(row["chosen_by"], row["ranked_by"]) for row in rows} == {("val top1", "val top1")}
    assert "Best: VGG16 (tl), chosen on val with top-1 68.0 %" in summary
    assert "Exact McNemar test, two-sided" in page
    card = (tmp_path / "made" / "VGG16" / "seed0" / "MODEL_CARD.md").read_text()
    assert "by balanced accuracy" not in summary + page + card


def test_if_any_run_was_chosen_by_balanced_accuracy_it_ranks_all_and_everything_says_so(tmp_path):
    made(tmp_path, "MobileNet", SMALL, "val balanced_accuracy")
    made(tmp_path, "VGG16", LARGE, "val top1")
    rows, summary, page = reported(tmp_path)
    assert [(row["model"], row["chosen_by"], row["ranked_by"]) for row in rows] == [
        ("MobileNet", "val balanced_accuracy", "val balanced_accuracy"),
        ("VGG16", "val top1", "val balanced_accuracy"),
    ]
    assert "Best: MobileNet (tl), chosen on val with balanced accuracy 71.7 %" in summary
    assert "VGG16: worse than the best. Its test balanced accuracy is 25.0 points lower" in summary
    assert "the final phase of VGG16 was chosen by top-1" in summary
    for text in (summary, page):
        assert "final phase, chosen on val by balanced accuracy" in " ".join(text.split())
    for text in (
        "Sign-flip permutation test of balanced accuracy (at least 10,000 draws), two-sided",
        ">val balanced accuracy, %</th>",
        "points of test balanced accuracy",
        "Test balanced accuracy against cost",
        "The final phase, the ranking and the paired tests go by balanced accuracy.",
    ):
        assert text in page
    cards = [(tmp_path / "made" / model / "seed0" / "MODEL_CARD.md").read_text() for model in ("MobileNet", "VGG16")]
    assert ["chosen on val by balanced accuracy" in card for card in cards] == [True, False]


def test_the_metric_that_chose_a_run_must_be_known(tmp_path, capsys):
    made(tmp_path, "MobileNet", SMALL, "val beauty")
    assert main(["report", "made", "--out", str(tmp_path)]) == 2
    assert "'beauty' is not a valid DecisionMetric" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "final", "chosen_by"),
    [
        ((), "ft", "val top1"),
        (("training.imbalance=focal",), "tl", "val balanced_accuracy"),
        (("training.imbalance=focal", "training.checkpoint_monitor=val_cross_entropy"), "ft", "val top1"),
        (("training.checkpoint_monitor=val_balanced_cross_entropy",), "tl", "val balanced_accuracy"),
    ],
)
def test_the_final_phase_is_best_in_the_metric_that_chose_the_epochs(tmp_path, settings, final, chosen_by):
    weights = ("model.weights=none", "model.alpha=0.25")
    job = resolve(Request("digits", "MobileNet", "ft", out=tmp_path, settings=(*weights, *settings)))
    make_training(job.folder, [(phase, 1.0) for phase in ("tl", "ft")], names=NAMES)
    set_predictions(job.folder, "tl", SMALL)
    set_predictions(job.folder, "ft", LARGE)
    choose_final_phase(Run(job, None, Log()), job.phases)
    content = json.loads(job.folder.run.read_text())
    assert (content["final_phase"], content["chosen_by"]) == (final, chosen_by)
    assert job.folder.chosen_by() == chosen_by.removeprefix("val ")


class Specialists(FakeRunner):
    """A dropout of 0.2 gives the model that is good at the large class, 0.4 the one that is good at the small ones."""

    def __call__(self, job):
        code = super().__call__(job)
        set_predictions(job.folder, job.phases[-1], LARGE if job.config.model.dropout == 0.2 else SMALL)
        return code


def swept(tmp_path, text):
    asked = request(tmp_path, text)
    code, output = sweep(asked, Specialists())
    assert code == 0
    folder = sweep_folder(tmp_path / "runs", "study")
    with folder.results.open() as stream:
        return list(csv.DictReader(stream)), output, folder.page.read_text(), plan_sweep(asked)


def test_a_sweep_is_decided_by_top1_unless_a_point_corrects_for_imbalance(tmp_path):
    rows, output, page, plan = swept(tmp_path, "grid: {model.dropout: [0.2, 0.4]}\n")
    assert plan.decision() is DecisionMetric.TOP1
    assert [row["best_on_val"] for row in rows] == ["True", "False"]
    assert [float(row["val_top1"]) for row in rows] == [0.68, 0.65]
    assert [row["test_top1_of_seeds"] for row in rows] == ["0.68", "0.65"]
    assert rows[0]["decided_by"] == "val top1"
    assert "exact McNemar test, with Holm's" in output
    assert "balanced accuracy decided" not in output + page


def test_one_point_with_imbalance_makes_balanced_accuracy_decide_the_whole_sweep(tmp_path):
    points = "points: [{model.dropout: 0.2}, {model.dropout: 0.4, training.imbalance: focal}]\n"
    rows, output, page, plan = swept(tmp_path, points)
    assert plan.decision() is DecisionMetric.BALANCED_ACCURACY
    assert [row["best_on_val"] for row in rows] == ["False", "True"]
    assert [float(row["val_balanced_accuracy"]) for row in rows] == pytest.approx([1.4 / 3, 2.15 / 3])
    assert float(rows[1]["difference"]) == pytest.approx(0.25)
    assert (rows[1]["test_says"], rows[1]["decided_by"]) == ("better", "val balanced_accuracy")
    for text in (output, page):
        words = " ".join(text.split())
        assert "best on val is dropout=0.4, imbalance=focal (val balanced accuracy 71.7 %)" in words
        assert "the best point, chosen on val by balanced accuracy" in words
        assert "71.7% [" in words or '71.7 <span class="ends">[' in words
        assert "sign-flip permutation test of balanced accuracy (at least 10,000 draws), with Holm" in words
    assert "Test balanced accuracy over point" in page


def test_a_search_is_decided_by_balanced_accuracy_where_any_point_of_its_space_is(tmp_path):
    pytest.importorskip("optuna", minversion="4.0", reason="needs Optuna: pip install '.[search]'")
    from keras_bench.sweep.search import _search_digest, open_trials

    text = "search: {method: random, trials: 4, space: {model.dropout: [0.2, 0.4]IMBALANCE}}\n"
    plain, mixed = (
        text.replace("IMBALANCE", more) for more in ("", ", training.imbalance: [none, oversample, class_weights]")
    )
    assert plan_sweep(request(tmp_path, plain)).decision() is DecisionMetric.TOP1
    rows, _, _, plan = swept(tmp_path, mixed)
    assert plan.decision() is DecisionMetric.BALANCED_ACCURACY
    assert {row["model.dropout"] for row in rows if row["best_on_val"] == "True"} == {"0.4"}
    with open_trials(plan) as trials:
        values = sorted({round(trial.value, 6) for trial in trials.study.trials})
    assert values == pytest.approx([1.4 / 3, 2.15 / 3], abs=1e-6)
    # Trials scored by top-1 belong to another search: a different identity keeps them apart.
    by_top1 = replace(plan, request=replace(plan.request, settings=("training.checkpoint_monitor=val_top1",)))
    assert by_top1.decision() is DecisionMetric.TOP1
    assert _search_digest(by_top1) != _search_digest(plan)


def test_an_ensemble_is_compared_with_the_member_that_is_best_in_the_deciding_metric(tmp_path, capsys):
    def averaged(chosen_by):
        made(tmp_path, "MobileNet", SMALL, chosen_by)
        made(tmp_path, "VGG16", LARGE)
        jobs = [
            replace(resolve(Request("digits", model, "tl", out=tmp_path, settings=("model.weights=none",))), folder=run)
            for model in ("MobileNet", "VGG16")
            for run in [run_folder(tmp_path, "made", model, 0)]
        ]
        run_ensemble(jobs, "both", fit=True, export=False, log=Log())
        return " ".join(capsys.readouterr().out.split())

    by_top1 = averaged(None)
    assert "its best member on val, " in by_top1
    assert "VGG16 tl: difference in test top-1" in by_top1
    balanced = averaged("val balanced_accuracy")
    assert "MobileNet tl: difference in test balanced accuracy" in balanced
