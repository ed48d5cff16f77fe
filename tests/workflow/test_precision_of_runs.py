"""A whole run on an emulated GPU that computes in TF32: training may round, reported numbers may not."""

import json

import numpy as np
import pytest

from keras_bench.cli.main import main
from keras_bench.console import Log
from keras_bench.evaluation.predictions import Predictions
from keras_bench.export.places import positions_by_id
from keras_bench.models import onnx as convert
from keras_bench.models.phases import set_phase
from keras_bench.models.split import split_frozen
from keras_bench.models.start import start_tensorflow
from keras_bench.models.weights import load_model
from keras_bench.runs.data import load_data, open_data
from keras_bench.runs.job import Request, resolve
from keras_bench.runs.run import Run
from keras_bench.training import phase as training_phase
from keras_bench.training.feature_store import entries
from keras_bench.workflow import parts, plan
from tests.models.test_onnx import build
from tests.tf32 import allow, allowed

SETTINGS = (
    "model.alpha=0.25", "model.hidden_units=8", "dataset.limit_per_class=12", "tl.epochs=2", "tl.views=2",
    "tl.learning_rate=0.003", "ft.epochs=1", "latency.enabled=false", "export.int8=false", "explain.images=4",
    "explain.curve_images=4", "explain.randomized_images=4", "explain.smooth_samples=2", "explain.steps=4",
    "runtime.tensorboard=false",
)  # fmt: skip


@pytest.fixture
def weights(tmp_path):
    """A backbone whose features differ from image to image."""
    path = tmp_path / "lively.keras"
    build("MobileNet", side=32, alpha=0.25).save(path)
    return path


def words_of(request):
    words = ["--experiment", "digits", "--model", "MobileNet", "--phase", request.phase, "--out", str(request.out)]
    words += ["--weights", request.weights]
    return [*words, *(word for setting in request.settings for word in ("--set", setting))]


def request_of(out, weights, phase="ft"):
    return Request("digits", "MobileNet", phase, None, str(weights), out=out, settings=SETTINGS)


def images_of(job, data, positions):
    return np.concatenate([np.asarray(images) for images, _ in Run(job, data, Log()).pipeline.evaluation(positions)])


@pytest.mark.slow
def test_nothing_that_is_reported_is_rounded(emulated_tf32, weights, tmp_path, monkeypatch):
    seen = {}

    def noted(name, function):
        def wrapped(*arguments):
            before = len(emulated_tf32.seen)
            result = function(*arguments)
            seen.setdefault(name, []).extend(emulated_tf32.seen[before:])
            return result

        return wrapped

    def as_keras_has_it(function):
        def converted(*arguments):
            with emulated_tf32.converting():
                return function(*arguments)

        return converted

    monkeypatch.setattr(parts, "explain_run", noted("explanations", parts.explain_run))
    monkeypatch.setattr(training_phase, "fit_phase", noted("fit", training_phase.fit_phase))
    monkeypatch.setattr(training_phase, "evaluate", noted("evaluation", training_phase.evaluate))
    monkeypatch.setattr(convert, "to_onnx", as_keras_has_it(convert.to_onnx))
    allow(True)  # TensorFlow's default
    request = request_of(tmp_path / "out", weights)
    assert main(["run", *words_of(request), "--in-suite"]) == 0
    assert set(seen["fit"]) == {True, False}  # steps, validation
    assert set(seen["evaluation"]) == set(seen["explanations"]) == {False}
    assert not allowed()

    job, log = resolve(request), Log()
    data = load_data(job, *open_data(job, log), log)
    for phase in ("tl", "ft"):
        check_predictions(job, data, phase, emulated_tf32)
        verification = json.loads(
            (tmp_path / "out/exports/digits" / f"MobileNet-{phase}-seed0" / "verification.json").read_text()
        )
        assert verification["agreement"]["max_difference"] < 1e-4
    check_features(job, data, emulated_tf32)
    for environment in (
        json.loads(job.folder.environment.read_text()),
        job.folder.read_result("tl").environment,
        job.folder.read_result("ft").environment,
    ):
        assert environment["tf32"] == {"training": True, "evaluation": False}


def test_tensorflow_starts_in_full_float32(emulated_tf32):
    allow(True)
    start_tensorflow(Log())
    assert not allowed()


def test_a_dry_run_times_steps_as_training_would_run_them(emulated_tf32, weights, tmp_path, monkeypatch):
    seen = []

    def noted(run, phase):
        before = len(emulated_tf32.seen)
        probe = probe_phase(run, phase)
        seen.extend(emulated_tf32.seen[before:])
        return probe

    probe_phase = plan.probe_phase
    monkeypatch.setattr(plan, "probe_phase", noted)
    allow(True)
    assert main(["run", *words_of(request_of(tmp_path / "out", weights, phase="tl")), "--dry-run"]) == 0
    assert not allowed()
    steps = seen.index(False)  # predictions follow
    assert steps > 0
    assert not any(seen[steps:])


def check_predictions(job, data, phase, emulated):
    """Saved probabilities equal those of Keras in full float32, and rounded ones would differ too much."""
    model = load_model(job.folder.model(phase))
    for split in ("val", "test"):
        saved = Predictions.from_npz(job.folder.predictions(phase, split))
        images = images_of(job, data, positions_by_id(data.index, saved.ids))
        with emulated.converting():
            exact = np.asarray(model(images, training=False))
        np.testing.assert_allclose(saved.probabilities, exact, atol=1e-6)
        allow(True)
        coarse = np.asarray(model(images, training=False))
        allow(False)
        assert np.abs(coarse - exact).max() > 1e-3


def check_features(job, data, emulated):
    """Cached features equal those of Keras in full float32, and rounded ones would differ too much."""
    model = load_model(job.folder.model("tl"))
    set_phase(model, job.backbone, "tl")
    frozen, _ = split_frozen(model)
    cached = entries()
    assert len(cached) == 3  # two views of the training images, and validation
    pipeline = Run(job, data, Log()).pipeline
    for entry in cached:
        about = entry.read_facts()["about"]
        images = np.concatenate(
            [
                np.asarray(batch)
                for batch in pipeline.views(np.array(about["positions"]), job.config.augmentation, about["view"], 0)
            ]
        )
        with emulated.converting():
            exact = np.asarray(frozen(images, training=False))
        np.testing.assert_allclose(entry.open(exact.shape).array, exact, atol=1e-5 * exact.max())
        allow(True)
        coarse = np.asarray(frozen(images, training=False))
        allow(False)
        assert np.abs(coarse - exact).max() > 1e-4 * exact.max()
