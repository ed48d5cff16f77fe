"""The real command line: what it refuses, what it writes, and that the same command does no work twice."""

import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from keras_bench.cli.main import main
from keras_bench.disk import size_text
from keras_bench.evaluation.metrics import compute_metrics
from keras_bench.evaluation.predictions import Predictions
from keras_bench.explain.judge import judge_methods
from keras_bench.explain.records import ExplanationChecks
from keras_bench.runs.folders import run_folder
from keras_bench.runs.history import read_history
from tests.checks import loaded_by, python

SMALL = [
    "--experiment", "digits", "--model", "MobileNet", "--weights", "none", "--set", "model.alpha=0.25",
    "--set", "dataset.limit_per_class=12", "--set", "tl.epochs=2", "--set", "ft.epochs=1", "--set", "scratch.epochs=1",
    "--set", "latency.enabled=false", "--set", "explain.images=8", "--set", "explain.smooth_samples=2",
    "--set", "export.enabled=false",
]  # fmt: skip
WITHOUT_REPORT = ["--in-suite"]  # the comparison is left to a suite; drawing it takes longer than a small run


def fails(capsys, *words, code=2):
    """Run a command that must fail with one line on standard error, and return that line."""
    assert main(list(words)) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


HEAVY = ("tensorflow", "keras", "sklearn", "matplotlib", "pandas")


@pytest.mark.parametrize("words", ["['run', '--help']", "['--help']", "['suite', '--help']"])
def test_help_is_quick_and_light(words):
    code = (
        "import time, contextlib, io; start = time.process_time()\n"
        "from keras_bench.cli.main import main\n"
        f"with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main({words})\n"
        f"print(time.process_time() - start)\nimport sys; print([name for name in {HEAVY} if name in sys.modules])"
    )
    seconds, loaded = python(code).splitlines()
    assert float(seconds) < 0.5
    assert loaded == "[]"


def test_errors_in_the_configuration_come_before_tensorflow():
    code, _, loaded = loaded_by(["run", "--set", "tl.epoch=3"], HEAVY)
    assert (code, loaded) == (2, [])


def test_the_models_table_and_the_configuration_are_printed_without_tensorflow(capsys):
    code, output, loaded = loaded_by(["models", "--filter", "flops<1"], HEAVY)
    assert (code, loaded) == (0, [])
    assert "EfficientNetB0" in output
    assert "efficientnetb0_notop.h5" in output
    assert main(["run", "--experiment", "digits", "--show-config", "--set", "scratch.epochs=4"]) == 0
    assert "  epochs: 4  # maximum number of epochs" in capsys.readouterr().out


def test_bad_words_are_one_line_that_helps(capsys, tmp_path):
    assert "unknown option '--modle'; did you mean '--model'" in fails(capsys, "run", "--modle", "VGG16")
    assert "unknown model 'VGG'; did you mean" in fails(capsys, "run", "--model", "VGG")
    assert "invalid choice: 'fit'" in fails(capsys, "run", "--phase", "fit")
    assert "unknown experiment 'nothing'" in fails(capsys, "run", "--experiment", "nothing")
    assert "no such file or folder" in fails(
        capsys, "run", *SMALL[:2], "--set", "dataset.source=folder", "--data", "nowhere"
    )
    assert "--variant: expected a folder name" in fails(capsys, "run", "--variant", "a/b")
    assert "--seed: expected a whole number from 0 to 4294967295, received -1" in fails(capsys, "run", "--seed", "-1")


def test_settings_that_cannot_work_together_are_refused(capsys, tmp_path):
    run = ["run", "--experiment", "digits"]
    assert "VGG16 has no width multiplier" in fails(capsys, *run, "--model", "VGG16", "--set", "model.alpha=0.5")
    assert "InceptionV3 needs at least 75 pixels, received 32" in fails(capsys, *run, "--model", "InceptionV3")
    assert "there are no ImageNet weights for ResNet18" in fails(capsys, *run, "--model", "ResNet18", "--phase", "tl")
    alpha = ["--phase", "tl", "--model", "MobileNet", "--set", "model.alpha=0.3"]
    assert "ImageNet weights of MobileNet exist for 0.25, 0.5, 0.75, 1; received 0.3" in fails(capsys, *run, *alpha)
    assert "phase scratch starts from random weights" in fails(capsys, *run, "--weights", "imagenet")
    auxiliary = ["--model", "EfficientNetB0", "--set", "model.auxiliary_weight=0.4"]
    line = fails(capsys, *run, *auxiliary)
    assert "EfficientNetB0 has no auxiliary classifier, received 0.4; did you mean --model InceptionV3?" in line
    assert "expected a number of at least 0 and at most 1,000" in fails(
        capsys, *run, "--set", "model.auxiliary_weight=-1"
    )
    line = fails(capsys, *run, "--set", "training.accumulation_steps=5")
    assert "training.accumulation_steps: a batch of 32 images is computed in equal portions" in line
    assert "expected a number that divides 32, received 5" in line
    few = ["--phase", "scratch", "--set", "dataset.limit_per_class=2", "--set", "training.accumulation_steps=8"]
    line = fails(capsys, *run, *few, "--set", "training.batch_size=64", "--out", str(tmp_path))
    assert "10 training images fill 2 portions of 8, expected at least 8" in line


@pytest.mark.parametrize("words", [["suite"], ["suite", "--dry-run"], ["run"], ["run", "--dry-run"]])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "intel",
            "https://www.kaggle.com/datasets/puneet6060/intel-image-classification (needs a free account): the",
        ),
        ("imagenet100", "train.X1/ to train.X4/ and val.X/, one folder per WordNet id"),
        ("folder", "one folder of images per class, <class>/<image>, or the same below train/, val/ and test/"),
    ],
)
def test_images_that_only_the_user_can_fetch_are_asked_for_before_anything_else(capsys, monkeypatch, words, name, told):
    monkeypatch.setattr("keras_bench.runs.weights.download", lambda *arguments: pytest.fail("weights come after data"))
    line = fails(capsys, *words, "--experiment", name)
    assert f"{name}: its images are not downloaded for you; give them with --data FOLDER-OR-ZIP" in line
    assert "(with make: DATA=FOLDER-OR-ZIP). Expected: " in line
    assert told in line
    assert "--data nowhere: no such file or folder" in fails(capsys, *words, "--experiment", name, "--data", "nowhere")


def test_missing_weights_name_the_file_its_place_and_the_options(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("keras_bench.backbones.table._STORAGE", "http://127.0.0.1:9/")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    line = fails(capsys, "run", "--model", "EfficientNetB0", "--phase", "ft")
    assert "ImageNet weights of EfficientNetB0 are missing" in line
    assert "http://127.0.0.1:9/keras-applications/efficientnetb0_notop.h5: no connection" in line
    assert f"Put efficientnetb0_notop.h5 in {tmp_path}/home/models/, or use" in line
    assert "--weights none (random), --weights PATH" in line
    assert not (tmp_path / "cache").exists()  # weights are looked for before data


def test_a_suite_names_every_missing_file_before_anything_else(capsys, monkeypatch):
    monkeypatch.setattr("keras_bench.backbones.table._STORAGE", "http://127.0.0.1:9/")
    assert main(["suite"]) == 2
    output = capsys.readouterr()
    for name in ("vgg16_weights", "resnet50_weights", "efficientnetb0_notop.h5"):
        assert name in output.out
        assert name in output.err


def test_weights_that_are_not_the_published_file_are_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnetb0_notop.h5").write_bytes(b"half a download")
    line = fails(capsys, "run", "--model", "EfficientNetB0")
    assert "is not the published file (md5 should be 50bc09e76180e00e4465e1a485ddc09d)" in line


def test_a_run_that_does_not_exist_cannot_lend_weights(capsys, tmp_path):
    words = ["run", *SMALL[:4], "--phase", "tl", "--out", str(tmp_path), "--weights"]
    assert "holds no finished run" in fails(capsys, *words, "run:demo/MobileNet/seed0")
    assert "expected run:<experiment>/<model>/seed<k>" in fails(capsys, *words, "run:demo")
    assert "expected imagenet, none, run:… or an .h5 or .keras file" in fails(capsys, *words, "nowhere.h5")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One small run on digits, tl and ft, by the real command line."""
    out = tmp_path_factory.mktemp("runs")
    assert main(["run", *SMALL, "--phase", "ft", "--out", str(out)]) == 0
    return out


def test_a_run_writes_every_file_of_its_folder(finished):
    run = run_folder(finished, "digits", "MobileNet", 0)
    for name in ("config.yaml", "environment.json", "dataset.json", "splits.csv", "run.log", "run.json"):
        assert (run.root / name).is_file(), name
    for phase in ("tl", "ft"):
        for name in (
            "history.csv",
            "best.weights.h5",
            "model.keras",
            "result.json",
            "predictions-val.npz",
            "predictions-test.npz",
        ):
            assert (run.phase(phase) / name).is_file(), name
        assert not run.state(phase).exists()
        assert list(run.tensorboard(phase).rglob("events.*"))
        assert run.class_report(phase).is_file()
    for name in ("learning_curves", "confusion_matrix", "sample_predictions"):
        assert (run.figures / f"{name}.png").stat().st_size > 10_000
        assert (run.figures / f"{name}.svg").is_file()
    for path in (run.cost, run.explanations, run.explanation_checks, run.model_card):
        assert path.is_file(), path
    assert list((run.root / "thumbnails").glob("*.jpg"))
    for name in ("results.csv", "summary.txt", "index.html", "audit.json", "explained.json"):
        assert (finished / "digits" / name).is_file(), name
    assert not list(finished.rglob(".writing*"))


def test_the_log_keeps_the_score_of_every_class(finished):
    log = run_folder(finished, "digits", "MobileNet", 0).log.read_text()
    for phase in ("tl", "ft"):
        table = log[log.index(f"{phase}: every class on test") :]
        assert all(name in table for name in ("precision", "recall", "F1", "images"))


@pytest.mark.slow
def test_parts_whose_settings_changed_are_made_again_without_training(finished, capsys):
    run = run_folder(finished, "digits", "MobileNet", 0)
    trained = run.result("ft").stat().st_mtime_ns
    words = ["run", *SMALL, "--phase", "ft", "--out", str(finished)]
    assert len(json.loads(run.explanation_checks.read_text())["ids"]) == 8
    assert main([*words, "--set", "explain.images=6", *WITHOUT_REPORT]) == 0
    assert "explanations of" in capsys.readouterr().out
    assert len(json.loads(run.explanation_checks.read_text())["ids"]) == 6
    assert main(words) == 0
    assert run.result("ft").stat().st_mtime_ns == trained


def test_splits_predictions_and_metrics_agree(finished):
    run = run_folder(finished, "digits", "MobileNet", 0)
    with run.splits.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 1797
    for phase in ("tl", "ft"):
        result = json.loads(run.result(phase).read_text())
        for split in ("val", "test"):
            predictions = Predictions.from_npz(run.predictions(phase, split))
            expected = {row["id"]: row["class"] for row in rows if row["split"] == split}
            named = dict(zip(predictions.ids, predictions.class_names[predictions.labels], strict=True))
            assert named == expected
            assert predictions.probabilities.dtype == np.float32
            np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-5)
            for name, value in result["metrics"][split].items():
                assert value == getattr(compute_metrics(predictions), name)
    assert sum(row["split"] == "train" for row in rows) + sum(row["split"] == "val" for row in rows) == 120


def test_the_final_phase_is_chosen_on_val_and_the_result_carries_its_provenance(finished):
    run = run_folder(finished, "digits", "MobileNet", 0)
    results = {phase: json.loads(run.result(phase).read_text()) for phase in ("tl", "ft")}
    best = "ft" if results["ft"]["metrics"]["val"]["top1"] > results["tl"]["metrics"]["val"]["top1"] else "tl"
    assert json.loads(run.run.read_text())["final_phase"] == best
    tl = results["tl"]
    assert tl["parameters"] == 218_544 + 68_362  # keras.applications' count of MobileNet 0.25 without top, and the head
    assert tl["trainable_parameters"] == (256 * 256 + 256) + (256 * 10 + 10)
    assert tl["inputs"]["dataset.image_size"] == 32
    assert tl["inputs"]["weights"] == "none"
    assert tl["environment"]["packages"]["tensorflow"].startswith("2.")
    assert json.loads(run.dataset.read_text())["class_names"] == [str(k) for k in range(10)]


def test_the_saved_model_gives_the_saved_predictions(finished):
    import keras

    from keras_bench.config import DatasetConfig
    from keras_bench.console import Log
    from keras_bench.data.sources import open_source
    from keras_bench.images import decode

    run = run_folder(finished, "digits", "MobileNet", 0)
    model = keras.models.load_model(run.model("ft"))
    predictions = Predictions.from_npz(run.predictions("ft", "test"))
    index = open_source(DatasetConfig(source="digits"), None, Log())
    image = decode(index.read(index.ids.index(str(predictions.ids[7]))))
    resized = keras.ops.image.resize(image[None].astype(np.float32), (32, 32))
    np.testing.assert_allclose(model(resized, training=False)[0], predictions.probabilities[7], atol=1e-5)


def test_the_same_command_does_no_work_and_says_so(finished, capsys):
    run = run_folder(finished, "digits", "MobileNet", 0)
    before = {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.name not in ("run.log", ".lock")}
    _, output, loaded = loaded_by(["run", *SMALL, "--phase", "ft", "--out", finished])
    assert "tl and ft finished before with the same settings: nothing to do" in output
    assert "tensorflow" not in loaded
    after = {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.name not in ("run.log", ".lock")}
    assert after == before


def test_changed_settings_are_named_and_nothing_is_overwritten(finished, capsys):
    words = ["run", *SMALL, "--phase", "ft", "--out", str(finished), "--set", "tl.epochs=3"]
    line = fails(capsys, *words)
    assert "tl was finished with other settings: tl.epochs was 2, is now 3. Keep both with --variant NAME" in line
    line = fails(capsys, *words[:-2], "--set", "dataset.fraction=0.5", "--seed", "0")
    assert "dataset.fraction was 1.0, is now 0.5" in line


def test_ft_reuses_a_finished_tl_and_says_so(finished, capsys):
    run = run_folder(finished, "digits", "MobileNet", 0)
    kept = {path: path.read_bytes() for path in (run.result("tl"), run.best_weights("tl"), run.result("ft"))}
    shutil.rmtree(run.phase("ft"))
    run.run.unlink()
    assert main(["run", *SMALL, "--phase", "ft", "--out", str(finished)]) == 0
    assert "tl: finished before with the same settings, reused" in capsys.readouterr().out
    for path in (run.result("tl"), run.best_weights("tl")):
        assert path.read_bytes() == kept[path]
    again, before = json.loads(run.result("ft").read_text()), json.loads(kept[run.result("ft")])
    assert again["metrics"]["test"]["cross_entropy"] == pytest.approx(
        before["metrics"]["test"]["cross_entropy"], rel=1e-3
    )


def test_a_suite_lends_weights_from_another_run_and_ends_with_the_table(finished, tmp_path, capfd):
    study = tmp_path / "transfer.yaml"
    study.write_text(
        "dataset: {source: digits, image_size: 32, limit_per_class: 12, classes: ['8', '9']}\n"
        "tl: {epochs: 1}\nmodel: {alpha: 0.25}\nfinal_phase: tl\n"
        "latency: {batch_sizes: [1], calls: 5, seconds: 1}\nexplain: {images: 8, smooth_samples: 2}\n"
        "models:\n  MobileNet: {model: {weights: 'run:digits/MobileNet/seed0'}}\n"
        "  MobileNetV2: {model: {weights: none, alpha: 0.35}}\n"
    )
    assert main(["suite", "--experiment", str(study), "--out", str(finished)]) == 0
    output = capfd.readouterr().out
    assert "weights: the backbone of digits/MobileNet/seed0" in output
    assert output.count("tl *") == 2
    with (finished / "transfer" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["model"] for row in rows} == {"MobileNet", "MobileNetV2"}
    assert all(float(row["compiled_cpu_batch1_p50_ms"]) > 0 for row in rows)
    runs = [run_folder(finished, "transfer", model, 0) for model in ("MobileNet", "MobileNetV2")]
    timed = [json.loads(run.latency.read_text())["measurements"] for run in runs]
    assert {one["call"] for one in timed[0]} == {"predict", "compiled", "onnxruntime"}
    assert (finished / "exports" / "transfer" / "MobileNetV2-tl-seed0" / "verification.json").is_file()
    assert f"bundles: {finished / 'exports' / 'transfer'}" in output
    assert len({one["session"] for measurements in timed for one in measurements}) == 1
    explained = [json.loads(run.explanation_checks.read_text())["ids"] for run in runs]
    assert explained[0] == explained[1]
    assert "Best: " in output


def test_a_dry_run_plans_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "runs"
    assert main(["run", *SMALL, "--phase", "ft", "--out", str(out), "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "10 classes, 1,797 images of 8×8 pixels" in output
    assert "already done: nothing" in output
    train, val, test = 110, 10, 179
    views = f"at most 2 epochs on features of {4 * train + val} images"
    assert f"tl: trains 68,362 of 286,906 parameters; {views}" in output
    # An epoch of train and val, then val and test once more. What trains is all but BatchNorm.
    assert f"of 286,906 parameters; at most 1 epoch, {train + val + val + test} images" in output
    trains = re.findall(r"trains ([\d,]+) of 286,906 parameters", output)
    counts = [int(count.replace(",", "")) for count in trains]
    # Model, best weights and two states, of which three with two optimizer variables per weight; and the predictions.
    sizes = [4 * (286_906 + 3 * (286_906 + 2 * count) + 10 * (val + test)) for count in counts]
    assert len(sizes) == 2
    assert f"{size_text(sum(sizes))} on disk" in output
    assert "after training: explanations of 8 test images; the report" in output
    assert not out.exists()


def test_scratch_on_a_folder_of_real_scans(image_folder, tmp_path, capsys):
    (image_folder / "class 0" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    words = [
        "run", "--experiment", "digits", "--phase", "scratch", "--model", "MobileNet", "--data", str(image_folder),
        "--out", str(tmp_path / "runs"), "--set", "dataset.source=folder", "--set", "model.alpha=0.25",
        "--set", "scratch.epochs=1", "--set", "training.imbalance=class_weights", "--set", "training.batch_size=16",
        "--set", "latency.enabled=false", "--set", "explain.enabled=false", "--no-export", *WITHOUT_REPORT,
    ]  # fmt: skip
    assert main(words) == 0
    output = capsys.readouterr().out
    assert "1 unreadable image is left out" in output
    assert "class 0/broken.jpg" in output
    content = json.loads((tmp_path / "runs/digits/MobileNet/seed0/dataset.json").read_text())
    assert list(content["unreadable"]) == ["class 0/broken.jpg"]
    run = run_folder(tmp_path / "runs", "digits", "MobileNet", 0)
    assert json.loads(run.run.read_text())["chosen_by"] == "val balanced_accuracy"  # since class weights make up for it
    ((_, row),) = read_history(run.history("scratch")).iterrows()
    result = json.loads(run.result("scratch").read_text())
    assert row["val_balanced_accuracy"] == pytest.approx(result["metrics"]["val"]["balanced_accuracy"])
    assert result["inputs"]["training.checkpoint_monitor"] == "val_balanced_accuracy"


@pytest.mark.slow
def test_a_killed_run_is_finished_by_the_same_command(tmp_path, capsys):
    words = ["run", *SMALL, "--phase", "tl", "--out", str(tmp_path), "--set", "tl.epochs=30"]
    words += ["--set", "training.early_stopping_patience=30", "--set", "runtime.save_state_seconds=0"]
    run = run_folder(tmp_path, "digits", "MobileNet", 0)
    with subprocess.Popen([sys.executable, "-m", "keras_bench", *words], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "tl epoch  3/30" in line:
                process.kill()
                break
    assert not run.result("tl").exists()
    assert main(words) == 0
    assert "continuing after epoch" in capsys.readouterr().out
    with run.history("tl").open() as stream:
        assert [int(row["epoch"]) for row in csv.DictReader(stream)] == list(range(1, 31))
    assert run.run.is_file()


@pytest.mark.slow
def test_half_precision_trains_and_leaves_a_float32_model(tmp_path):
    import keras

    words = ["run", *SMALL, "--phase", "ft", "--out", str(tmp_path), "--set", "training.mixed_precision=bfloat16"]
    words += ["--set", "export.enabled=true", "--set", "export.int8=false", "--set", "export.phases=all"]
    assert main(words) == 0
    run = run_folder(tmp_path, "digits", "MobileNet", 0)
    assert {layer.dtype_policy.name for layer in keras.models.load_model(run.model("ft")).layers} == {"float32"}
    assert json.loads(run.result("ft").read_text())["resolved"]["mixed_precision"] == "bfloat16"
    assert (tmp_path / "exports" / "digits" / "MobileNet-ft-seed0" / "verification.json").is_file()


@pytest.mark.slow
def test_real_transfer_learning_on_real_images(shared_mini, shared_keras_home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_HOME", str(shared_keras_home))
    words = [
        "run", "--experiment", "tiny-imagenet", "--data", str(shared_mini), "--model", "MobileNet", "--phase", "ft",
        "--set", "model.alpha=0.75", "--set", "tl.epochs=5", "--set", "ft.epochs=1", "--set", "dataset.image_size=128",
        "--out", str(tmp_path), "--set", "explain.images=200", "--set", "latency.enabled=false",
        "--set", "model.weights_size=224",
    ]  # fmt: skip
    assert main(words) == 0
    run = run_folder(tmp_path, "tiny-imagenet", "MobileNet", 0)
    final = json.loads(run.run.read_text())["final_phase"]
    bundle = tmp_path / "exports" / "tiny-imagenet" / f"MobileNet-{final}-seed0"
    assert main(["verify", str(bundle), "--data", str(shared_mini)]) == 0
    checks = ExplanationChecks.from_json(json.loads(run.explanation_checks.read_text()))
    gradcam = next(one for one in judge_methods(checks) if one.method == "gradcam")
    assert gradcam.hits.value > gradcam.box_share
    assert gradcam.hits_above_chance.low > 0  # the difference of the two, image by image
    assert gradcam.beats_random
    assert gradcam.changes_with_head
    assert gradcam.changes_with_backbone
    assert json.loads(run.result(final).read_text())["metrics"]["test"]["top1"] >= 0.60
    assert "goldfish" in json.loads(run.dataset.read_text())["class_titles"][0]
