"""The stop rule and the percentiles with a made-up clock, and one real measurement in a process of its own."""

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
    time_calls,
)
from keras_bench.environment import peak_memory_mb
from keras_bench.errors import RunError
from keras_bench.models.build import ModelSpec, build_model
from tests.tf32 import allow


class Machine:
    """A call with predetermined durations in milliseconds, and the clock that measures them."""

    def __init__(self, milliseconds):
        self.milliseconds, self.now, self.calls = list(milliseconds), 0, 0

    def __call__(self):
        self.now += int(self.milliseconds[self.calls] * 1e6)
        self.calls += 1

    def clock(self):
        return self.now


def test_percentiles_by_hand():
    # 3 slow calls of warm-up, then 1 to 101 ms: percentile p of 101 values lies at position p exactly.
    machine = Machine([500, 400, 300, *range(101, 0, -1)])
    timing = time_calls(machine, 3, 101, 1000, machine.clock)
    assert (timing.warm_up, timing.calls, machine.calls) == (3, 101, 104)
    assert (timing.p50_ms, timing.p90_ms, timing.p99_ms, timing.mean_ms) == (51, 91, 100, 51)


def test_time_ends_the_series_before_the_number_of_calls():
    machine = Machine([100] * 1000)
    timing = time_calls(machine, 2, 200, 1.5, machine.clock)
    assert timing.calls == 15  # the 15th reaches 1.5 s
    assert machine.calls == 17


def test_warm_up_ends_after_a_quarter_of_the_time():
    machine = Machine([100] * 1000)
    timing = time_calls(machine, 10, 200, 2.0, machine.clock)
    assert (timing.warm_up, timing.calls) == (5, 20)


def test_two_and_five_calls_are_made_however_slow_they_are():
    machine = Machine([60_000] * 100)
    timing = time_calls(machine, 10, 200, 1.0, machine.clock)
    assert (timing.warm_up, timing.calls) == (2, 5)
    assert timing.p99_ms == 60_000


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
    call = prepare_call(saved, kind, 3)
    model = keras.models.load_model(saved, compile=False)
    expected = model(random_images(3, 32), training=False).numpy()
    for _ in range(2):
        probabilities = call()
        assert isinstance(probabilities, np.ndarray)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)


def test_predict_takes_the_whole_batch_in_one_step(saved, monkeypatch):
    steps = []
    monkeypatch.setattr(keras.Model, "predict", lambda self, x, batch_size, verbose: steps.append((len(x), batch_size)))
    prepare_call(saved, "predict", 40)()  # Keras's own default would be steps of 32
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
    words = [str(saved), "--call", kind, "--batch-size", "1", "--calls", "5", "--warm-up", "2"]
    assert measure(_parse_options(words))["calls"] == 5
    assert set(emulated_tf32.seen) == {False}


def test_one_measurement_in_a_process_of_its_own(saved):
    words = [sys.executable, "-m", "keras_bench.cost.latency_worker", str(saved), "--call", "compiled"]
    words += ["--batch-size", "2", "--calls", "7", "--seconds", "60", "--warm-up", "2"]
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()  # nothing else on standard output
    measurement = json.loads(line)
    assert (measurement["call"], measurement["device"], measurement["accelerator"]) == ("compiled", "cpu", None)
    assert [measurement[key] for key in ("batch_size", "warm_up", "calls", "threads")] == [2, 2, 7, 1]
    assert 0 < measurement["p50_ms"] <= measurement["p90_ms"] <= measurement["p99_ms"]
    assert measurement["memory_mb"] > measurement["base_memory_mb"] > 0


@pytest.mark.slow
def test_the_last_line_of_the_process_says_why_it_failed(saved):
    words = [sys.executable, "-m", "keras_bench.cost.latency_worker", str(saved), "--call", "compiled"]
    words += ["--batch-size", "1", "--device", "gpu"]
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
