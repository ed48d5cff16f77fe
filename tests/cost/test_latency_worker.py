"""The calls that are timed, and real measurements in a process of its own."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.cost.latency_worker import (
    _parse_options,
    accelerator_name,
    measure,
    prepare_call,
    random_images,
    threads_used,
)
from keras_bench.environment import peak_memory_mb
from keras_bench.errors import RunError
from keras_bench.models.build import ModelSpec, build_model
from tests.tf32 import allow


def test_images_are_the_same_every_time_and_integers():
    images = random_images(2, 16)
    assert images.shape == (2, 16, 16, 3)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, random_images(2, 16))
    np.testing.assert_array_equal(images, images.round())
    assert 0 <= images.min() < 8
    assert 247 < images.max() <= 255


@pytest.fixture
def saved(tmp_path):
    model = build_model(ModelSpec(BACKBONES["MobileNet"], 32, 7, ModelConfig(alpha=0.25)))
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.mark.parametrize("kind", ["predict", "compiled"])
def test_the_timed_call_returns_the_model_s_predictions(saved, kind):
    model = keras.models.load_model(saved, compile=False)
    for size in (1, 3):  # as in a process that measures both
        call = prepare_call(model, kind, size)
        expected = model(random_images(size, 32), training=False).numpy()
        for _ in range(2):
            probabilities = call()
            assert isinstance(probabilities, np.ndarray)
            np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["predict", "compiled"])
def test_each_batch_size_is_traced_for_itself(saved, kind, monkeypatch):
    # In a process of its own it would be; Keras would trace `predict` for a batch of any size at the second one.
    model = keras.models.load_model(saved, compile=False)
    layer, shapes = model.layers[-1], []
    forward = layer.call
    monkeypatch.setattr(layer, "call", lambda inputs, **words: shapes.append(inputs.shape[0]) or forward(inputs))
    for size in (1, 3):
        call = prepare_call(model, kind, size)
        call(), call()
    assert shapes == [1, 3]


def test_predict_takes_the_whole_batch_in_one_step(saved, monkeypatch):
    steps = []
    monkeypatch.setattr(keras.Model, "predict", lambda self, x, batch_size, verbose: steps.append((len(x), batch_size)))
    prepare_call(
        keras.models.load_model(saved, compile=False), "predict", 40
    )()  # Keras's own default would be steps of 32
    assert steps == [(40, 40)]


def test_threads_follow_the_setting_then_the_variable_then_the_cores(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if hasattr(os, "sched_getaffinity"):
        assert threads_used() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    assert threads_used() == 3
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 5)
    assert threads_used() == 5


def test_gpu_is_refused_if_there_is_none(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert accelerator_name("cpu") is None
    with pytest.raises(RunError, match="sees no GPU here; use --device cpu"):
        accelerator_name("gpu")


@pytest.mark.parametrize("kind", ["predict", "compiled"])
def test_the_timed_call_runs_in_full_float32(saved, kind, emulated_tf32, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # `measure` sets it
    allow(True)  # TensorFlow's default
    words = [str(saved), "--call", kind, "--batch-sizes", "1", "--calls", "5", "--warm-up", "2"]
    assert [row["calls"] for row in measure(_parse_options(words))] == [5]
    assert set(emulated_tf32.seen) == {False}


def test_measurements_in_a_process_of_their_own(saved):
    words = [sys.executable, "-m", "keras_bench.cost.latency_worker", str(saved), "--call", "compiled"]
    words += ["--batch-sizes", "64,2", "--calls", "7", "--seconds", "60", "--warm-up", "2"]
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    small, large = map(json.loads, done.stdout.splitlines())  # nothing else on standard output
    for measurement, size in ((small, 2), (large, 64)):
        assert (measurement["call"], measurement["device"], measurement["accelerator"]) == ("compiled", "cpu", None)
        assert [measurement[key] for key in ("batch_size", "warm_up", "calls", "threads")] == [size, 2, 7, 1]
        assert 0 < measurement["p50_ms"] <= measurement["p90_ms"] <= measurement["p99_ms"]
        assert measurement["p50_low_ms"] <= measurement["p50_ms"] <= measurement["p50_high_ms"]
        assert measurement["memory_mb"] > measurement["base_memory_mb"] > 0
    assert large["memory_mb"] > small["memory_mb"]
    assert large["base_memory_mb"] == small["base_memory_mb"]


@pytest.mark.slow
def test_the_last_line_of_the_process_says_why_it_failed(saved):
    words = [sys.executable, "-m", "keras_bench.cost.latency_worker", str(saved), "--call", "compiled"]
    words += ["--batch-sizes", "1", "--device", "gpu"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "--device gpu: TensorFlow sees no GPU here; use --device cpu"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux passes ru_maxrss on to a child")
def test_peak_memory_is_that_of_the_process_and_not_of_its_parent():
    array = np.ones(200 << 20, np.uint8)  # this process, the parent, holds more than 200 MiB
    script = (
        "import resource; from keras_bench.environment import peak_memory_mb; "
        "print(peak_memory_mb(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    measured, inherited = map(float, done.stdout.split())
    assert peak_memory_mb() > array.nbytes / (1 << 20)
    assert 1 < measured < 100
    assert inherited > 200
