"""From a real run to its bundle by the real command line, and the faults that prevent a bundle."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from PIL import Image
from statsmodels.stats.proportion import proportion_confint

from keras_bench.bundle.model import Bundle
from keras_bench.bundle.sums import check_sums
from keras_bench.cli.main import main
from keras_bench.console import Log
from keras_bench.evaluation.predictions import Predictions
from keras_bench.export import agreement, quantize
from keras_bench.export.int8 import quantize_bundle
from keras_bench.export.make import lock_bundle
from keras_bench.export.records import Int8
from keras_bench.locks import wait_for_lock
from keras_bench.runs.folders import run_folder
from tests.conftest import digit_image, encoded
from tests.models.test_onnx import build

QUICK = [
    "--experiment", "digits", "--model", "MobileNet", "--phase", "ft", "--set", "model.alpha=0.25",
    "--set", "dataset.limit_per_class=20", "--set", "tl.epochs=2", "--set", "ft.epochs=1", "--weights", "none",
    "--set", "latency.enabled=false", "--set", "explain.enabled=false", "--set", "tl.learning_rate=0.01",
    "--set", "export.int8_max_drop_points=100",
]  # fmt: skip
EVERY_PHASE = ["--set", "export.phases=all"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two seeds of one model, the first with the bundles of both its phases."""
    folder = tmp_path_factory.mktemp("out")
    assert main(["run", *QUICK, *EVERY_PHASE, "--out", str(folder), "--in-suite"]) == 0
    assert main(["run", *QUICK, "--out", str(folder), "--seed", "1", "--no-export"]) == 0
    return folder


@pytest.fixture
def bundle(out):
    return out / "exports" / "digits" / "MobileNet-ft-seed0"


def test_every_phase_has_its_bundle_and_nothing_else_is_left(out, bundle):
    assert sorted(path.name for path in (out / "exports" / "digits").iterdir()) == [
        "MobileNet-ft-seed0",
        "MobileNet-tl-seed0",
    ]
    names = set(check_sums(bundle))
    assert names >= {"model.onnx", "model.int8.onnx", "labels.json", "predict.py", "verification.json", "MODEL_CARD.md"}
    assert sum(name.endswith(".png") for name in names) == 3
    assert names == {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()} - {
        "SHA256SUMS"
    }


def test_the_verification_agrees_with_the_files(out, bundle):
    verification = json.loads((bundle / "verification.json").read_text())
    test = Predictions.from_npz(run_folder(out, "digits", "MobileNet", 0).predictions("ft", "test"))
    assert verification["agreement"]["images"] == len(test.ids) == verification["data"]["test_images"]
    assert verification["agreement"]["keras_top1"]["value"] == pytest.approx(test.correct.mean())
    assert verification["agreement"]["max_difference"] <= verification["limits"]["max_difference"] == 1e-3
    assert verification["opset"] == 18
    assert verification["latency"] == []
    assert verification["int8"]["kept"]
    assert verification["int8"]["megabytes"] < 0.5 * verification["megabytes"]
    assert verification["about"]["model"] == "MobileNet"
    metadata = Bundle(bundle).metadata
    assert json.loads(metadata["class_names"]) == [str(name) for name in test.class_names]
    assert metadata["max_megapixels"] == "250"
    assert metadata["fingerprint"] == verification["about"]["fingerprint"]
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "# MobileNet, ft, on" in card
    low, _ = proportion_confint(len(test.ids), len(test.ids), method="wilson")
    assert f"same prediction as Keras for 100.00 % ({100 * low:.2f} to 100.00)" in card


def test_the_run_and_its_report_know_the_bundle(out, bundle):
    run = run_folder(out, "digits", "MobileNet", 0)
    content = run.read_export("ft")
    assert (run.root / content["bundle"]).resolve() == bundle.resolve()
    page = (out / "digits" / "index.html").read_text()
    assert 'id="bundles"' in page
    assert "all layers in 8 bits" in page


def test_a_bundle_that_a_killed_process_put_aside_comes_back_and_what_it_left_is_removed(tmp_path):
    bundle, other = tmp_path / "exports" / "a", tmp_path / "exports" / "b"
    for name in (".before-0123456789abcdef-a", ".writing-0123456789abcdef-a", ".writing-17-b", ".before-17-b"):
        (bundle.parent / name).mkdir(parents=True)
        (bundle.parent / name / "labels.json").write_text(name)
    (bundle.parent / ".writing-17-c").mkdir()
    with wait_for_lock(bundle.with_name(".c.lock"), "making c", Log()), lock_bundle(bundle, Log()):
        assert (bundle / "labels.json").read_text() == ".before-0123456789abcdef-a"
    assert {path.name for path in bundle.parent.iterdir() if path.suffix != ".lock"} == {"a", "b", ".writing-17-c"}
    assert (other / "labels.json").read_text() == ".before-17-b"


def test_the_same_command_does_nothing_again(out, bundle, capsys):
    before = (bundle / "model.onnx").stat().st_mtime_ns
    assert main(["export", str(out / "digits" / "MobileNet" / "seed0"), "--exports", str(out / "exports")]) == 0
    assert "exported before with the same settings: nothing to do" in capsys.readouterr().out
    assert (bundle / "model.onnx").stat().st_mtime_ns == before


def test_only_the_final_phase_is_exported_unless_another_is_asked_for(out, tmp_path, capsys):
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    run = run_folder(copy, "digits", "MobileNet", 0)
    exports = copy / "exports" / "digits"
    final = json.loads(run.run.read_text())["final_phase"]
    other = {"tl": "ft", "ft": "tl"}[final]
    bundles = {phase: exports / f"MobileNet-{phase}-seed0" for phase in ("tl", "ft")}
    quick = ["run", *QUICK, "--out", str(copy), "--in-suite", "--set", "export.int8=false"]
    for bundle in bundles.values():
        shutil.rmtree(bundle)
    assert main(quick) == 0
    assert [path.name for path in exports.iterdir()] == [bundles[final].name]
    assert main(quick) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["export", str(run.root), "--exports", str(exports.parent), "--no-int8", "--phase", other]) == 0
    assert sorted(exports.iterdir()) == sorted(bundles.values())
    check_sums(bundles[other])
    capsys.readouterr()
    assert main(quick) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_bundles_of_every_phase_stay_valid_and_whole(out, tmp_path, capsys):
    """A run of an earlier version has one of each phase."""
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    run = run_folder(copy, "digits", "MobileNet", 0)
    final = json.loads(run.run.read_text())["final_phase"]
    other = copy / "exports" / "digits" / f"MobileNet-{ {'tl': 'ft', 'ft': 'tl'}[final] }-seed0"
    quick = ["run", *QUICK, "--out", str(copy), "--in-suite"]
    assert main(quick) == 0
    assert "nothing to do" in capsys.readouterr().out
    (other / "labels.json").write_text("{}")
    assert main(quick) == 0
    assert f"{other / 'labels.json'} is damaged; it is made again" in capsys.readouterr().out
    check_sums(other)


def test_a_finished_phase_leaves_no_state_even_if_its_process_was_killed_before_removing_it(out, capsys):
    state = run_folder(out, "digits", "MobileNet", 0).state("tl")
    state.mkdir()
    (state / "epoch0002.json").write_text("{}")
    assert main(["run", *QUICK, "--out", str(out), "--in-suite"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert not state.exists()


def test_verify_measures_the_accuracy_that_was_recorded(bundle, capsys):
    assert main(["verify", str(bundle)]) == 0
    output = capsys.readouterr().out
    assert "checksums match, sample images agree within" in output
    top1 = json.loads((bundle / "verification.json").read_text())["agreement"]["onnx_top1"]["value"]
    assert "the data of the run" in output
    images = json.loads((bundle / "verification.json").read_text())["agreement"]["images"]
    low, high = proportion_confint(round(top1 * images), images, method="wilson")
    assert f"model.onnx: top-1 {100 * top1:.1f} % ({100 * low:.1f} to {100 * high:.1f}) on {images} test" in output


def test_a_finished_bundle_is_rebuilt_neither_when_it_is_signed_nor_afterwards(out, bundle, tmp_path, capsys):
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    before = {path: path.stat().st_mtime_ns for path in bundle.parent.rglob("*") if path.is_file()}
    words = ["export", str(out / "digits" / "MobileNet" / "seed0"), "--exports", str(out / "exports")]
    assert main([*words, "--sign", str(private)]) == 0
    output = capsys.readouterr().out
    assert "exported before with the same settings: nothing to do" in output
    assert output.count("signed:") == 2  # tl and ft
    assert {path: path.stat().st_mtime_ns for path in before} == before
    signed = {path: path.stat().st_mtime_ns for path in bundle.parent.rglob("*") if path.is_file()}
    assert len(signed) == len(before) + 2
    for command in (words, [*words, "--sign", str(private)], ["run", *QUICK, "--out", str(out), "--in-suite"]):
        assert main(command) == 0
        assert "nothing to do" in capsys.readouterr().out
        assert {path: path.stat().st_mtime_ns for path in bundle.parent.rglob("*") if path.is_file()} == signed
    assert main(["verify", str(bundle), "--key", str(public)]) == 0
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (copy / "model.int8.onnx").write_bytes(b"another")
    assert main(["verify", str(copy), "--key", str(public)]) == 1
    assert "model.int8.onnx was changed or damaged" in capsys.readouterr().err


def test_verify_refuses_a_changed_byte_and_says_which_file(bundle, tmp_path, capsys):
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    with (copy / "MODEL_CARD.md").open("a") as stream:
        stream.write("better than it is")
    assert main(["verify", str(copy)]) == 1
    assert "MODEL_CARD.md was changed or damaged" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "nowhere")]) == 2
    assert main(["verify", str(tmp_path)]) == 1
    assert "is not a bundle" in capsys.readouterr().err


def test_predict_gives_the_recorded_probabilities(bundle, tmp_path, capsys):
    expected = json.loads((bundle / "sample" / "expected.json").read_text())["model.onnx"]
    words = ["predict", str(bundle), str(bundle / "sample"), "--format", "csv", "--top", "1"]
    assert main(words) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 3
    for row in rows:
        probabilities = np.array(expected[f"sample/{Path(row['path']).name}"])
        assert float(row["probability_1"]) == pytest.approx(probabilities.max(), abs=1e-5)
    command = [sys.executable, str(bundle / "predict.py"), str(bundle / "sample"), "--format", "csv"]
    alone = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert list(csv.DictReader(alone.stdout.splitlines())) == rows
    assert main([*words, "--int8"]) == 0


def test_a_model_that_disagrees_is_not_exported(out, bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(agreement, "MAX_DIFFERENCE", -1.0)
    run = str(out / "digits" / "MobileNet" / "seed1")
    assert main(["export", run, "--phase", "ft", "--exports", str(tmp_path / "exports")]) == 1
    error = capsys.readouterr().err
    assert "the ONNX model failed its check and is not exported: a probability differs from Keras's" in error
    assert list((tmp_path / "exports" / "digits").iterdir()) == []


def test_int8_that_loses_too_much_is_not_kept_and_says_how_much(out, bundle, tmp_path, monkeypatch):
    """Every plan here writes a model whose weights are all zero, as if quantisation had destroyed it."""
    from keras_bench.config.schema import DatasetConfig, ExportConfig
    from keras_bench.data.sources import open_source
    from keras_bench.data.splits import split_images
    from keras_bench.data.store import ImageStore
    from keras_bench.runs.data import Data

    def collapse(source, target, batches, plan):
        import onnx

        model = onnx.load(source)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(values), tensor.name))
        onnx.save(model, target)
        return sum(1 for _ in batches)

    monkeypatch.setattr(quantize, "quantize", collapse)
    run = run_folder(out, "digits", "MobileNet", 0)
    val, test = (Predictions.from_npz(run.predictions("ft", split)) for split in ("val", "test"))
    perfect = np.eye(len(val.class_names), dtype=np.float32)
    val = Predictions(val.ids, val.labels, perfect[val.labels], val.class_names)
    config = DatasetConfig(**json.loads((bundle / "verification.json").read_text())["data"]["dataset"])
    index = open_source(config, None, Log())
    store = ImageStore(index, 1 << 20)
    data = Data(index, store, split_images(index, config, store.readable), "")
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    settings = ExportConfig(calibration_images=3, int8_max_drop_points=2.5)
    int8 = quantize_bundle("export", settings, data, copy, val, test, Log())
    assert not int8.kept
    assert not (copy / "model.int8.onnx").exists()
    assert [attempt.layers for attempt in int8.attempts] == [3] * len(quantize.PLANS)
    assert int8.attempts[0].drop_points == pytest.approx(90, abs=2)  # ten classes, one constant prediction
    assert "more than 2.5 (export.int8_max_drop_points)" in int8.reason


@pytest.mark.parametrize("verb", ["export", "run"])
def test_int8_is_calibrated_on_the_training_images_of_splits_csv(out, tmp_path, monkeypatch, verb):
    """Images that a run left out stay out, for `export` and for a `run` that makes a missing bundle."""
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    run = run_folder(copy, "digits", "MobileNet", 1)
    rows = [line.split(",") for line in run.splits.read_text().splitlines()]
    leaked = [row[0] for row in rows if row[2] == "train"][::3]
    kept = {row[0] for row in rows if row[2] == "train"} - set(leaked)
    texts = [",".join([*row[:2], "leaked" if row[0] in leaked else row[2]]) for row in rows]
    run.splits.write_text("\n".join(texts) + "\n")
    dataset = {
        key: value for key, value in json.loads(run.dataset.read_text()).items() if key not in ("files", "sha256")
    }
    run.dataset.write_text(json.dumps(dataset))  # as an earlier version, which kept no digests
    calibrated = []

    def record(title, settings, data, *rest):
        calibrated.append({data.index.ids[i] for i in data.splits.positions["train"]})
        return Int8(False, "not tried")

    monkeypatch.setattr("keras_bench.export.make.quantize_bundle", record)
    words = {"export": [str(run.root), "--phase", "ft"], "run": [*QUICK, "--out", str(copy), "--seed", "1"]}[verb]
    assert main([verb, *words, "--exports", str(tmp_path / "exports")]) == 0
    assert calibrated == [kept] * len(calibrated)
    assert calibrated


def test_wrong_arguments_are_refused(out, capsys, tmp_path):
    def fails(*words):
        assert main(list(words)) == 2
        return capsys.readouterr().err

    run = str(out / "digits" / "MobileNet" / "seed0")
    assert "holds no finished run" in fails("export", str(tmp_path))
    assert "--phase: " in fails("export", run, "--phase", "scratch")
    assert "at least 1, received 0" in fails("export", run, "--verify-limit", "0")
    assert "two finished runs or more" in fails("ensemble", run)
    assert "is named twice" in fails("ensemble", run, run)
    assert "expected a folder name" in fails("ensemble", run, run, "--name", "../x")


def rotated(image):
    """Return a JPEG that is stored rotated and marked so by its EXIF orientation."""
    exif = image.getexif()
    exif[0x0112] = 6
    return encoded(image, exif=exif)


KINDS = {
    "plain.jpg": encoded,
    "odd.png": lambda image: encoded(image.resize((37, 91)), "PNG"),
    "wide.webp": lambda image: encoded(image.resize((120, 33)), "WEBP", lossless=True),
    "gray.jpg": lambda image: encoded(image.convert("L")),
    "clear.png": lambda image: encoded(image.convert("RGBA").rotate(20), "PNG"),
    "cmyk.jpg": lambda image: encoded(image.convert("CMYK")),
    "turned.jpg": rotated,
    "large.jpg": lambda image: encoded(image.resize((2400, 1800))),
    "lying.png": encoded,
}


def test_files_of_every_kind_get_the_probabilities_of_the_run(tmp_path, capsys):
    photos = tmp_path / "photos"
    for k, name in enumerate(("ant", "bee <b>")):
        for i in range(12):
            (photos / "train" / name).mkdir(parents=True, exist_ok=True)
            (photos / "train" / name / f"{i}.jpg").write_bytes(encoded(digit_image(20 * k + i, 40)))
        for i, (file, make) in enumerate(KINDS.items()):
            (photos / "test" / name).mkdir(parents=True, exist_ok=True)
            (photos / "test" / name / file).write_bytes(make(digit_image(100 + 20 * k + i, 60)))
    weights = tmp_path / "lively.keras"
    build("MobileNet", alpha=0.25).save(weights)  # plain random weights predict the same for every image
    words = [
        "run", "--experiment", "digits", "--model", "MobileNet", "--phase", "tl", "--weights", str(weights),
        "--data", str(photos), "--set", "dataset.source=folder", "--set", "dataset.image_size=48",
        "--set", "model.alpha=0.25", "--set", "tl.epochs=5", "--set", "tl.learning_rate=0.01",
        "--set", "training.batch_size=8", "--set", "latency.enabled=false",
        "--set", "explain.enabled=false", "--set", "export.int8=false", "--out", str(tmp_path / "out"), "--in-suite",
    ]  # fmt: skip
    assert main(words) == 0
    run = run_folder(tmp_path / "out", "digits", "MobileNet", 0)
    test = Predictions.from_npz(run.predictions("tl", "test"))
    assert len(test.ids) == 2 * len(KINDS)
    assert np.ptp(test.probabilities[:, 0]) > 0.01  # otherwise any prediction would pass
    capsys.readouterr()
    bundle = tmp_path / "out" / "exports" / "digits" / "MobileNet-tl-seed0"
    assert main(["predict", str(bundle), str(photos / "test"), "--format", "jsonl", "--top", "2"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(test.ids)
    for row in rows:
        (i,) = np.flatnonzero(test.ids == Path(row["path"]).relative_to(photos).as_posix())
        probabilities = {answer["class"]: answer["probability"] for answer in row["answers"]}
        expected = dict(zip(test.class_names.tolist(), test.probabilities[i].tolist(), strict=True))
        assert probabilities == pytest.approx(expected, abs=1e-4), row["path"]


def test_an_ensemble_is_the_mean_and_becomes_one_graph(out, tmp_path, capsys):
    runs = [str(out / "digits" / "MobileNet" / f"seed{seed}") for seed in (0, 1)]
    exports = tmp_path / "exports"
    code = main(["ensemble", *runs, "--exports", str(exports), "--name", "both"])
    output = capsys.readouterr().out
    assert code == 0, output
    test = [
        Predictions.from_npz(run.predictions(json.loads(run.run.read_text())["final_phase"], "test"))
        for run in (run_folder(out, "digits", "MobileNet", seed) for seed in (0, 1))
    ]
    mean = (test[0].probabilities + test[1].probabilities) / 2
    accuracy = (mean.argmax(axis=1) == test[0].labels).mean()
    assert f"{100 * accuracy:.1f} % [" in output
    assert "The ensemble is " in output
    folder = exports / "digits" / "both"
    expected = json.loads((folder / "sample" / "expected.json").read_text())
    image = np.asarray(Image.open(folder / "sample" / "1.png").convert("RGB"))
    np.testing.assert_allclose(Bundle(folder).predict([image])[0], expected["model.onnx"]["sample/1.png"], atol=1e-5)
    verification = json.loads((folder / "verification.json").read_text())
    assert verification["agreement"]["keras_top1"]["value"] == pytest.approx(accuracy)
    assert [member["weight"] for member in verification["about"]["members"]] == [0.5, 0.5]
    assert "weighted mean of 2 networks" in (folder / "MODEL_CARD.md").read_text()
