"""Trains with keras-bench from the command line, in a fresh process, and reads the results."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from keras_bench.runs.folders import RunDir, run_folder
from keras_bench.runs.results import PhaseResult

ONLY_TRAINING = {"explain.enabled": "false", "latency.enabled": "false", "export.enabled": "false"}


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
        phase: last phase to train.
        data: folder or zip of images.
        out: folder of all runs.
        settings: values of --set by key.
        weights: initial weights; by default random ones, since speed does not depend on their values.
        seed: seed of the run.
        variant: name that keeps runs of the same model apart.
        cache: folder of a separate cache for this run; None: the user's cache.
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
