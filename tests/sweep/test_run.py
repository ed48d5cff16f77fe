"""The verb `sweep`: it checks everything before a run starts, resumes by the same command and ends with a table."""

import csv
import json
import re
from pathlib import Path

import pytest

from keras_bench.cli.main import main
from keras_bench.errors import UserError
from keras_bench.files import write_json, write_text
from keras_bench.runs.folders import run_folder
from keras_bench.sweep.folder import sweep_folder
from keras_bench.sweep.plan import SweepRequest, corner, plan_sweep
from keras_bench.sweep.results import point_run
from keras_bench.sweep.tasks import expected_seconds
from keras_bench.workflow.launch import run_command
from tests.checks import loaded_by
from tests.made import make_training
from tests.made_sweep import GRID, FakeRunner, request, study, sweep

SWEEPS = Path(__file__).parents[2] / "experiments" / "sweeps"


@pytest.fixture
def _without_table(monkeypatch):
    """Skip the end of a sweep, where drawing takes most of the time."""
    monkeypatch.setattr("keras_bench.sweep.results.write_results", lambda plan, points, tasks, log: None)


def test_every_point_has_a_folder_named_after_its_settings(tmp_path):
    options = {"weights": "none", "settings": ("tl.epochs=2", "latency.calls=9", "runtime.tensorboard=false")}
    plan = plan_sweep(request(tmp_path, **options))
    roots = [task.job.folder.root for task in plan.tasks(plan.sweep.points)]
    assert roots[1] == (
        tmp_path / "runs/digits@model.dropout=0.2,model.weights=none,tl.epochs=2,training.batch_size=32/MobileNet/seed0"
    )
    assert len(set(roots)) == 4


def test_all_points_run_with_one_seed_before_the_next_seed_starts(tmp_path):
    plan = plan_sweep(request(tmp_path, seeds=(3, 0), models=("MobileNet", "MobileNetV2")))
    names = [task.name for task in plan.tasks(plan.sweep.points)]
    assert names[:5] == [
        "dropout=0.2, batch_size=16, MobileNet seed 3",
        "dropout=0.2, batch_size=32, MobileNet seed 3",
        "dropout=0.4, batch_size=16, MobileNet seed 3",
        "dropout=0.4, batch_size=32, MobileNet seed 3",
        "dropout=0.2, batch_size=16, MobileNetV2 seed 3",
    ]
    assert names[8] == "dropout=0.2, batch_size=16, MobileNet"


def test_the_command_of_a_run_resolves_to_the_same_run(tmp_path, capsys):
    text = "points: [{augmentation.zoom: [-0.2, 0.1], ft.unfreeze: all, model.alpha: 0.5, training.batch_size: 8}]\n"
    plan = plan_sweep(request(tmp_path, text, settings=("tl.epochs=2",)))
    (task,) = plan.tasks(plan.sweep.points)
    words = run_command(task.job)[3:]
    assert main(["run", *words, "--show-config"]) == 0
    shown = capsys.readouterr().out
    for line in ("zoom: [-0.2, 0.1]", "unfreeze: all", "alpha: 0.5", "batch_size: 8", "epochs: 2", "weights: none"):
        assert f"  {line}  #" in shown
    assert shown.count("enabled: false") == 3
    assert words[words.index("--variant") + 1] == task.job.experiment_folder.root.name.removeprefix("digits@")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("grid: {model.dropout: [0.2, 1.5]}", {}, r"study.yaml: grid: model.dropout: expected a number of at least"),
        ("grid: {tl.optimizer: [adam, sdg]}", {}, r"study.yaml: grid: tl.optimizer: expected 'adam'.*received 'sdg'"),
        ("points: [{}, {tl.epochs: x}]", {}, r"study.yaml: points: tl.epochs: expected a whole number.*received 'x'"),
        ("grid: {dataset.image_size: [16, 32]}", {}, r"MobileNet needs at least 32 pixels, received 16"),
        ("grid: {model.dropout: [0.2, 0.2]}", {}, r"grid: dropout=0.2 and dropout=0.2 would train the same MobileNet"),
        ("grid: {ft.epochs: [1, 2]}", {}, r"epochs=1 and epochs=2 would train the same MobileNet: .* phase tl depends"),
        ("grid: {latency.calls: [10, 20]}", {}, r"calls=10 and calls=20 would train the same MobileNet"),
        (GRID, {"settings": ("model.dropout=0.1",)}, r"--set model.dropout=0.1: .*study.yaml varies model.dropout"),
        (GRID, {"settings": ("tl.epoch=1",)}, r"--set tl.epoch=1: tl.epoch: unknown key 'epoch'; did you mean"),
        ("grid: {model.weights: [none, a.h5]}", {"weights": "none"}, r"--weights none: .* varies model.weights"),
        (GRID, {"models": ("MobilNet",)}, r"--model: unknown model 'MobilNet'"),
        (GRID, {"experiment": "digit"}, r"--experiment: unknown experiment 'digit'; did you mean 'digits'"),
        (GRID, {"phase": "scratch", "weights": "imagenet"}, r"phase scratch starts from random weights"),
        (
            "search: {method: random, trials: 2, space: {model.dropout: {low: 0.1, high: 1.5}}}", {},
            r"study.yaml: search: model.dropout: expected a number of at least 0 and less than 1.*received 1.5",
        ),
        (
            "search: {method: random, trials: 2, space: {ft.epochs: {low: 1, high: 3}}}", {},
            r"study.yaml: search: epochs=1 and epochs=3 would train the same",
        ),
        (
            "search: {method: random, trials: 2, space: {model.dropout: [0.1, 0.2]}}",
            {"models": ("MobileNet", "VGG16")}, r"search: expected one model, received MobileNet, VGG16; use --model",
        ),
    ],
)  # fmt: skip
def test_every_point_is_checked_before_anything_runs(tmp_path, text, options, message):
    runner = FakeRunner()
    with pytest.raises(UserError, match=message):
        sweep(request(tmp_path, text, **options), runner)
    assert runner.calls == []
    assert not (tmp_path / "runs").exists()


def test_an_unknown_experiment_names_the_file(tmp_path):
    path = study(tmp_path, GRID, base="experiment: digit\n")
    with pytest.raises(UserError, match=r"study.yaml: experiment: unknown experiment 'digit'; did you mean 'digits'"):
        plan_sweep(SweepRequest(path))


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_included_sweep_resolves(path):
    plan = plan_sweep(SweepRequest(str(path)))
    assert len({task.job.folder.root for task in plan.tasks(plan.sweep.points or (corner(plan),))}) == max(
        1, len(plan.sweep.points)
    )


def test_a_finished_sweep_has_its_table_figures_and_page(tmp_path):
    code, output = sweep(request(tmp_path), FakeRunner())
    assert code == 0
    folder = sweep_folder(tmp_path / "runs", "study")
    with folder.results.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["model.dropout"], row["training.batch_size"]) for row in rows] == [
        ("0.2", "16"), ("0.2", "32"), ("0.4", "16"), ("0.4", "32"),
    ]  # fmt: skip
    plan = plan_sweep(request(tmp_path))
    for row, task in zip(rows, plan.tasks(plan.sweep.points), strict=True):
        run = point_run(0, task.job)
        assert float(row["test_top1"]) == run.correct.mean()
        assert float(row["val_top1"]) == run.val_score
        assert float(row["seconds"]) == 8.0
        assert row["runs"] == str(task.job.folder.root)
    assert [row["baseline"] for row in rows] == ["True", "False", "False", "False"]
    assert [row["p_holm"] == "" for row in rows] == [True, False, False, False]
    for key in ("model.dropout", "training.batch_size"):
        assert (folder.figures / f"{key}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder.figures / f"{key}.svg").read_text()
    page = folder.page.read_text()
    assert page.count("<svg") == 2
    assert not re.findall(r"(?:src|href|url\()\s*=?\s*[\"'(]?\s*(?:https?:)?//", page)
    assert "runs: 4\n" in output
    assert "MobileNet: best on val is" in output
    assert str(folder.page) in output
    assert not list(tmp_path.rglob(".writing*"))


@pytest.mark.usefixtures("_without_table")
def test_after_the_first_run_the_remaining_time_is_estimated(tmp_path):
    _, output = sweep(request(tmp_path), FakeRunner())
    # 100 s with batch size 16, 200 s with batch size 32
    assert re.findall(r"runs left: .*", output) == [
        "runs left: 3, about 5 min 00 s, estimated from the finished ones",
        "runs left: 2, about 5 min 00 s, estimated from the finished ones",
        "runs left: 1, about 2 min 13 s, estimated from the finished ones",
    ]


@pytest.mark.usefixtures("_without_table")
def test_the_same_command_runs_only_the_missing_points(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sweep(request(tmp_path), FakeRunner(stops_at=3))
    resumed = FakeRunner()
    code, output = sweep(request(tmp_path), resumed)
    assert code == 0
    assert "runs: 4, of which 2 finished before" in output
    assert "runs left: 2, about 5 min 00 s" in output  # before anything is run
    # The first point runs again to fingerprint the data as it is now, which shows that the second is current.
    assert resumed.calls == [(0.2, 16, "MobileNet", 0), (0.4, 16, "MobileNet", 0), (0.4, 32, "MobileNet", 0)]
    assert output.count("finished before with the same settings") == 1
    finished = FakeRunner()
    assert sweep(request(tmp_path), finished)[0] == 0
    assert len(finished.calls) == 1


@pytest.mark.usefixtures("_without_table")
def test_a_run_that_is_no_longer_current_runs_again(tmp_path):
    sweep(request(tmp_path), FakeRunner())
    plan = plan_sweep(request(tmp_path))
    jobs = [task.job for task in plan.tasks(plan.sweep.points)]
    changed = json.loads(jobs[1].folder.result("tl").read_text())
    changed["inputs"]["tl.epochs"] = 99
    write_json(jobs[1].folder.result("tl"), changed)
    jobs[2].folder.cost.unlink()
    runner = FakeRunner()
    sweep(request(tmp_path), runner)
    assert [call[:2] for call in runner.calls] == [(0.2, 16), (0.2, 32), (0.4, 16)]


def test_a_point_that_fails_does_not_stop_the_others(tmp_path):
    text = "grid: {model.dropout: [0.2, 0.4, 0.6]}\n"
    code, output = sweep(request(tmp_path, text), FakeRunner(fails=(0.4,)))
    assert code == 1
    assert "not finished: dropout=0.4, MobileNet (exit code 1). The same command runs what is missing" in output
    with sweep_folder(tmp_path / "runs", "study").results.open() as stream:
        assert [row["point"] for row in csv.DictReader(stream)] == ["dropout=0.2", "dropout=0.6"]
    assert sweep(request(tmp_path, text), FakeRunner())[0] == 0


def test_a_first_run_that_is_refused_stops_the_sweep(tmp_path):
    runner = FakeRunner(fails=(0.2, 0.4), code=2)
    code, output = sweep(request(tmp_path), runner)
    assert (code, len(runner.calls)) == (2, 1)
    assert "table" not in output
    code, output = sweep(request(tmp_path), FakeRunner(fails=(0.2, 0.4)))
    assert code == 1
    assert "no run is finished, so there is no table yet" in output


@pytest.mark.usefixtures("_without_table")
def test_the_audit_of_the_same_images_is_made_once(tmp_path):
    class Auditing(FakeRunner):
        def __call__(self, job):
            if not job.experiment_folder.audit.is_file():
                self.audited = [*getattr(self, "audited", []), job.config.dataset.fraction]
                write_text(job.experiment_folder.audit, "{}")
            return super().__call__(job)

    runner = Auditing()
    sweep(request(tmp_path, "grid: {dataset.fraction: [1.0, 0.5], dataset.image_size: [32, 64]}\n"), runner)
    assert runner.audited == [1.0, 0.5]


def test_expected_seconds_are_the_mean_of_the_same_model_or_of_all_models(tmp_path):
    plan = plan_sweep(request(tmp_path, models=("MobileNet", "VGG16"), seeds=(0, 1)))
    jobs = [task.job for task in plan.tasks(plan.sweep.points[:1])]
    assert expected_seconds(jobs, ["MobileNet"]) is None
    for job, seconds in zip(jobs[:3], (10.0, 100.0, 20.0), strict=True):
        write_json(job.folder.timing, {"seconds": seconds})
    models = [job.backbone.name for job in jobs]
    assert models == ["MobileNet", "VGG16", "MobileNet", "VGG16"]
    assert expected_seconds(jobs, ["MobileNet", "VGG16", "VGG16"]) == 15 + 100 + 100
    assert expected_seconds(jobs, ["ResNet50"]) == pytest.approx(130 / 3)


def test_several_models_and_seeds_make_one_table(tmp_path):
    options = {"models": ("MobileNet", "MobileNetV2"), "seeds": (0, 1)}
    text = "grid: {model.dropout: [0.2, 0.6]}\nbaseline: {model.dropout: 0.6}\n"
    code, output = sweep(request(tmp_path, text, **options), FakeRunner())
    assert code == 0
    assert (
        "Figures are means over seeds 0, 1; the paired tests and their differences use seed 0 of MobileNet, seed 0"
        in output
    )
    page = sweep_folder(tmp_path / "runs", "study").page.read_text()
    assert "test top-1 of each seed" in page
    assert "<td>MobileNetV2</td>" in page
    with sweep_folder(tmp_path / "runs", "study").results.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["model"], row["baseline"], row["seeds"]) for row in rows] == [
        ("MobileNet", "False", "0 1"), ("MobileNet", "True", "0 1"),
        ("MobileNetV2", "False", "0 1"), ("MobileNetV2", "True", "0 1"),
    ]  # fmt: skip


def test_names_cannot_become_markup(tmp_path):
    text = "points: [{name: '<script>alert(1)</script>'}, {name: '[bold]$x$', model.dropout: 0.5}]\n"
    _, output = sweep(request(tmp_path, text), FakeRunner())
    page = sweep_folder(tmp_path / "runs", "study").page.read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "[bold]$x$" in output


def test_the_final_phase_is_the_best_on_val_among_the_requested_ones(tmp_path):
    plan = plan_sweep(request(tmp_path, "grid: {model.dropout: [0.2]}\n", phase="ft"))
    job = plan.job(plan.sweep.points[0], "MobileNet", 0)
    make_training(job.folder, (("tl", 4.0), ("ft", 0.5)))
    run = point_run(0, job)
    assert run.phase == "tl"
    assert run.seconds == 16.0  # both phases


@pytest.mark.usefixtures("_without_table")
def test_a_dry_run_lists_all_points_and_plans_one_unfinished_run(tmp_path, monkeypatch):
    planned = []
    monkeypatch.setattr("keras_bench.sweep.run.run_alone", lambda job, dry_run: planned.append((job, dry_run)) or 0)
    runner = FakeRunner(fails=(0.4,))
    sweep(request(tmp_path), runner)
    code, output = sweep(request(tmp_path), FakeRunner(), dry_run=True)
    assert code == 0
    assert "runs: 4" in output
    lines = [line for line in output.splitlines() if "dropout=" in line]
    assert ["finished" in line for line in lines] == [True, True, False, False]
    assert [(job.config.model.dropout, dry) for job, dry in planned] == [(0.4, True)]


def test_the_command_line_is_parsed_and_mistakes_are_refused(tmp_path, capsys, monkeypatch):
    requests = []
    monkeypatch.setattr(
        "keras_bench.sweep.run.run_sweep", lambda request, dry_run, log: requests.append((request, dry_run)) or 0
    )
    words = ["sweep", "dropout", "--seed", "1", "2", "1", "--model", "VGG16", "--set", "tl.epochs=1", "--dry-run"]
    assert main([*words, "--out", str(tmp_path), "--weights", "none", "--phase", "ft", "--data", "x"]) == 0
    expected = SweepRequest(
        "dropout", None, ("VGG16",), (1, 2), "ft", Path("x"), "none", ("tl.epochs=1",), tmp_path
    )  # fmt: skip
    assert requests == [(expected, True)]
    assert main(["sweep", "dropout", str(SWEEPS / "l2.yaml"), "--seed", "3"]) == 0
    assert [(request.sweep, request.seeds) for request, _ in requests[1:]] == [
        ("dropout", (3,)),
        (str(SWEEPS / "l2.yaml"), (3,)),
    ]
    assert main(["sweep", "dropout", "dropuot"]) == 2
    assert "unknown sweep 'dropuot'; did you mean 'dropout'" in capsys.readouterr().err
    assert len(requests) == 3  # a mistake in the second sweep is reported before the first one runs
    assert main(["sweep", "dropout", "--seed", "-1"]) == 2
    assert "--seed: expected a whole number from 0 to 4294967295, received -1" in capsys.readouterr().err
    assert main(["sweep", "dropout", "--sed", "1"]) == 2
    assert "unknown option '--sed'; did you mean '--seed'" in capsys.readouterr().err


def test_an_invalid_sweep_is_refused_before_heavy_packages_are_loaded(tmp_path):
    heavy = ("tensorflow", "keras", "matplotlib", "optuna")
    code, _, loaded = loaded_by(["sweep", study(tmp_path), "--set", "tl.epoch=3"], heavy)
    assert (code, loaded) == (2, [])


@pytest.mark.slow
def test_a_sweep_of_real_runs(tmp_path, capfd):
    grid = "baseline: {model.dropout: 0.5}\ngrid: {model.dropout: [0.1, 0.5], tl.optimizer: [adam, sgd]}\n"
    words = ["sweep", study(tmp_path, grid), "--out", str(tmp_path / "runs"), "--set", "tl.features=cached"]
    words += ["--set", "model.alpha=0.25", "--set", "dataset.limit_per_class=12", "--set", "tl.epochs=1"]
    assert main(words) == 0
    output = capfd.readouterr().out
    assert output.count("runs left: ") == 3
    with sweep_folder(tmp_path / "runs", "study").results.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    for row in rows:
        variant = Path(row["runs"]).parts[-3].partition("@")[2]
        run = run_folder(tmp_path / "runs", "digits", "MobileNet", 0, variant)
        result = json.loads(run.result("tl").read_text())
        assert float(row["test_top1"]) == pytest.approx(result["metrics"]["test"]["top1"])
        assert result["inputs"]["model.dropout"] == float(row["model.dropout"])
        assert result["inputs"]["tl.optimizer"] == row["tl.optimizer"]
        assert not run.latency.exists()
        assert not run.explanation_checks.exists()
    trained = {row["runs"]: (Path(row["runs"]) / "run.json").stat().st_mtime_ns for row in rows}
    assert main(words) == 0
    output = capfd.readouterr().out
    assert "runs: 4, of which 4 finished before" in output
    assert output.count("finished before with the same settings") == 4
    assert trained == {row["runs"]: (Path(row["runs"]) / "run.json").stat().st_mtime_ns for row in rows}
