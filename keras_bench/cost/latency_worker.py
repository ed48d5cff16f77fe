"""Times one way of calling one saved model, in a process of its own.

`python -m keras_bench.cost.latency_worker MODEL.keras --call compiled --batch-size 1` prints one line of JSON to
standard output; TensorFlow's own output goes to standard error. Each measurement needs a fresh process, because
TensorFlow does not free memory and a model that ran before warms caches and threads for the next.
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

import numpy as np

from keras_bench.bundle.onnx_file import IMAGE, PROBABILITIES, open_session
from keras_bench.bundle.sums import BundleError
from keras_bench.cost.records import CALLS
from keras_bench.environment import peak_memory_mb, set_tensorflow_defaults, usable_cores
from keras_bench.errors import RunError
from keras_bench.models.start import import_keras
from keras_bench.processes import Interrupted, interruptible

MIN_CALLS = 5  # fewer are meaningless, however slow the model is
MIN_WARM_UP = 2  # the first call traces, the second runs the traced function
WARM_UP_SHARE = 0.25  # of the time budget; slow models are warm after few calls
SEED = 0  # of the images, which are the same for every model
NANOSECONDS = 1e9

Started = tuple[int, str | None, float, Callable[[], object]]  # threads, accelerator, memory before the model, the call


@dataclass(frozen=True)
class Timing:
    """Timing of a series of calls.

    Attributes:
        warm_up: calls made first, without timing.
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
    call: Callable[[], object],
    warm_up: int,
    calls: int,
    seconds: float,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Timing:
    """Call repeatedly, first to warm up, then timed, each until a number of calls or a time limit is reached.

    Percentiles are NumPy's, linear between the two nearest calls. Garbage is collected before the timed calls, and
    Python's collector stays on during them: `predict` leaves reference cycles behind, and freeing them is part of its
    cost in time and memory wherever it is used.

    Args:
        call: does all the work and returns once its result is in memory.
        warm_up: maximum number of warm-up calls; they also end after a quarter of `seconds`, but not before the second.
        calls: maximum number of timed calls.
        seconds: time limit of the timed calls; the call that reaches it is the last, but not before the fifth.
        clock: returns the current time in nanoseconds.
    """
    warm_up_calls = _repeat(call, warm_up, MIN_WARM_UP, WARM_UP_SHARE * seconds, clock)
    gc.collect()
    milliseconds = np.array(_repeat(call, calls, MIN_CALLS, seconds, clock)) / 1e6
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).tolist()
    return Timing(len(warm_up_calls), len(milliseconds), p50, p90, p99, float(milliseconds.mean()))


def _repeat(call: Callable[[], object], most: int, least: int, seconds: float, clock: Callable[[], int]) -> list[int]:
    """Call repeatedly and return the duration of each call, in nanoseconds."""
    durations: list[int] = []
    total = 0
    while len(durations) < most and (len(durations) < least or total < seconds * NANOSECONDS):
        started = clock()
        call()
        durations.append(clock() - started)
        total += durations[-1]
    return durations


def random_images(batch_size: int, image_size: int) -> np.ndarray:
    """Return float32 (batch_size, image_size, image_size, 3), integers in [0, 255], the same every time."""
    shape = (batch_size, image_size, image_size, 3)
    return np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8).astype(np.float32)


def threads_used() -> int:
    """Return the number of threads that TensorFlow uses for one operation.

    That is its setting, else $TF_NUM_INTRAOP_THREADS, else one per core that this process may use.
    """
    import tensorflow as tf

    setting = tf.config.threading.get_intra_op_parallelism_threads()
    variable = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if setting or (variable.isdecimal() and int(variable)):
        return int(setting or variable)
    return usable_cores()


def accelerator_name(device: str) -> str | None:
    """Return the name of the GPU that will run the model; None for device "cpu".

    Raises:
        RunError: the device is "gpu", but TensorFlow sees none.
    """
    if device == "cpu":
        return None
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        raise RunError("--device gpu: TensorFlow sees no GPU here; use --device cpu")
    for gpu in gpus:  # other processes may be using it
        tf.config.experimental.set_memory_growth(gpu, True)
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name))


def prepare_call(file: Path, kind: str, batch_size: int) -> Callable[[], np.ndarray]:
    """Load a model and return the call to time; its images are generated beforehand.

    Images and probabilities are NumPy arrays in main memory, so copies to and from a GPU count, and a call ends when
    its result has arrived. "predict" is `model.predict` with Keras's own defaults (XLA on a GPU); "compiled" is one
    tf.function with a fixed input shape, without XLA.

    Args:
        file: a .keras file of a model that takes float32 (batch, height, width, 3) of a fixed size.
        kind: "predict" or "compiled".
        batch_size: images per call.
    """
    import_keras()
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


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the measurement as plain values: the kind of call, timing, threads, memory and the GPU's name."""
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
    """Start TensorFlow on the requested device and load the Keras model."""
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # read once, when TensorFlow starts
    import tensorflow as tf

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # Timed in full float32, like evaluation.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.list_physical_devices()
    accelerator, base_memory_mb = accelerator_name(arguments.device), peak_memory_mb()
    call = prepare_call(arguments.model, arguments.call, arguments.batch_size)
    return threads_used(), accelerator, base_memory_mb, call


def _start_onnxruntime(arguments: argparse.Namespace) -> Started:
    """Load an exported graph, for decoded images of the network's input size and one thread per core."""
    import onnxruntime  # noqa: F401  imported first, so that its memory is not counted as the model's

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
    """Measure one way of calling a model and print the result as one line of JSON; returns the exit code."""
    arguments = _parse_options(words)
    # Only the result goes to standard output: file descriptor 1 now leads to standard error, also for C++ code.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    set_tensorflow_defaults()
    try:
        with interruptible("interrupted"):
            measurement = measure(arguments)
    except Interrupted as error:
        return error.exit_code
    except RunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with output:
        output.write(json.dumps(measurement, allow_nan=False) + "\n")
    return 0


def _parse_options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m keras_bench.cost.latency_worker", description=main.__doc__)
    parser.add_argument("model", type=Path, help="a .keras file, or an .onnx file that keras-bench exported")
    parser.add_argument("--call", choices=CALLS, required=True, help="how the model is called")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where it runs")
    parser.add_argument("--batch-size", type=int, required=True, help="images per call")
    parser.add_argument("--calls", type=int, default=200, help="maximum number of timed calls")
    parser.add_argument("--seconds", type=float, default=10.0, help="time budget of the timed calls")
    parser.add_argument("--warm-up", type=int, default=10, help="maximum number of calls made first, without timing")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
