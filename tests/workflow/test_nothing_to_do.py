"""A finished run says "nothing to do" only if nothing follows: no latencies, no comparison, no damaged timing.json."""

from types import SimpleNamespace

import pytest

from keras_bench.config import Config
from keras_bench.config.schema import LatencyConfig
from keras_bench.console import Log
from keras_bench.cost import latency
from keras_bench.runs.folders import ExperimentDir
from keras_bench.workflow import parts
from keras_bench.workflow import run as workflow_run
from keras_bench.workflow.compare import compare_runs
from tests.damage import DAMAGE, change_digit
from tests.made import make_run

SETTINGS = LatencyConfig(batch_sizes=(1,))
FIGURES = dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "mean_ms", "memory_mb", "base_memory_mb"), 1.0)


def start(path, batches, settings):
    """Stand in for the process that measures the latencies of one way of calling a model."""
    numbers = {"threads": 1, "warm_up": 1, "calls": 5, "accelerator": None, **FIGURES}
    return latency.WorkerResult([{**numbers, **vars(setting)} for setting in batches])


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A finished run with all its latencies and a current comparison."""
    monkeypatch.setenv("KERAS_BENCH_CACHE", str(tmp_path / "cache"))
    folder = make_run(tmp_path, "MobileNet", skills=(("tl", 1.5),))
    for path in (folder.model("tl"), folder.best_weights("tl")):
        path.write_bytes(b"a model")
    monkeypatch.setattr(parts, "damaged_files", lambda run, phases: [])  # the made-up model is no archive
    latency.measure_latency([folder], SETTINGS, False, Log(), start)
    config = Config(name="made", latency=SETTINGS)
    experiment = ExperimentDir(tmp_path / "made")
    compare_runs(experiment, Log())
    return SimpleNamespace(folder=folder, phases=("tl",), config=config, experiment_folder=experiment)


def has_more_to_do(job, in_suite=False):
    return workflow_run._has_more_to_do(job, in_suite)


def test_a_run_with_latencies_and_a_comparison_has_nothing_to_do(job):
    assert not has_more_to_do(job)


@pytest.mark.parametrize("change", [*DAMAGE.values(), lambda path: path.unlink()], ids=[*DAMAGE, "missing"])
def test_latencies_that_are_measured_afterwards_are_something_to_do(job, change):
    change(job.folder.latency)
    assert has_more_to_do(job)
    assert not has_more_to_do(job, in_suite=True)  # the suite measures them itself


def test_a_comparison_that_is_made_afterwards_is_something_to_do(job):
    job.experiment_folder.comparison.unlink()
    assert has_more_to_do(job)
    assert not has_more_to_do(job, in_suite=True)
    compare_runs(job.experiment_folder, Log())
    assert not has_more_to_do(job)


def test_timing_whose_content_has_changed_is_removed_and_named(job, capsys):
    log = Log()
    log.spent["phase tl"] = 255.25
    workflow_run._report_time(job, 523.4, log)
    assert not workflow_run._drop_damaged_timing(job, log)
    change_digit(job.folder.timing)  # it can still be read
    assert workflow_run._drop_damaged_timing(job, log)
    assert not job.folder.timing.exists()
    assert "timing.json was changed since it was written and is removed" in " ".join(capsys.readouterr().out.split())
