"""A suite's runs are forks of one process; their results are the bytes of a run by itself."""

import sys

import pytest

from keras_bench.cli.main import main
from keras_bench.runs.folders import run_folder

TINY = [
    "--experiment", "digits", "--model", "MobileNet", "--weights", "none", "--no-export",
    *("--set", "scratch.epochs=2", "--set", "dataset.limit_per_class=20", "--set", "model.alpha=0.25"),
    *("--set", "latency.enabled=false", "--set", "explain.enabled=false"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")
def test_a_suite_gives_the_bytes_of_a_single_run(tmp_path, capfd):
    assert main(["suite", *TINY, "--out", str(tmp_path / "suite")]) == 0
    assert main(["run", *TINY, "--out", str(tmp_path / "run")]) == 0
    together, alone = (run_folder(tmp_path / out, "digits", "MobileNet", 0) for out in ("suite", "run"))
    for split in ("val", "test"):
        assert together.predictions("scratch", split).read_bytes() == alone.predictions("scratch", split).read_bytes()
