"""Opens the ONNX file of a bundle, and reads its bytes first to see that it refers to no other file."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keras_bench.bundle.sums import BundleError
from keras_bench.printable import printable

if TYPE_CHECKING:
    import onnxruntime

IMAGE, PROBABILITIES = "image", "probabilities"  # the model's input and output
LESS_MEMORY = "out of memory: use a smaller --batch-size, or smaller images"


def open_session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Return an ONNX Runtime session on the CPU.

    Raises:
        BundleError: onnxruntime is not installed, or cannot load the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BundleError(f"onnxruntime is not installed ({error}); run: pip install onnxruntime") from error
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception classes have no common base
        raise BundleError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot load it ({one_line(error)})"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether Python, ONNX Runtime or C++ could not allocate memory."""
    words = ("BFCArena", "bad_alloc", "ailed to allocate")  # of ONNX Runtime and C++
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def one_line(error: Exception) -> str:
    """Return up to 200 characters of an error's message, safe to show, without line breaks."""
    return printable(" ".join(str(error).split())[:200])


def require_one_file(path: Path) -> None:
    """Refuse an ONNX file that keeps tensors in other files: the checksums cover them only by chance, if at all."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            is_external = _has_external_data(content, 0, len(content), _MODEL)
    except (ValueError, IndexError, RecursionError) as error:  # mmap cannot map an empty file: ValueError
        raise BundleError(f"{path}: not an ONNX model, or a damaged one; export it again") from error
    if is_external:
        raise BundleError(f"{path}: expected one file, received a model that reads tensors from other files")


# The messages of onnx.proto in which tensors can be: the number of each field that leads to one, and what it holds.
_TENSOR: dict[int, object] = {}
_SPARSE = {1: _TENSOR, 2: _TENSOR}
_GRAPH: dict[int, object] = {5: _TENSOR, 15: _SPARSE}
_ATTRIBUTE = {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE}
_NODE = {5: _ATTRIBUTE}
_GRAPH[1] = _NODE
_MODEL = {7: _GRAPH, 20: {1: _GRAPH, 2: _GRAPH}, 25: {7: _NODE, 11: _ATTRIBUTE}}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor


def _has_external_data(content: mmap.mmap, start: int, end: int, message: Mapping[int, object]) -> bool:
    """Return whether a protobuf message at content[start:end] holds a tensor whose values are in another file.

    Only the headers of fields are read, so a model's size hardly matters. Older versions of onnxruntime follow such a
    reference to any file.

    Raises:
        ValueError: this is no such message.
    """
    while start < end:
        key, start = _varint(content, start)
        field, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, start = _varint(content, start)
            if message is _TENSOR and field == _DATA_LOCATION and value:
                return True
        elif wire_type == 2:
            length, start = _varint(content, start)
            if message is _TENSOR and field == _EXTERNAL_DATA:
                return True
            inner = message.get(field)
            if start + length > end:
                raise ValueError("a field is longer than its message")
            if isinstance(inner, dict) and _has_external_data(content, start, start + length, inner):
                return True
            start += length
        elif wire_type in (1, 5):
            start += 8 if wire_type == 1 else 4
        else:
            raise ValueError("no field has this type")
    if start != end:
        raise ValueError("a field is longer than its message")
    return False


def _varint(content: mmap.mmap, start: int) -> tuple[int, int]:
    """Return the number in protobuf's variable-length format at `start`, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise ValueError("a number is longer than ten bytes")
