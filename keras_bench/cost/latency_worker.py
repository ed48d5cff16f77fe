"""Times one way of calling one saved model, in a process of its own.

`python -m keras_bench.cost.latency_worker MODEL.keras --call compiled --batch-sizes 1,8,32` prints one line of JSON per
batch size to standard output, as soon as it is measured; TensorFlow's own output goes to standard error. Each model and
way of calling it needs a fresh process, because TensorFlow does not free memory and a model that ran before warms
caches and threads for the next.

The batch sizes are measured in ascending order on the model that was loaded once. So the peak memory of the process
after a batch size is what loading the model and calling it with that size need: smaller batches need less.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_bench.bundle.onnx_file import IMAGE, PROBABILITIES, open_session
from keras_bench.bundle.sums import BundleError
from keras_bench.cost.records import CALLS
from keras_bench.cost.timing import time_calls
from keras_bench.environment import peak_memory_mb, set_tensorflow_defaults, usable_cores
from keras_bench.errors import RunError
from keras_bench.models.start import import_keras
from keras_bench.processes import Interrupted, interruptible

if TYPE_CHECKING:
    import keras

SEED = 0  # of the images, which are the same for every model


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to be called.

    Attributes:
        threads: threads an operation may use.
        accelerator: name of the GPU; None on the processor.
        base_memory_mb: peak resident memory before the model was loaded, MiB.
        prepare: returns the call to time for a number of images per call; its images are generated beforehand.
    """

    threads: int
    accelerator: str | None
    base_memory_mb: float
    prepare: Callable[[int], Callable[[], object]]


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


def prepare_call(model: "keras.Model", kind: str, batch_size: int) -> Callable[[], np.ndarray]:
    """Return the call to time, traced anew for this batch size; its images are generated beforehand.

    Images and probabilities are NumPy arrays in main memory, so copies to and from a GPU count, and a call ends when
    its result has arrived. "predict" is `model.predict` with Keras's own defaults (XLA on a GPU); "compiled" is one
    tf.function with a fixed input shape, without XLA.

    Args:
        model: takes float32 (batch, height, width, 3) of a fixed size.
        kind: "predict" or "compiled".
        batch_size: images per call.
    """
    import tensorflow as tf

    images = random_images(batch_size, model.input_shape[1])
    if kind == "predict":
        # The function that was traced for another batch size would be traced again, for a batch of any size.
        model.make_predict_function(force=True)
        return lambda: model.predict(images, batch_size=batch_size, verbose=0)
    forward = tf.function(
        lambda images: model(images, training=False), input_signature=[tf.TensorSpec(images.shape, tf.float32)]
    )
    return lambda: forward(images).numpy()


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Yield one measurement per batch size, in ascending order, as plain values.

    Each holds the kind of call, threads, the GPU's name, the timing, and the peak memory of the process so far.
    """
    loaded = _load_onnx_model(arguments) if arguments.call == "onnxruntime" else _load_keras_model(arguments)
    for batch_size in sorted(set(arguments.batch_sizes)):
        timing = time_calls(loaded.prepare(batch_size), arguments.warm_up, arguments.calls, arguments.seconds)
        yield {
            "call": arguments.call,
            "device": arguments.device,
            "accelerator": loaded.accelerator,
            "threads": loaded.threads,
            "batch_size": batch_size,
            **asdict(timing),
            "memory_mb": peak_memory_mb(),
            "base_memory_mb": loaded.base_memory_mb,
        }


def _load_keras_model(arguments: argparse.Namespace) -> LoadedModel:
    """Start TensorFlow on the requested device and load the Keras model."""
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # read once, when TensorFlow starts
    import tensorflow as tf

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # Timed in full float32, like evaluation.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.list_physical_devices()
    accelerator, base_memory_mb = accelerator_name(arguments.device), peak_memory_mb()
    import_keras()
    import keras

    model = keras.models.load_model(arguments.model, compile=False, safe_mode=True)
    return LoadedModel(
        threads_used(), accelerator, base_memory_mb, lambda size: prepare_call(model, arguments.call, size)
    )


def _load_onnx_model(arguments: argparse.Namespace) -> LoadedModel:
    """Load an exported graph, for decoded images of the network's input size and one thread per core."""
    import onnxruntime  # noqa: F401  imported first, so that its memory is not counted as the model's

    base_memory_mb = peak_memory_mb()
    threads = usable_cores()
    try:
        session = open_session(arguments.model, threads)
    except BundleError as error:
        raise RunError(str(error)) from error
    side = int(session.get_modelmeta().custom_metadata_map["image_size"])

    def prepare(batch_size: int) -> Callable[[], object]:
        images = random_images(batch_size, side).astype(np.uint8)
        return lambda: session.run([PROBABILITIES], {IMAGE: images})[0]

    return LoadedModel(threads, None, base_memory_mb, prepare)


def main(words: Sequence[str] | None = None) -> int:
    """Measure one way of calling a model and print one line of JSON per batch size; returns the exit code."""
    arguments = _parse_options(words)
    # Only the results go to standard output: file descriptor 1 now leads to standard error, also for C++ code.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    set_tensorflow_defaults()
    try:
        with output, interruptible("interrupted"):
            for measurement in measure(arguments):
                # Written at once: a larger batch may need more memory than there is and end the process.
                output.write(json.dumps(measurement, allow_nan=False) + "\n")
    except Interrupted as error:
        return error.exit_code
    except RunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _parse_options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m keras_bench.cost.latency_worker", description=main.__doc__)
    parser.add_argument("model", type=Path, help="a .keras file, or an .onnx file that keras-bench exported")
    parser.add_argument("--call", choices=CALLS, required=True, help="how the model is called")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where it runs")
    parser.add_argument("--batch-sizes", type=_numbers, required=True, help="images per call, e.g. 1,8,32")
    parser.add_argument("--calls", type=int, default=200, help="maximum number of timed calls")
    parser.add_argument("--seconds", type=float, default=10.0, help="time budget of the timed calls")
    parser.add_argument("--warm-up", type=int, default=10, help="maximum number of calls made first, without timing")
    return parser.parse_args(words)


def _numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


if __name__ == "__main__":
    sys.exit(main())
