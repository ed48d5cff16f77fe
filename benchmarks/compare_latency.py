"""Latencies as an earlier commit measured them and as keras-bench measures them now: do they agree, in which time?

    git worktree add ../before 1f9e3a9
    python -m benchmarks.compare_latency --before ../before --model EfficientNetB0 --image-size 224

The earlier protocol started a process per batch size and always timed 200 calls or 10 s. Both run in turn, and each
round starts with the other one. What agreement means is measured too: the difference between two rounds of the earlier
protocol is the noise of the machine. Processor seconds are those of all cores, and depend less on other work there.
Weights are random, since speed does not depend on their values.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from pathlib import Path

from benchmarks.results import append
from keras_bench.cost.records import CALLS
from keras_bench.environment import describe_environment

BATCH_SIZES = (1, 8, 32)
PERCENTILES = ("p50_ms", "p90_ms", "p99_ms")
WORKER = ("-m", "keras_bench.cost.latency_worker")
COLUMNS = ("protocol", "model", "image_size", "round", "call", "batch_size", "calls", *PERCENTILES, "memory_mb")
PROVENANCE = ("seconds_of_round", "processor_seconds_of_round", "cpu", "cores", "commit", "time")

Key = tuple[str, int]  # call and batch size


@dataclass(frozen=True)
class Round:
    """One session of one protocol: the time it took, and the measurement of each call and batch size."""

    seconds: float
    processor_seconds: float
    measurements: dict[Key, dict[str, float]]


def main() -> None:
    arguments = _arguments()
    if arguments.make:
        make_models(arguments)
        return
    environment = describe_environment([])
    rounds: dict[str, list[Round]] = {"before": [], "now": []}
    with tempfile.TemporaryDirectory() as folder:
        _python([*("-m", "benchmarks.compare_latency"), *sys.argv[1:], "--make", folder], Path.cwd())
        for number in range(1, arguments.rounds + 1):
            for protocol in ("before", "now") if number % 2 else ("now", "before"):
                measured = measure(Path(folder), arguments.before if protocol == "before" else None)
                rounds[protocol].append(measured)
                print(f"round {number}, {protocol}: {_time(measured)}", flush=True)
                for (call, size), row in measured.measurements.items():
                    figures = [f"{row[name]:.5g}" for name in (*PERCENTILES, "memory_mb")]
                    where = (protocol, arguments.model, arguments.image_size, number, call, size, row["calls"])
                    provenance = [environment[name] for name in PROVENANCE[2:]]
                    times = (f"{measured.seconds:.1f}", f"{measured.processor_seconds:.1f}")
                    append("latency", (*COLUMNS, *PROVENANCE), (*where, *figures, *times, *provenance))
    summarise(rounds["before"], rounds["now"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the earlier commit")
    parser.add_argument("--model", default="MobileNet")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--make", type=Path, help="only write model.keras and model.onnx to this folder")
    return parser.parse_args()


def make_models(arguments: argparse.Namespace) -> None:
    """Write model.keras and model.onnx."""
    from keras_bench.backbones.table import BACKBONES
    from keras_bench.config import ModelConfig
    from keras_bench.models.build import ModelSpec, build_model
    from keras_bench.models.onnx import save, to_onnx

    alpha = 0.75 if arguments.model == "MobileNet" else None
    model = build_model(ModelSpec(BACKBONES[arguments.model], arguments.image_size, 10, ModelConfig(alpha=alpha)))
    model.save(arguments.make / "model.keras")
    save(to_onnx([(model, 1.0)], {"image_size": arguments.image_size}), arguments.make / "model.onnx")


def measure(folder: Path, before: Path | None) -> Round:
    """Measure every call and batch size with the worker of this checkout, or of an earlier one."""
    measurements = {}
    started, used = time.perf_counter(), _processor_seconds()
    for call in CALLS:
        file = folder / ("model.onnx" if call == "onnxruntime" else "model.keras")
        words = [*WORKER, str(file), "--call", call, "--device", "cpu"]
        sizes = ",".join(map(str, BATCH_SIZES))
        options = [["--batch-size", str(size)] for size in BATCH_SIZES] if before else [["--batch-sizes", sizes]]
        for option in options:
            for line in _python([*words, *option], before or Path.cwd()).splitlines():
                row = json.loads(line)
                measurements[call, row["batch_size"]] = row
    return Round(time.perf_counter() - started, _processor_seconds() - used, measurements)


def _processor_seconds() -> float:
    """Return the seconds that all finished child processes have spent on all cores."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _time(measured: Round) -> str:
    return f"{measured.seconds:.0f} s, {measured.processor_seconds:.0f} processor seconds"


def _python(words: list[str], checkout: Path) -> str:
    """Run Python in a checkout and return its output."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout)
    return done.stdout


def summarise(before: list[Round], now: list[Round]) -> None:
    """Print the medians over rounds of every figure, how both protocols agree, and the time that each took."""
    print("call, batch size: p50, p90, p99 in ms and memory in MiB before -> now (timed calls), medians of rounds")
    for key in before[0].measurements:
        pairs = [f"{_median(before, key, n):.4g} -> {_median(now, key, n):.4g}" for n in (*PERCENTILES, "memory_mb")]
        print(f"{key[0]}, {key[1]}: {'; '.join(pairs)} ({_median(before, key, 'calls'):.0f} -> "
              f"{_median(now, key, 'calls'):.0f})")  # fmt: skip
    for name in (*PERCENTILES, "memory_mb"):
        between = list(_log_ratios(zip(before, now, strict=True), name))
        noise = list(_log_ratios(pairwise(before), name))
        print(
            f"{name}: now / before {exp(statistics.median(between)):.3f}, median of {len(between)}; differs by "
            f"{_typical(between)}; two rounds of before by {_typical(noise) if noise else 'unknown'}, median of each"
        )
    for name in ("seconds", "processor_seconds"):
        ratios = sorted(getattr(b, name) / getattr(a, name) for a, b in zip(before, now, strict=True))
        medians = [statistics.median(getattr(one, name) for one in rounds) for rounds in (before, now)]
        print(
            f"{name.replace('_', ' ')}: {medians[0]:.0f} before, {medians[1]:.0f} now, "
            f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def _median(rounds: list[Round], key: Key, name: str) -> float:
    return statistics.median(measured.measurements[key][name] for measured in rounds)


def _log_ratios(pairs: Iterable[tuple[Round, Round]], name: str) -> Iterable[float]:
    for first, second in pairs:
        for key, row in first.measurements.items():
            yield log(second.measurements[key][name] / row[name])


def _typical(log_ratios: list[float]) -> str:
    return f"{100 * (exp(statistics.median(map(abs, log_ratios))) - 1):.1f} %"


if __name__ == "__main__":
    main()
