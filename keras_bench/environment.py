"""The environment recorded with every result: versions, device, commit. Imports nothing heavy."""

import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from keras_bench import __version__

# oneDNN's kernels trained 1.5 to 1.7 times as fast on a CPU without AVX-512, where TensorFlow disables them by default.
TENSORFLOW_SETTINGS = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1"}
PACKAGES = ("tensorflow", "keras", "numpy", "onnxruntime", "scikit-learn", "pillow", "tensorflow-datasets")


class Environment(TypedDict):
    """What a result was computed with, as it is written to JSON.

    Attributes:
        python: its version.
        packages: version of each package; None: not installed.
        platform: operating system and architecture.
        cpu: name of the processor.
        cores: number of cores that the process may use.
        accelerators: names of the accelerators TensorFlow sees.
        onednn: value of TF_ENABLE_ONEDNN_OPTS; None: not set.
        commit: commit of keras-bench; None: not known.
        time: when, UTC, ISO 8601.
    """

    python: str
    packages: dict[str, str | None]
    platform: str
    cpu: str
    cores: int
    accelerators: list[str]
    onednn: str | None
    commit: str | None
    time: str


def set_tensorflow_defaults() -> None:
    """Set environment variables that TensorFlow reads on import; variables that the user has set are kept."""
    for name, value in TENSORFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)


def describe_environment(devices: list[str]) -> Environment:
    """Return versions, processor, accelerators, commit and time as plain values.

    Args:
        devices: names of the accelerators TensorFlow sees; empty if there are none.
    """
    return {
        "python": platform.python_version(),
        "packages": {"keras-bench": __version__, **{name: _installed_version(name) for name in PACKAGES}},
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "accelerators": devices,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "commit": _git_commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) or 1


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process so far, in MiB.

    Read from /proc where available: Linux keeps `ru_maxrss` across execve (getrusage(2)), so that a small child of a
    large process would report its parent's peak.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / (1 << 10)
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """Return the checkout's commit, followed by "+changes" if tracked files differ; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except OSError:
        return None
    if commit.returncode != 0:
        return None
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")
