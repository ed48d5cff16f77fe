"""Speed of the bundle's runner compared with bare ONNX Runtime on the same decoded images, in turn; and its cold start.

python -m benchmarks.compare_runner exports/demo/MobileNetV3Small-ft-seed0 --side 64
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from keras_bench.bundle.model import Bundle
from keras_bench.bundle.onnx_file import IMAGE, PROBABILITIES, open_session
from keras_bench.bundle.sums import FLOAT_MODEL

BATCH = 32


def main() -> int:
    """Print the ratio of the two rates, and the seconds from the start of a process to its first prediction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--side", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    shape = (BATCH, arguments.side, arguments.side, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    images = list(batch)
    bundle, session = Bundle(arguments.bundle), open_session(arguments.bundle / FLOAT_MODEL)
    ours, raw = [], []
    for _ in range(arguments.rounds + 1):
        raw.append(_seconds(lambda: session.run([PROBABILITIES], {IMAGE: batch}), arguments.batches))
        ours.append(_seconds(lambda: bundle.predict(images), arguments.batches))
    ratios = [b / a for a, b in zip(ours[1:], raw[1:], strict=True)]  # the first round warms up
    count = BATCH * arguments.batches
    print(f"bare ONNX Runtime: {count / statistics.median(raw[1:]):,.0f} images/s")
    print(f"runner:            {count / statistics.median(ours[1:]):,.0f} images/s")
    print(f"ratio:             {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    command = [sys.executable, str(arguments.bundle / "predict.py"), str(arguments.bundle / "sample" / "1.png")]
    starts = [_seconds(lambda: subprocess.run(command, check=True, capture_output=True), 1) for _ in range(5)]
    cold_start = f"{statistics.median(starts):.2f} s for one image, checksums included; at most {max(starts):.2f} s"
    print(f"cold start:        {cold_start}")
    return 0


def _seconds(work, times: int) -> float:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
