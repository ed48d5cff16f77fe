"""Checks that a weights file is whole, in a process of its own: HDF5's library can crash on a damaged file.

`python -m keras_bench.runs.weights_file FILE` prints what is wrong with the file; nothing if nothing is. No TensorFlow.
"""

from __future__ import annotations

import io
import json
import signal
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from keras_bench.errors import RunError, UserError, one_line
from keras_bench.printable import accept_all_characters
from keras_bench.processes import run_child

if TYPE_CHECKING:
    import h5py

KERAS_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
MAX_INFLATION = 1000  # how many times its stored size an array may take in memory; weights hardly compress
MAX_CONFIG_BYTES = 64 << 20  # of config.json; the largest of keras.applications has under 2 MB
MAX_PACKING = 20  # how many times its packed size model.weights.h5 may have; Keras does not pack it
CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE")  # of HDF5's library itself
REMEDY = "copy or download it again, or use other weights"


def check_weights_file(path: Path) -> None:
    """Check that an .h5 or .keras file can be read to its last value, and that all values are finite.

    Raises:
        UserError: it cannot, they are not, or the file holds code or refers to other files.
        RunError: the check was ended from outside, for example because memory ran out.
    """
    done = run_child([sys.executable, "-m", "keras_bench.runs.weights_file", str(path)], capture=True)
    fault = done.stdout.strip()
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        if name not in CRASHES:
            killer = ", as the system does when memory runs out" if name == "SIGKILL" else ""
            raise RunError(f"weights: {path}: its check was ended by {name}{killer}; repeat the command")
        fault = f"it is damaged: reading it ended with {name}"
    elif done.returncode > 0 and not fault:
        lines = done.stderr.strip().splitlines()
        fault = f"it could not be checked ({one_line(lines[-1]) if lines else done.returncode})"
    if fault:
        raise UserError(f"weights: {path}: {fault}; {REMEDY}")


def fault_of(path: Path) -> str:
    """Return what is wrong with a weights file, or "" if nothing is found. It can crash the process."""
    try:
        if path.suffix == ".keras":
            return _fault_of_keras(path)
        with path.open("rb") as stream:
            return _fault_of_hdf5(stream, path.stat().st_size)
    except MemoryError:
        return "it is damaged, or too large for the memory"
    except Exception as error:  # h5py raises exceptions of many kinds, without a common base class
        return f"it is damaged ({one_line(error, limit=160)})"


def _fault_of_keras(path: Path) -> str:
    if not zipfile.is_zipfile(path):
        return f"expected a .keras file, which is a zip, {_received(path)}"
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in KERAS_MEMBERS if name not in archive.namelist()]
            if missing:
                return f"expected a .keras file of Keras 3, but {missing[0]} is missing in it"
            vast = _vast_member(archive)
            if vast:
                return f"it is damaged, or no model: {vast} claims more bytes than it can hold"
            damaged = archive.testzip()
            if damaged is not None:
                return f"it is damaged (wrong checksum of {damaged})"
            if _holds_lambda(json.loads(archive.read("config.json"))):
                return "it holds a Lambda layer, which is code; keras-bench does not run code from files"
            weights = archive.read("model.weights.h5")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        return f"it is damaged ({one_line(error, limit=160)})"
    return _fault_of_hdf5(io.BytesIO(weights), len(weights))


def _vast_member(archive: zipfile.ZipFile) -> str:
    """Return the name of a member of a .keras file that would take far more memory than a model's; "" if none does."""
    for entry in archive.infolist():
        limit = MAX_CONFIG_BYTES
        if entry.filename == "model.weights.h5":
            limit = max(limit, MAX_PACKING * entry.compress_size)
        if entry.filename in KERAS_MEMBERS and entry.file_size > limit:
            return entry.filename
    return ""


def _holds_lambda(config: object) -> bool:
    """Return whether a layer's configuration, nested to any depth, is a Lambda's."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if value.get("class_name") in ("Lambda", "__lambda__"):
                return True
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return False


def _fault_of_hdf5(stream: BinaryIO, size: int) -> str:
    """Read every attribute and value of an HDF5 file."""
    import h5py
    import numpy as np

    start = stream.read(8)
    if start != b"\x89HDF\r\n\x1a\n":
        return f"expected an HDF5 file (.h5), {_kind_of(start, size)}"
    count = 0
    with h5py.File(stream, "r") as file:
        for name, array in _arrays(file):
            if isinstance(array, str):
                return f"{name} {array}"
            if array.nbytes > MAX_INFLATION * max(array.id.get_storage_size(), 1 << 16):
                return f"it is damaged: {name} claims {array.nbytes:,} bytes, more than the file holds"
            values = array[()]
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(values).all():
                return f"{name} holds values that are not finite (NaN or infinite)"
            count += int(np.issubdtype(array.dtype, np.number)) * array.size
    return "" if count else "it holds no weights"


def _arrays(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset | str]]:
    """Yield every array in a group with its name, or what makes it none; a group that holds itself is read once."""
    import h5py

    pending, seen = [group], set()
    while pending:
        current = pending.pop()
        dict(current.attrs)
        for name in current:
            link = current.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"{current.name}/{name}", "is a link to another file"
                continue
            item = current[name]
            if isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                pending += [] if address in seen else [item]
                seen.add(address)
                continue
            dict(item.attrs)
            is_elsewhere = item.is_virtual or item.external is not None
            yield item.name, "is stored in another file" if is_elsewhere else item


def _received(path: Path) -> str:
    with path.open("rb") as stream:
        return _kind_of(stream.read(8), path.stat().st_size)


def _kind_of(start: bytes, size: int) -> str:
    kinds = {
        b"\x89HDF": "HDF5 (.h5)",
        b"PK\x03\x04": "a zip",
        b"\x93NUM": "an array of NumPy (.npy)",
        b"<!DO": "a web page",
    }
    kind = "only zeros at its start" if start and not any(start) else kinds.get(start[:4], "something else")
    return f"received {kind} of {size:,} bytes" if size else "received an empty file"


if __name__ == "__main__":
    accept_all_characters()  # a layer may have any name
    print(fault_of(Path(sys.argv[1])))
