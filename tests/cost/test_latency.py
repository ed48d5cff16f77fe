"""The order of measurements and when they are kept; a stand-in replaces the processes that measure."""

import io
import json
import sys

import pytest
from rich.console import Console

from keras_bench.config.schema import LatencyConfig
from keras_bench.console import Log
from keras_bench.cost import latency
from keras_bench.cost.latency import (
    LatencySetting,
    WorkerResult,
    latency_finished,
    measure_alone,
    measure_latency,
    start_worker,
)
from keras_bench.cost.records import latencies_from_json
from keras_bench.errors import RunError
from keras_bench.files import write_bytes, write_json
from keras_bench.runs.folders import RunDir

SETTINGS = LatencyConfig(batch_sizes=(1, 8), calls=200, seconds=10.0, warm_up=10)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """A description of this machine; each request for it is an hour later."""
    now = {"platform": "Linux", "cpu": "a processor", "cores": 2, "packages": {"keras": "3"}, "hours": 0}

    def describe(devices):
        now["hours"] += 1
        return {**now, "time": f"2026-01-01T{now['hours']:02d}:00:00+00:00"}

    monkeypatch.setattr(latency, "describe_environment", describe)
    return now


@pytest.fixture
def runs(tmp_path):
    folders = [RunDir(tmp_path / "study" / model / "seed0") for model in ("VGG16", "ResNet50")]
    for run in folders:
        finish(run)
    return folders


def finish(run):
    write_bytes(run.model("ft"), run.model_name.encode())
    write_json(run.run, {"final_phase": "ft"})


class Worker:
    """Stands in for the processes that measure; records what was measured, can fail or be interrupted.

    Attributes:
        requests: each measurement: model, call, batch size.
        processes: number of measurements of each process.
    """

    def __init__(self, fails=(), interrupted_after=None):
        self.requests, self.processes, self.fails, self.interrupted_after = [], [], fails, interrupted_after

    def __call__(self, file, batches, settings):
        if len(self.processes) == self.interrupted_after:
            raise KeyboardInterrupt
        assert file.name == "model.keras"
        self.processes.append(0)
        measurements = []
        for setting in batches:
            request = (file.parents[2].name, setting.call, setting.batch_size)
            self.requests.append(request)
            if request in self.fails:
                return WorkerResult(measurements, RunError("out of memory"))
            self.processes[-1] += 1
            measurements.append(self.measurement(setting, settings))
        return WorkerResult(measurements)

    def measurement(self, setting, settings):
        return {
            **vars(setting), "threads": 2, "accelerator": "a GPU" if setting.device == "gpu" else None,
            "warm_up": settings.warm_up, "calls": settings.calls,
            "p50_ms": 1.0 + len(self.requests), "p90_ms": 20.0, "p99_ms": 30.0, "mean_ms": 3.0,
            "p50_low_ms": 0.5, "p50_high_ms": 1.5, "memory_mb": 800.0, "base_memory_mb": 700.0,
        }  # fmt: skip


def measure(runs, worker, settings=SETTINGS, accelerators=False, again=False):
    screen = io.StringIO()
    measure_latency(runs, settings, accelerators, Log(Console(file=screen, width=1000)), worker, again)
    return screen.getvalue()


def stored(run):
    return latencies_from_json(json.loads(run.latency.read_text()))


def sessions(runs):
    return {latency.session for run in runs for latency in stored(run)}


def in_turn(calls=("predict", "compiled"), sizes=(1, 8)):
    return [(model, call, size) for call in calls for model in ("VGG16", "ResNet50") for size in sizes]


def test_models_take_turns_within_each_way_of_calling_them(runs):
    worker = Worker()
    output = measure(runs, worker)
    assert worker.requests == in_turn()
    assert worker.processes == [2, 2, 2, 2]
    assert "8 measurements in 4 fresh processes, the 2 runs in turn" in output
    # 4 × 8 s to start; 8 × (2.5 s of warm-up, 10 s timed)
    assert "at the latest after 200 calls or 10 s" in output
    assert "at most about 2 min 12 s" in output
    # ResNet50 was second in each turn: its 4 figures are those of calls 3, 4, 7 and 8.
    latencies = stored(runs[1])
    assert [latency.p50_ms for latency in latencies] == [4, 5, 8, 9]
    assert {(latency.hardware, latency.device, latency.threads) for latency in latencies} == {("a processor", "cpu", 2)}
    assert sessions(runs) == {"2026-01-01T01:00:00+00:00"}


def test_finished_measurements_are_not_repeated(runs):
    assert not latency_finished(runs, SETTINGS)
    measure(runs, Worker())
    assert latency_finished(runs, SETTINGS)
    assert latency_finished(runs[:1], SETTINGS)
    worker = Worker()
    assert "nothing to do" in measure(runs, worker)
    assert worker.requests == []
    assert not latency_finished(runs, SETTINGS.model_copy(update={"seconds": 20.0}))
    assert not latency_finished(runs, SETTINGS.model_copy(update={"batch_sizes": (1, 8, 32)}))
    assert not latency_finished(runs, SETTINGS, accelerators=True)
    write_bytes(runs[1].model("ft"), b"another model")
    assert not latency_finished(runs, SETTINGS)
    assert latency_finished(runs[:1], SETTINGS)


def test_figures_of_the_earlier_protocol_are_measured_again(runs):
    measure(runs, Worker())
    for run in runs:  # as an earlier version wrote them: without the number, or the interval of the median
        content = json.loads(run.latency.read_text())
        assert content["settings"].pop("protocol") == 2
        for measurement in content["measurements"]:
            del measurement["p50_low_ms"], measurement["p50_high_ms"]
        write_json(run.latency, content)
    assert [latency.p50_low_ms for latency in stored(runs[0])] == [None] * 4  # still readable, and shown by a report
    assert not latency_finished(runs, SETTINGS)
    worker = Worker()
    measure(runs, worker)
    assert worker.requests == in_turn()


def test_batch_sizes_ascend_whatever_their_order_in_the_settings(runs):
    worker = Worker()
    measure(runs, worker, SETTINGS.model_copy(update={"batch_sizes": (8, 1, 8)}))
    assert worker.requests == in_turn()
    assert latency_finished(runs, SETTINGS.model_copy(update={"batch_sizes": (8, 1, 8)}))


def test_all_is_measured_again_on_request(runs):
    measure(runs, Worker())
    worker = Worker()
    measure(runs, worker, again=True)
    assert len(worker.requests) == 8
    assert sessions(runs) == {"2026-01-01T02:00:00+00:00"}


def test_a_run_that_joins_later_means_that_all_are_measured_again(runs):
    measure(runs[:1], Worker())
    measure(runs[1:], Worker())
    assert len(sessions(runs)) == 2
    assert not latency_finished(runs, SETTINGS)
    worker = Worker()
    measure(runs, worker)
    assert len(worker.requests) == 8
    assert sessions(runs) == {"2026-01-01T03:00:00+00:00"}


def test_an_added_batch_size_joins_the_session(runs):
    measure(runs, Worker())
    worker = Worker()
    output = measure(runs, worker, SETTINGS.model_copy(update={"batch_sizes": (1, 8, 32)}))
    assert [size for _, _, size in worker.requests] == [32] * 4
    assert "resuming the session of 2026-01-01T01:00:00+00:00" in output
    assert sessions(runs) == {"2026-01-01T01:00:00+00:00"}
    assert len(stored(runs[0])) == 6


def test_an_interrupted_session_resumes_with_its_next_round(runs):
    with pytest.raises(KeyboardInterrupt):
        measure(runs, Worker(interrupted_after=3))  # one round, and one of two models in the second
    assert [len(stored(run)) for run in runs] == [2, 2]
    worker = Worker()
    measure(runs, worker)
    assert worker.requests == in_turn(["compiled"])
    assert sessions(runs) == {"2026-01-01T01:00:00+00:00"}
    assert latency_finished(runs, SETTINGS)


def test_on_another_machine_all_is_measured_again(runs, environment):
    with pytest.raises(KeyboardInterrupt):
        measure(runs, Worker(interrupted_after=2))
    environment["cpu"] = "another processor"
    worker = Worker()
    measure(runs, worker)
    assert len(worker.requests) == 8
    assert {latency.hardware for run in runs for latency in stored(run)} == {"another processor"}


def test_a_failure_loses_no_other_figure_and_is_tried_again(runs):
    output = measure(runs, Worker(fails=[("VGG16", "predict", 8)]))
    failed = f"{runs[0].label} predict on cpu, batch size 8"
    assert f"warning: latency of {failed} could not be measured: out of memory" in output
    assert f"warning: latency is missing for {failed}; the same command tries again" in output
    assert [len(stored(run)) for run in runs] == [3, 4]
    assert not latency_finished(runs, SETTINGS)
    worker = Worker()
    measure(runs, worker)
    assert worker.requests == [("VGG16", "predict", 8), ("ResNet50", "predict", 8)]
    assert latency_finished(runs, SETTINGS)
    assert len(sessions(runs)) == 1


def test_a_failure_keeps_smaller_batches_and_names_larger_ones(runs):
    settings = SETTINGS.model_copy(update={"batch_sizes": (1, 8, 32)})
    output = measure(runs, Worker(fails=[("VGG16", "predict", 8)]), settings)
    setting = f"{runs[0].label} predict on cpu, batch size"
    assert f"latency of {setting} 8 could not be measured: out of memory; larger batches were not tried" in output
    assert f"latency is missing for {setting} 8; {setting} 32; the same command tries again" in output
    assert [latency.batch_size for latency in stored(runs[0]) if latency.call == "predict"] == [1]
    assert [len(stored(run)) for run in runs] == [4, 6]


def test_a_gpu_is_measured_beside_the_processor_and_named(runs):
    measure(runs, Worker(), accelerators=True)
    assert latency_finished(runs, SETTINGS, accelerators=True)
    hardware = {latency.device: latency.hardware for latency in stored(runs[0])}
    assert hardware == {"cpu": "a processor", "gpu": "a GPU"}
    assert len(stored(runs[0])) == 8


def test_an_unfinished_run_is_refused(runs, tmp_path):
    with pytest.raises(RunError, match="holds no finished run"):
        latency_finished([*runs, RunDir(tmp_path / "study" / "MobileNet" / "seed0")], SETTINGS)


def stand_in(tmp_path, monkeypatch, script):
    """Replace Python by a shell script."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_the_process_gets_every_setting_and_its_output_is_returned(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, 'echo noise >&2; echo "{\\"words\\": \\"$*\\"}"; echo "{}"')
    batches = [LatencySetting("compiled", "gpu", size) for size in (1, 8)]
    result = start_worker(tmp_path / "model.keras", batches, SETTINGS)
    words = (
        f"-m keras_bench.cost.latency_worker {tmp_path}/model.keras --call compiled --device gpu --batch-sizes 1,8 "
        "--calls 200 --seconds 10.0 --warm-up 10"
    )
    assert result == WorkerResult([{"words": words}, {}])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo first >&2; echo 'ValueError: no model' >&2; exit 1", "^ValueError: no model$"),
        ("exit 3", "exit code 3"),
        ("kill -9 $$", "ended by SIGKILL, as when memory runs out"),
    ],
)
def test_a_process_that_fails_says_why(tmp_path, monkeypatch, script, message):
    stand_in(tmp_path, monkeypatch, script)
    with pytest.raises(RunError, match=message):
        measure_alone(tmp_path / "model.keras", LatencySetting("predict", "cpu", 1), SETTINGS)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'MemoryError: no memory' >&2; exit 1", "memory ran out .*--set latency.batch_sizes=\\[1\\] needs less"),
        ("kill -9 $$", "ended by SIGKILL, as when memory runs out; --set latency.batch_sizes=\\[1\\] needs less"),
        ("printf '{\"batch_size\": 8'; kill -9 $$", "ended by SIGKILL"),  # a line that was cut off
    ],
)
def test_memory_that_runs_out_at_one_batch_size_loses_no_smaller_one(tmp_path, monkeypatch, script, message):
    stand_in(tmp_path, monkeypatch, f"""echo '{{"batch_size": 1}}'\n{script}""")
    batches = [LatencySetting("predict", "cpu", size) for size in (1, 8, 32)]
    result = start_worker(tmp_path / "model.keras", batches, SETTINGS.model_copy(update={"batch_sizes": (1, 8, 32)}))
    assert result.measurements == [{"batch_size": 1}]
    with pytest.raises(RunError, match=message):
        raise result.error
