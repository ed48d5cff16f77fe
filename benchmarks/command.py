"""Starts keras-bench as a person would, in a fresh process, and reads what it left."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from keras_bench.runs.folders import RunDir, run_folder
from keras_bench.runs.results import PhaseResult

NO_POST_STAGE = {"explain.enabled": "false", "latency.enabled": "false", "export.enabled": "false"}


def train(
    model: str,
    phase: str,
    data: Path,
    out: Path,
    settings: Mapping[str, object],
    weights: str = "none",
    seed: int = 0,
    variant: str | None = None,
    cache: Path | None = None,
) -> RunDir:
    """Train one model of the experiment tiny-imagenet and return the run's folder.

    Args:
        model: backbone.
        phase: last phase.
        data: what --data names.
        out: folder of all runs.
        settings: of --set, by key.
        weights: "none": random ones, since speed does not depend on their values.
        seed: of the run.
        variant: keeps runs of one folder apart.
        cache: a cache of this run's own; None: the person's.
    """
    words = ["run", "--experiment", "tiny-imagenet", "--model", model, "--phase", phase, "--weights", weights]
    words += ["--seed", str(seed), "--data", str(data), "--out", str(out)]
    words += ["--variant", variant] if variant else []
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    environment = {**os.environ, **({"KERAS_BENCH_CACHE": str(cache)} if cache else {})}
    command = [sys.executable, "-m", "keras_bench", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return run_folder(out, "tiny-imagenet", model, seed, variant)


def result_of(run: RunDir, phase: str) -> PhaseResult:
    """Return the result of a phase that has just been trained."""
    result = run.read_result(phase)
    assert result is not None
    return result
