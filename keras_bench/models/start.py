"""Starts TensorFlow, quietly and once per process."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_bench.console import Log
from keras_bench.environment import set_tensorflow_defaults
from keras_bench.errors import RunError, UserError, one_line, quoted

# Keras's own defaults. With others the same run would give other numbers, or none.
REQUIRED = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32", "epsilon": 1e-7}


def start_tensorflow(log: Log) -> list[str]:
    """Import TensorFlow quietly, without TF32; returns the names of the accelerators it sees."""
    ignored = import_quietly()
    import keras
    import tensorflow as tf

    with _without_native_stderr():
        gpus = tf.config.list_physical_devices("GPU")
    # All reported numbers are computed in full float32; only training steps may use TF32 (training/precision.py).
    tf.config.experimental.enable_tensor_float_32_execution(False)
    keras.backend.clear_session()
    for setting in ignored:
        log.warn(setting)
    devices = []
    for device in gpus:
        tf.config.experimental.set_memory_growth(device, True)
        devices.append(tf.config.experimental.get_device_details(device).get("device_name", device.name))
    log.line(f"device: {', '.join(devices) or 'CPU'}")
    return devices


def import_quietly() -> list[str]:
    """Import TensorFlow and Keras as `import_keras` does, without what they print; no device or thread is made yet."""
    set_tensorflow_defaults()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _without_native_stderr():
        ignored = import_keras()
        import tensorflow  # noqa: F401
    return ignored


def has_plain_settings() -> bool:
    """Return whether the user's settings of Keras are those that results are defined for, or none."""
    path = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    is_plain = all(key in REQUIRED and value == REQUIRED[key] for key, value in _read_settings(path).items())
    return is_plain and (os.environ.get("KERAS_BACKEND") or REQUIRED["backend"]) == REQUIRED["backend"]


def import_keras() -> list[str]:
    """Import Keras with the backend and the settings that results are defined for, whatever the user's own are.

    Returns:
        a sentence for each setting of the user, in KERAS_BACKEND or keras.json, that is ignored.

    Raises:
        UserError: keras.json holds settings that Keras does not take, or this process has already imported Keras with
            another backend.
        RunError: Keras cannot be imported for another reason.
    """
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    given = {
        f"{home / 'keras.json'}: {key}": (key, value) for key, value in _read_settings(home / "keras.json").items()
    }
    given["KERAS_BACKEND"] = ("backend", os.environ.get("KERAS_BACKEND") or REQUIRED["backend"])
    os.environ["KERAS_BACKEND"] = str(REQUIRED["backend"])  # stronger than keras.json; read once, on import
    try:
        import keras
    except (ValueError, AttributeError, TypeError) as error:
        if not _is_json(home / "keras.json"):
            raise RunError(f"Keras cannot be imported: {one_line(error)}") from error
        raise UserError(f"{home / 'keras.json'}: {one_line(error)}; correct that file or remove it") from error
    if keras.backend.backend() != REQUIRED["backend"]:
        backend = keras.backend.backend()
        raise UserError(
            f"Keras runs on {backend} in this process, and keras-bench needs tensorflow; start a new process"
        )
    keras.config.set_image_data_format(REQUIRED["image_data_format"])
    keras.config.set_floatx(REQUIRED["floatx"])
    keras.config.set_epsilon(REQUIRED["epsilon"])
    return [
        f"{place} {quoted(value)} is ignored: keras-bench needs {REQUIRED[key]}"
        for place, (key, value) in given.items()
        if key in REQUIRED and value != REQUIRED[key]
    ]


def _is_json(path: Path) -> bool:
    """Return whether Keras reads settings from a file; it ignores one that is missing or not JSON."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _read_settings(path: Path) -> dict[str, object]:
    """Return the content of keras.json, {} where it is missing or damaged, on which Keras itself decides."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


@contextmanager
def _without_native_stderr() -> Iterator[None]:
    """Hide what TensorFlow's C++ code prints while it looks for a GPU, regardless of the log level."""
    sys.stderr.flush()
    original = os.dup(2)
    with open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
