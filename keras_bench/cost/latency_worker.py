"""Times one way of calling one saved model, in a process of its own.

`python -m keras_bench.cost.latency_worker MODEL.keras --call compiled --batch-size 1` prints one line of JSON on
standard output; whatever TensorFlow prints goes to standard error. A fresh process for each measurement, because
TensorFlow gives no memory back and a model that ran before warms caches and threads for the next.
"""

import argparse
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_bench.bundle import IMAGE, PROBABILITIES, BundleError, open_session
from keras_bench.cost.records import CALLS
from keras_bench.environment import peak_memory_mb, set_tensorflow_defaults, usable_cores
from keras_bench.errors import RunError

LEAST_CALLS = 5  # fewer say nothing, however slow the model is
LEAST_WARM_UP = 2  # the first traces, the second finds everything in place
WARM_UP_SHARE = 0.25  # of the time budget, after which warm-up ends: slow models are warm after few calls
SEED = 0  # of the images, the same for every model
NANOSECONDS = 1e9

Started = tuple[int, str | None, float, Callable[[], Any]]  # threads, accelerator, memory before the model, the call


@dataclass(frozen=True)
class Timing:
    """What a series of calls took.

    Attributes:
        warm_up: calls made first and not counted.
        calls: timed calls.
        p50_ms: median milliseconds of a call.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile; of fewer than 100 calls it lies between the two slowest.
        mean_ms: mean.
    """

    warm_up: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float


def time_calls(
    call: Callable[[], Any],
    warm_up: int,
    calls: int,
    seconds: float,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Timing:
    """Call again and again, first to warm up, then timed, each until a number of calls or a time is reached.

    Percentiles are NumPy's, linear between the two nearest calls. Python's garbage is collected before the timed
    calls and the collector stays on during them: `predict` leaves cycles behind, and clearing them up is part of
    its cost, in time and in memory, wherever it is called.

    Args:
        call: does the whole work and returns once its result is in memory.
        warm_up: calls made first at most; they stop after a quarter of `seconds`, but not before the second.
        calls: timed calls at most.
        seconds: of timed calls; the call that reaches it is the last one, but not before the fifth.
        clock: current time in nanoseconds.
    """
    warmed = _repeat(call, warm_up, LEAST_WARM_UP, WARM_UP_SHARE * seconds, clock)
    gc.collect()
    milliseconds = np.array(_repeat(call, calls, LEAST_CALLS, seconds, clock)) / 1e6
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).tolist()
    return Timing(len(warmed), len(milliseconds), p50, p90, p99, float(milliseconds.mean()))


def _repeat(call: Callable[[], Any], most: int, least: int, seconds: float, clock: Callable[[], int]) -> list[int]:
    """Return the nanoseconds of each call."""
    taken: list[int] = []
    spent = 0
    while len(taken) < most and (len(taken) < least or spent < seconds * NANOSECONDS):
        before = clock()
        call()
        taken.append(clock() - before)
        spent += taken[-1]
    return taken


def random_images(batch_size: int, image_size: int) -> np.ndarray:
    """Return float32 (batch_size, image_size, image_size, 3), whole numbers in [0, 255], the same every time."""
    shape = (batch_size, image_size, image_size, 3)
    return np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8).astype(np.float32)


def threads_used() -> int:
    """Return how many threads TensorFlow gives one operation.

    That is its setting, else $TF_NUM_INTRAOP_THREADS, else one a core that this process may use.
    """
    import tensorflow as tf

    set_here = tf.config.threading.get_intra_op_parallelism_threads()
    set_outside = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if set_here or (set_outside.isdecimal() and int(set_outside)):
        return int(set_here or set_outside)
    return usable_cores()


def accelerator_name(device: str) -> str | None:
    """Return the name of the GPU that will run the model; None for device "cpu".

    Raises:
        RunError: device "gpu", and TensorFlow sees none.
    """
    if device == "cpu":
        return None
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    if not found:
        raise RunError("--device gpu: TensorFlow sees no GPU here; use --device cpu")
    for one in found:  # other processes may be at work on it
        tf.config.experimental.set_memory_growth(one, True)
    return str(tf.config.experimental.get_device_details(found[0]).get("device_name", found[0].name))


def prepare_call(file: Path, kind: str, batch_size: int) -> Callable[[], np.ndarray]:
    """Load a model and return the call to time; images are made here, before any timing.

    Images start and probabilities end as NumPy arrays in main memory, so that copying to and from a GPU counts and
    a call is over when its result is there. "predict" is `model.predict` as Keras sets it up by itself (XLA where
    there is a GPU); "compiled" is one tf.function of a fixed input shape, without XLA.

    Args:
        file: a .keras file whose model takes float32 (batch, height, width, 3) of a fixed size.
        kind: "predict" or "compiled".
        batch_size: images per call.
    """
    import keras
    import tensorflow as tf

    model = keras.models.load_model(file, compile=False, safe_mode=True)
    images = random_images(batch_size, model.input_shape[1])
    if kind == "predict":
        return lambda: model.predict(images, batch_size=batch_size, verbose=0)
    forward = tf.function(
        lambda images: model(images, training=False), input_signature=[tf.TensorSpec(images.shape, tf.float32)]
    )
    return lambda: forward(images).numpy()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the measurement as plain values: what was called, the timing, threads, memory and the GPU's name."""
    if arguments.call == "onnxruntime":
        threads, accelerator, base_memory_mb, call = _start_onnxruntime(arguments)
    else:
        threads, accelerator, base_memory_mb, call = _start_tensorflow(arguments)
    timing = time_calls(call, arguments.warm_up, arguments.calls, arguments.seconds)
    return {
        "call": arguments.call,
        "device": arguments.device,
        "accelerator": accelerator,
        "threads": threads,
        "batch_size": arguments.batch_size,
        **asdict(timing),
        "memory_mb": peak_memory_mb(),
        "base_memory_mb": base_memory_mb,
    }


def _start_tensorflow(arguments: argparse.Namespace) -> Started:
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # read once, when TensorFlow starts
    import tensorflow as tf

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # A call is timed as it is evaluated, in full float32.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.list_physical_devices()
    accelerator, base_memory_mb = accelerator_name(arguments.device), peak_memory_mb()
    call = prepare_call(arguments.model, arguments.call, arguments.batch_size)
    return threads_used(), accelerator, base_memory_mb, call


def _start_onnxruntime(arguments: argparse.Namespace) -> Started:
    """Time the exported graph with decoded images of the network's own size, as many threads as there are cores."""
    import onnxruntime  # noqa: F401  its memory is not the model's

    base_memory_mb = peak_memory_mb()
    threads = usable_cores()
    try:
        session = open_session(arguments.model, threads)
    except BundleError as error:
        raise RunError(str(error)) from error
    side = int(session.get_modelmeta().custom_metadata_map["image_size"])
    images = random_images(arguments.batch_size, side).astype(np.uint8)
    return threads, None, base_memory_mb, lambda: session.run([PROBABILITIES], {IMAGE: images})[0]


def main(words: Sequence[str] | None = None) -> int:
    """Measure what the command line says and print it as one line of JSON; returns the exit code."""
    arguments = _parse(words)
    # File descriptor 1 becomes standard error for all the rest, C++ included; the answer goes to what it was.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    set_tensorflow_defaults()
    try:
        found = measure(arguments)
    except RunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with answer:
        answer.write(json.dumps(found, allow_nan=False) + "\n")
    return 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m keras_bench.cost.latency_worker", description=main.__doc__)
    parser.add_argument("model", type=Path, help="a .keras file, or an .onnx file that keras-bench exported")
    parser.add_argument("--call", choices=CALLS, required=True, help="what is called")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where it runs")
    parser.add_argument("--batch-size", type=int, required=True, help="images per call")
    parser.add_argument("--calls", type=int, default=200, help="timed calls at most")
    parser.add_argument("--seconds", type=float, default=10.0, help="time budget of the timed calls")
    parser.add_argument("--warm-up", type=int, default=10, help="calls made first and not counted")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
