"""Seconds that the explanations of a finished run and their checks take, in this checkout and in an earlier one.

    python -m benchmarks.explanations runs/tiny-imagenet/MobileNet/seed0 --data mini.zip --before ../earlier

Each measurement explains a copy of the run in a fresh process, this checkout and the earlier one in turn, so that other
work on the machine affects both. The start of Python and TensorFlow and reading the images are left out. Processor time
is that of all threads; other work on the machine affects it less than it affects the seconds.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLUMNS = ("model", "image_size", "checkout", "round", "seconds", "processor_seconds")
ROOT = Path(__file__).parents[1]


def main() -> None:
    arguments = _arguments()
    if arguments.side:
        print(json.dumps(explain_copy(arguments.run, arguments.data)))
        return
    sides = {"this": ROOT, **({"before": arguments.before.resolve()} if arguments.before else {})}
    measured: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for number in range(1, arguments.rounds + 1):
        for side in reversed(sides):
            seconds, processor, model, image_size, commit = in_fresh_process(sides[side], arguments)
            measured[side].append((seconds, processor))
            print(f"round {number}, {side}: {seconds:.1f} s, {processor:.1f} s of processor time", flush=True)
            _keep((model, image_size, side, number, f"{seconds:.2f}", f"{processor:.2f}"), commit)
    medians = {
        side: [statistics.median(column) for column in zip(*values, strict=True)] for side, values in measured.items()
    }
    for side, (seconds, processor) in medians.items():
        print(f"median, {side}: {seconds:.1f} s, {processor:.1f} s of processor time")
    if "before" in medians:
        faster, cheaper = (old / new for old, new in zip(medians["before"], medians["this"], strict=True))
        print(f"{faster:.2f} times as fast, {cheaper:.2f} times less processor time")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--data", type=Path, required=True, help="the images of the run")
    parser.add_argument("--before", type=Path, help="an earlier checkout to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", action="store_true", help="measure one checkout only and print JSON")
    return parser.parse_args()


def in_fresh_process(checkout: Path, arguments: argparse.Namespace) -> tuple[float, float, str, int, str]:
    """Return what `explain_copy` measures with the package of a checkout."""
    command = [sys.executable, __file__, str(arguments.run), "--data", str(arguments.data), "--side"]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    seconds, processor, model, image_size, commit = json.loads(output.splitlines()[-1])
    return seconds, processor, model, image_size, commit


def explain_copy(source: Path, data: Path) -> tuple[float, float, str, int, str]:
    """Explain a copy of a run; returns seconds, processor seconds, model, image size and commit."""
    from keras_bench.console import Log
    from keras_bench.environment import describe_environment
    from keras_bench.explain.run import explain_run
    from keras_bench.export.phases import data_of_run
    from keras_bench.models.start import start_tensorflow
    from keras_bench.runs.folders import RunDir
    from keras_bench.runs.job import job_of_run
    from keras_bench.runs.run import Run

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, *source.resolve().parts[-3:])
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("explain"))
        for path in source.parents[1].glob("*.json"):
            shutil.copy(path, copy.parents[1])
        log = Log()
        job = job_of_run(RunDir(copy), data, None, {})
        images = data_of_run(job, log)
        start_tensorflow(log)
        started, processor = time.perf_counter(), time.process_time()
        explain_run(Run(job, images, log))
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
    return seconds, processor, job.backbone.name, job.image_size, str(describe_environment([])["commit"])


def _keep(row: tuple[object, ...], commit: str) -> None:
    from benchmarks.results import PROVENANCE, append, provenance

    values = dict(zip(PROVENANCE, provenance(), strict=True)) | {"commit": commit}
    append("explanations", (*COLUMNS, *PROVENANCE), (*row, *values.values()))


if __name__ == "__main__":
    main()
