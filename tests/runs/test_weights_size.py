"""Which of MobileNet's weight files a run starts from: by input size as Keras does, or as `model.weights_size` says."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import keras
import numpy as np
import pytest

from keras_bench.cli.main import main
from keras_bench.config.load import load_run_config
from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.runs.fingerprint import phase_inputs
from keras_bench.runs.folders import run_folder
from keras_bench.runs.job import Request, resolve
from keras_bench.runs.weights import find_weights, missing_weights
from keras_bench.sweep.plan import SweepRequest, plan_sweep
from keras_bench.sweep.run import run_sweep
from keras_bench.training.feature_store import entries as cached_features
from keras_bench.workflow.launch import find_all_weights

NOWHERE = "http://127.0.0.1:9/"


def job(model="MobileNet", *settings, phase="tl", **words):
    return resolve(Request("digits", model, phase, settings=settings, **words))


def name_of(size, tenths="1_0"):
    return f"mobilenet_{tenths}_{size}_tf_no_top.h5"


@pytest.fixture
def models(tmp_path):
    """The folder in which Keras keeps weights."""
    folder = tmp_path / "keras-home" / "models"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("keras_bench.backbones.table._STORAGE", NOWHERE)


def put(models, *names):
    """Write files with different contents, so that using the wrong one is noticed."""
    for name in names:
        (models / name).write_bytes(name.encode())


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("image_size", "weights_size", "expected", "description"),
    [
        (128, "auto", 128, "trained at 128 pixels"),
        (160, "auto", 160, "trained at 160 pixels"),
        (224, "auto", 224, "trained at 224 pixels"),
        (96, "auto", 224, "trained at 224 pixels and used at 96"),
        (128, 224, 224, "trained at 224 pixels and used at 128"),
        (224, 128, 128, "trained at 128 pixels and used at 224"),
    ],
)
def test_the_file_for_the_input_size_or_for_the_configured_size_is_used(
    models, image_size, weights_size, expected, description
):
    put(models, *(name_of(size) for size in (128, 160, 192, 224)))
    chosen = job("MobileNet", f"dataset.image_size={image_size}", f"model.weights_size={weights_size}")
    weights = find_weights(chosen, Log())
    assert weights.path == models / name_of(expected)
    assert weights.fingerprint == sha256(name_of(expected).encode())
    assert weights.origin == f"ImageNet weights {name_of(expected)}, {description}"
    assert missing_weights([chosen]) == []


def test_without_a_configured_image_size_the_backbones_own_decides(models):
    put(models, name_of(128), name_of(224))
    chosen = job("MobileNet", "dataset.image_size=null")
    assert chosen.image_size == 224
    assert find_weights(chosen, Log()).path == models / name_of(224)


def test_the_origin_of_backbones_with_one_file_mentions_no_size(models, monkeypatch):
    monkeypatch.setattr(
        "keras_bench.runs.weights.digest_file", lambda path, *algorithm: "50bc09e76180e00e4465e1a485ddc09d"
    )
    put(models, "efficientnetb0_notop.h5")
    assert find_weights(job("EfficientNetB0"), Log()).origin == "ImageNet weights efficientnetb0_notop.h5"


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (
            "MobileNet",
            ["model.weights_size=96"],
            r"model\.weights_size: expected auto or one of the sizes that ImageNet weights of MobileNet exist for "
            r"\(128, 160, 192, 224 pixels\), received 96$",
        ),
        (
            "MobileNetV2",
            ["model.weights_size=128", "model.alpha=1.4"],
            r"ImageNet weights of MobileNetV2 with alpha 1\.4 exist for \(224 pixels\), received 128$",
        ),
        (
            "VGG16",
            ["model.weights_size=224"],
            r"model\.weights_size: VGG16 has no ImageNet weights by input size, received 224; leave it auto, or set it "
            r"in the blocks models\.MobileNet and models\.MobileNetV2$",
        ),
        ("MobileNet", ["model.weights_size=large"], r"--set model\.weights_size=large: .*received 'large'"),
        ("MobileNet", ["model.weights_size=0"], r"--set model\.weights_size=0: .*received 0"),
    ],
)
def test_impossible_sizes_are_refused_in_one_line(model, settings, message):
    with pytest.raises(UserError, match=message) as refusal:
        job(model, *settings)
    assert "\n" not in str(refusal.value)


def test_a_size_does_not_prevent_other_weights():
    assert find_weights(job("MobileNet", "model.weights_size=224", weights="none"), Log()).fingerprint == "none"
    assert job("MobileNet", "model.weights_size=224", phase="scratch").config.model.weights == "none"


def test_offline_local_weights_for_another_size_are_suggested_but_not_used(models, offline):
    put(models, name_of(224, "7_5"), name_of(160, "7_5"), name_of(192, "1_0"))
    chosen = job("MobileNet", "dataset.image_size=128", "model.alpha=0.75")
    with pytest.raises(UserError) as refusal:
        find_weights(chosen, Log())
    text = str(refusal.value)
    assert text.startswith(f"ImageNet weights of MobileNet for 128 pixels are missing: could not download {NOWHERE}")
    assert f"Put {name_of(128, '7_5')} in {models}/, or use --weights none (random)" in text
    assert text.endswith(
        "; or MobileNet's weights for 160 and 224 pixels, which are there: "
        "--set model.weights_size=160 or --set model.weights_size=224"
    )
    assert "\n" not in text
    assert sorted(path.name for path in models.glob("[!.]*")) == [
        name_of(192, "1_0"), name_of(160, "7_5"), name_of(224, "7_5")
    ]  # fmt: skip
    named = job("MobileNet", "dataset.image_size=128", "model.alpha=0.75", "model.weights_size=224")
    assert find_weights(named, Log()).path == models / name_of(224, "7_5")


def test_nothing_is_suggested_without_local_weights_of_that_width(models, offline):
    put(models, name_of(224, "1_0"), "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.75_224_no_top.h5")
    with pytest.raises(UserError, match="for 128 pixels are missing") as refusal:
        find_weights(job("MobileNet", "dataset.image_size=128", "model.alpha=0.75"), Log())
    assert "weights_size" not in str(refusal.value)


def test_a_suite_suggests_settings_that_all_its_models_accept(models, offline, capsys):
    put(models, name_of(224), "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5")
    small = "dataset.image_size=128"
    with pytest.raises(UserError) as refusal:
        find_all_weights([job("MobileNet", small), job("MobileNetV2", small)], Log())
    text = str(refusal.value)
    assert "2 files of ImageNet weights are missing and could not be downloaded" in text
    assert "; or MobileNet's weights for 224 pixels, which are there: --set model.weights_size=224" in text
    assert text.endswith("; or MobileNetV2's weights for 224 pixels, which are there: --set model.weights_size=224")
    with pytest.raises(UserError) as refusal:  # VGG16 would refuse the setting
        find_all_weights([job("MobileNet", small), job("VGG16", small)], Log())
    text = str(refusal.value)
    assert "--set model.weights_size" not in text
    assert text.endswith("are there: MobileNet: {model: {weights_size: 224}} under models in the experiment")
    assert f"{name_of(128)} (MobileNet for 128 pixels) goes to {models}/" in capsys.readouterr().out


def test_a_dry_run_names_the_file_that_a_run_would_download_or_use(models, offline, capsys):
    from tests.runs.test_weights_file import write_h5

    write_h5(models / name_of(224, "2_5"))
    words = ["run", "--experiment", "digits", "--model", "MobileNet", "--phase", "tl", "--dry-run"]
    words += ["--set", "model.alpha=0.25", "--set", "dataset.limit_per_class=2", "--set", "dataset.image_size=160"]
    words += ["--set", "dataset.classes=['3', '5']", "--set", "training.batch_size=2"]
    assert main(words) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert f"a run would download it: {name_of(160, '2_5')} (MobileNet for 160 pixels) goes to" in output
    assert "; or MobileNet's weights for 224 pixels, which are there: --set model.weights_size=224" in output
    assert main([*words, "--set", "model.weights_size=224"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert f"weights: ImageNet weights {name_of(224, '2_5')}, trained at 224 pixels and used at 160" in output


def test_the_table_of_backbones_distinguishes_sizes(models, capsys):
    put(models, name_of(128), name_of(160, "7_5"))
    assert main(["models", "--filter", "name=MobileNet"]) == 0
    output = capsys.readouterr().out
    row = next(line for line in output.splitlines() if line.startswith("│"))
    assert [cell.strip() for cell in row.split("│")][-2] == "download"  # the row is of 224 pixels
    assert f"MobileNet: {name_of(224)} from https://storage.googleapis.com/" in " ".join(output.split())
    assert "others for inputs of 128, 160, 192 pixels, with that number in the name; here: 128" in output
    assert "weights: from ImageNet, for that size and alpha 1, in" in output
    put(models, name_of(224))
    assert main(["models", "--filter", "name=MobileNet", "--filter", "weights=here"]) == 0
    capsys.readouterr()
    assert main(["models", "--filter", "name=VGG16"]) == 0
    assert "others for inputs" not in capsys.readouterr().out


def test_the_setting_is_not_an_input_of_a_phase_but_the_file_content_is(tmp_path):
    small = job("MobileNet", "dataset.image_size=128")
    named = job("MobileNet", "dataset.image_size=128", "model.weights_size=128")
    inputs = phase_inputs(small, "tl", "d", "w")
    assert inputs == phase_inputs(named, "tl", "d", "w")
    assert not [key for key in inputs if "weights_" in key]
    assert inputs["weights"] == "w"
    (tmp_path / "config.yaml").write_text(
        "name: digits\nmodel: {alpha: 0.75}\n"
    )  # as written before the setting existed
    assert load_run_config(tmp_path / "config.yaml").model.weights_size == "auto"


def sweep_file(tmp_path, text):
    path = tmp_path / "sizes.yaml"
    path.write_text(f"experiment: digits\nmodels: [MobileNet]\nphase: tl\n{text}\n")
    return SweepRequest(str(path), out=tmp_path / "runs")


def start(request):
    run_sweep(request, False, Log(), run=lambda job: pytest.fail("a run started before its weights were found"))


def test_a_sweep_over_sizes_has_distinct_points_and_looks_for_every_file(tmp_path, models, offline):
    request = sweep_file(tmp_path, "set: {dataset.image_size: 128}\ngrid: {model.weights_size: [128, 224]}")
    assert len(plan_sweep(request).sweep.points) == 2
    put(models, name_of(128))
    with pytest.raises(UserError, match=f"1 files of .*: {name_of(224)}"):
        start(request)
    put(models, name_of(224))
    (models / name_of(128)).unlink()
    with pytest.raises(UserError, match=f"1 files of .*: {name_of(128)}"):
        start(request)
    by_image_size = sweep_file(tmp_path, "grid: {dataset.image_size: [224, 160, 96]}")
    with pytest.raises(UserError, match=f"1 files of .*: {name_of(160)}"):  # 224 and 96 share one file, which exists
        start(by_image_size)
    same = sweep_file(tmp_path, "set: {dataset.image_size: 128}\ngrid: {model.weights_size: [auto, 128]}")
    with pytest.raises(UserError, match=r"weights_size=auto and .*weights_size=128 would train the same MobileNet"):
        plan_sweep(same)


class Storage(BaseHTTPRequestHandler):
    """Serves the files of `server.files` by name."""

    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        self.server.requests.append(name)
        content = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def published(path, seed):
    """Return a file as Keras publishes them, with weights drawn from `seed`, and the kernel of its first layer."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = keras.applications.MobileNet(alpha=0.25, weights=None, include_top=False, input_shape=(128, 128, 3))
    model.save(path)
    return path.read_bytes(), model.get_layer("conv1").kernel.numpy()


@pytest.fixture
def storage(tmp_path, monkeypatch):
    files = {size: published(tmp_path / f"{size}.h5", size) for size in (128, 224)}
    with ThreadingHTTPServer(("127.0.0.1", 0), Storage) as server:
        server.requests = []
        server.files = {name_of(size, "2_5"): content for size, (content, _) in files.items()}
        server.kernels = {size: kernel for size, (_, kernel) in files.items()}
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr("keras_bench.backbones.table._STORAGE", f"http://127.0.0.1:{server.server_address[1]}/")
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_run_downloads_the_file_for_its_size_and_shares_no_features_with_another(tmp_path, storage, models, capsys):
    words = ["run", "--experiment", "digits", "--model", "MobileNet", "--phase", "tl", "--no-export"]
    for setting in (
        "model.alpha=0.25", "dataset.image_size=128", "dataset.classes=['3', '5']", "dataset.limit_per_class=10",
        "tl.epochs=1", "tl.views=1", "latency.enabled=false", "explain.enabled=false", "runtime.tensorboard=false",
    ):  # fmt: skip
        words += ["--set", setting]
    words += ["--out", str(tmp_path / "runs")]
    computed = []
    for size, variant in ((128, None), (224, "of-224")):
        more = ["--set", f"model.weights_size={size}", "--variant", variant] if variant else []
        assert main([*words, *more]) == 0
        output = " ".join(capsys.readouterr().out.split())
        name, used = name_of(size, "2_5"), "" if size == 128 else " and used at 128"
        assert storage.requests.pop() == name
        assert f"MobileNet for {size} pixels are not in {models}: downloading" in output
        assert f"weights: ImageNet weights {name}, trained at {size} pixels{used}" in output
        run = run_folder(tmp_path / "runs", "digits", "MobileNet", 0, variant)
        expected = sha256(storage.files[name])
        assert json.loads(run.environment.read_text())["weights_sha256"] == expected
        assert json.loads(run.result("tl").read_text())["inputs"]["weights"] == expected
        trained = keras.models.load_model(run.model("tl"))
        np.testing.assert_array_equal(trained.get_layer("conv1").kernel.numpy(), storage.kernels[size])
        computed.append(len(cached_features()))
    assert computed == [2, 4]  # train and val, recomputed for other weights
    assert main([*words, "--set", "model.weights_size=128"]) == 0  # the size that auto chose: no change
    assert "finished before with the same settings: nothing to do" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--set", "model.weights_size=224"]) == 2
    assert "was finished with other settings: weights was" in capsys.readouterr().err
    assert storage.requests == []
