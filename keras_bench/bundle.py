"""Classifies images with an exported bundle; needs onnxruntime, NumPy and Pillow, nothing else.

Every bundle carries this file as predict.py, with the image decoder in it: `python predict.py photos/ --top 3`.
"""

from __future__ import annotations

import argparse
import csv
import glob
import hashlib
import io
import json
import mmap
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn, TextIO, TypedDict

import numpy as np

from keras_bench.images import HIGHEST_LIMIT, MAX_MEGAPIXELS, UnreadableImageError, decode, is_image_name
from keras_bench.printable import accept_all_characters, cell_text, printable, printable_json

if TYPE_CHECKING:
    import onnxruntime

IMAGE, PROBABILITIES = "image", "probabilities"  # the model's input and output
SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"  # of the bytes of SHA256SUMS, if the bundle is signed
LABELS = "labels.json"
FLOAT_MODEL = "model.onnx"
INT8_MODEL = "model.int8.onnx"
EXPECTED = "sample/expected.json"
PREDICT = "predict.py"
VERIFICATION = "verification.json"
CARD = "MODEL_CARD.md"
REQUIRED = (FLOAT_MODEL, LABELS, EXPECTED, PREDICT, VERIFICATION, CARD)  # in every bundle, so in its sums
SAMPLE_TOLERANCE = 1e-4  # of a probability, between the machine that made the bundle and this one
INT8_TOLERANCE = 0.05  # likewise for int8, whose kernels round differently from processor to processor
GROUP_BYTES = 64 << 20  # most decoded bytes in one batch
DECODERS = 4  # threads that read ahead
REPORT_SECONDS = 5.0  # between two progress lines
MAX_THREADS = 1024


Answer = TypedDict("Answer", {"class": str, "title": str, "probability": float})


class BundleError(Exception):
    """The bundle is incomplete, changed, or not made by keras-bench; the message is one line for the user."""


class ChangedBundleError(BundleError):
    """A bundle is no longer as it was made: a file is missing or changed, or the model predicts something else."""


class Bundle:
    """An exported model and its class names, verified before the first prediction.

    Args:
        folder: the bundle.
        file: "model.onnx" or "model.int8.onnx".
        threads: threads per operation; 0: one per core.

    Attributes:
        class_names: K names, in the order of the probabilities.
        class_titles: K display names.
        metadata: the model file's metadata.
        max_megapixels: limit of `decode` in the run that made the bundle; the default if the bundle does not record it.

    Raises:
        ChangedBundleError: a file is missing or changed.
        BundleError: a file is malformed, the labels are not the model's, or the model's inputs or outputs are not a
            bundle's.
    """

    def __init__(self, folder: Path, file: str = FLOAT_MODEL, threads: int = 0) -> None:
        check_sums(folder, (file, LABELS))
        self.path = folder / file
        self.class_names, self.class_titles = _read_labels(folder / LABELS)
        _require_one_file(self.path)
        self.session = open_session(self.path, threads)
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.max_megapixels = _recorded_limit(self.metadata)
        self._check_interface()

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (N, K) for uint8 images (N, height, width, 3), RGB in [0, 255], of any size.

        Raises:
            BundleError: the model cannot be run, or its output is not N rows of K finite numbers.
        """
        try:
            probabilities = np.asarray(self.session.run([PROBABILITIES], {IMAGE: images})[0])
        except Exception as error:  # onnxruntime's exception classes have no common base
            remedy = _LESS_MEMORY if _is_out_of_memory(error) else "export it again"
            raise BundleError(f"{self.path}: the model cannot be run ({_one_line(error)}); {remedy}") from error
        expected = (len(images), len(self.class_names))
        if probabilities.shape != expected or not np.isfinite(probabilities).all():
            raise BundleError(
                f"{self.path}: expected finite probabilities of shape {expected}, received shape "
                f"{probabilities.shape} with {np.count_nonzero(~np.isfinite(probabilities)):,} values that are not "
                "finite; export it again"
            )
        return probabilities

    def predict(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 (N, K) for images of any sizes, each uint8 (height, width, 3); equal sizes run together."""
        probabilities = np.empty((len(images), len(self.class_names)), dtype=np.float32)
        indices_by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            indices_by_shape.setdefault(image.shape, []).append(i)
        for indices in indices_by_shape.values():
            probabilities[indices] = self.probabilities(np.stack([images[i] for i in indices]))
        return probabilities

    def _check_interface(self) -> None:
        """Check the model's inputs and outputs, and that its classes are those of the labels."""
        inputs = [(node.name, node.type, len(node.shape), *node.shape[-1:]) for node in self.session.get_inputs()]
        outputs = [(node.name, node.type, *node.shape[-1:]) for node in self.session.get_outputs()]
        expected_outputs = [(PROBABILITIES, "tensor(float)")]
        if inputs != [(IMAGE, "tensor(uint8)", 4, 3)] or [output[:2] for output in outputs] != expected_outputs:
            raise BundleError(
                f"{self.path}: expected image uint8 (N, H, W, 3) to probabilities float32, received {inputs} to "
                f"{outputs}"
            )
        try:
            model_classes = json.loads(self.metadata.get("class_names", "null"))
        except ValueError:
            model_classes = None
        count = outputs[0][-1]
        if model_classes != self.class_names or count != len(self.class_names):
            raise BundleError(
                f"{self.path.parent / LABELS}: its {len(self.class_names)} class names are not the model's, which "
                f"gives {count} probabilities; take both from the same bundle"
            )


def _recorded_limit(metadata: Mapping[str, str]) -> int:
    recorded = metadata.get("max_megapixels", "")
    is_valid = recorded.isdecimal() and len(recorded) < 9 and 1 <= int(recorded) <= HIGHEST_LIMIT
    return int(recorded) if is_valid else MAX_MEGAPIXELS


def _require_one_file(path: Path) -> None:
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
            f"{path}: onnxruntime {onnxruntime.__version__} cannot load it ({_one_line(error)})"
        ) from error


_LESS_MEMORY = "out of memory: use a smaller --batch-size, or smaller images"


def _is_out_of_memory(error: Exception) -> bool:
    words = ("BFCArena", "bad_alloc", "ailed to allocate")  # of ONNX Runtime and C++
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split())[:200])


def check_sums(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """Compare files with SHA256SUMS and return the names of the files compared.

    Args:
        folder: the bundle.
        names: files to compare; None: every listed file, and those that every bundle has.

    Raises:
        ChangedBundleError: a file is missing, not listed, or changed.
        BundleError: a file is a symbolic link, or SHA256SUMS is malformed.
    """
    digests = read_sums(folder)
    checked = list({**digests, **dict.fromkeys(REQUIRED)} if names is None else names)
    for name in checked:
        file = folder / name
        if name not in digests and file.is_file():
            raise ChangedBundleError(
                f"{file} is not listed in {SUMS}, so it may have been changed; copy the whole folder again"
            )
        if name not in digests or not file.is_file():
            raise ChangedBundleError(f"{file} is missing from the bundle; copy the whole folder again")
        if any((folder / part).is_symlink() for part in (name, *map(str, PurePosixPath(name).parents[:-1]))):
            raise BundleError(f"{file}: expected a file, received a symbolic link; copy the bundle with `cp -rL`")
        with _readable(file), file.open("rb") as stream:
            received = hashlib.file_digest(stream, "sha256").hexdigest()
        if received != digests[name]:
            raise ChangedBundleError(
                f"{file} was changed or damaged (its sha256 is not the one in {SUMS}); copy it again"
            )
    return checked


def read_sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file that SHA256SUMS lists, lower-case hexadecimal, by the file's name.

    Names are relative to the bundle, with "/" between folders, and stay inside it.

    Raises:
        ChangedBundleError: the bundle has no SHA256SUMS.
        BundleError: SHA256SUMS is not in the format that `sha256sum` writes, lists a file twice, or names files outside
            the bundle.
    """
    path = folder / SUMS
    if not path.is_file():
        raise ChangedBundleError(f"{folder} is not a bundle: expected {SUMS} in it; make one with `keras-bench export`")
    with _readable(path):
        lines = path.read_text(encoding="utf-8").split("\n")
    digests: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line and number == len(lines):
            continue
        where = f"{path}, line {number}"
        match = _SUM.fullmatch(line.removesuffix("\r"))
        if match is None:
            raise BundleError(f"{where}: expected a sha256, two spaces and a file name; copy the bundle again")
        digest, name = match.groups()
        if not is_inside(name):
            raise BundleError(
                f"{where}: expected a file of the bundle, received {printable(name)[:100]}; do not use it"
            )
        if name in digests:
            raise BundleError(f"{where}: {name} is listed twice; copy the bundle again")
        digests[name] = digest.lower()
    if not digests:
        raise BundleError(f"{path} lists no files; copy the bundle again")
    return digests


_SUM = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def is_inside(name: str) -> bool:
    """Return whether a name is that of a file in the bundle, written in one way: relative, printable, without ".."."""
    is_plain = name.isprintable() and "\\" not in name and ":" not in name
    return is_plain and all(part not in ("", ".", "..") for part in name.split("/"))


def unlisted_files(folder: Path) -> list[str]:
    """Return the names of the files in a bundle that SHA256SUMS does not list, apart from itself and its signature."""
    listed = {*read_sums(folder), SUMS, SIGNATURE}
    names = (
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )
    return sorted(name for name in names if name not in listed)


def unlisted_words(names: Sequence[str]) -> str:
    """Return a line about files that the checksums do not cover; "" if there are none."""
    shown = ", ".join(map(printable, names[:5])) + (", …" if len(names) > 5 else "")
    files = "1 file is" if len(names) == 1 else f"{len(names):,} files are"
    return f"{files} not listed in {SUMS}, so not checked: {shown}" if names else ""


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file into a BundleError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: expected UTF-8 text; copy the bundle again") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error


def verify_samples(
    folder: Path, file: str = FLOAT_MODEL, threads: int = 0, max_megapixels: float | None = None
) -> float:
    """Classify the sample images and return the largest difference from their probabilities at export.

    Args:
        folder: the bundle.
        file: "model.onnx" or "model.int8.onnx".
        threads: threads per operation; 0: one per core.
        max_megapixels: limit of `decode`; None: the bundle's.

    Raises:
        ChangedBundleError: as for `Bundle`, or a probability differs by more than 1e-4 (int8: 0.05).
        BundleError: as for `Bundle`, or the recorded probabilities are malformed.
    """
    check_sums(folder)
    bundle = Bundle(folder, file, threads)
    expected = _read_expected(folder, file, len(bundle.class_names))
    try:
        limit = max_megapixels or bundle.max_megapixels
        images = [decode((folder / name).read_bytes(), limit) for name in expected]
    except (UnreadableImageError, OSError) as error:
        raise BundleError(f"{folder / EXPECTED}: a sample image cannot be read ({_one_line(error)})") from error
    difference = float(np.abs(bundle.predict(images) - np.array(list(expected.values()))).max())
    tolerance = SAMPLE_TOLERANCE if file == FLOAT_MODEL else INT8_TOLERANCE
    if not difference <= tolerance:
        raise ChangedBundleError(f"{folder / file}: sample images are off by {difference:.2g}, more than {tolerance:g}")
    return difference


def _read_expected(folder: Path, file: str, count: int) -> dict[str, list[float]]:
    """Return the recorded probabilities of a model file, `count` finite numbers for each sample image's name."""
    path = folder / EXPECTED
    try:
        with _readable(path):
            expected = json.loads(path.read_text(encoding="utf-8"))[file]
        rows = np.array(list(expected.values()), dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != count or not np.isfinite(rows).all():
            raise ValueError(f"received shape {rows.shape}")
        if not set(expected) <= set(read_sums(folder)):
            raise ValueError("it names images that the sums do not list")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{path}: expected {count} probabilities of {file} for each sample image; copy the bundle again"
        ) from error
    return expected


def find_images(arguments: Iterable[str]) -> list[str]:
    """Return image paths for files, folders (recursively), glob patterns, and "-" for paths on standard input.

    A file named explicitly is kept whatever its extension, even if it does not exist: reading it reports that.
    """
    paths: list[str] = []
    for argument in arguments:
        if argument == "-":
            paths += _paths_on_stdin()
        elif os.path.isdir(argument):  # unlike Path.is_dir, without an error if the name is too long
            images = (path for path in Path(argument).rglob("*") if is_image_name(path.name) and path.is_file())
            paths += [str(path) for path in sorted(images)]
        elif not os.path.exists(argument) and glob.has_magic(argument):
            paths += sorted(name for name in glob.glob(argument, recursive=True) if Path(name).is_file())
        else:
            paths.append(argument)
    return paths


def _paths_on_stdin() -> list[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # as Python reads file names that are not UTF-8
    return [line for line in sys.stdin.read().split("\n") if line.strip()]


def classify(
    bundle: Bundle, paths: Sequence[str], batch_size: int = 32, max_megapixels: float | None = None
) -> Iterator[tuple[str, np.ndarray | UnreadableImageError]]:
    """Yield each path in order with its probabilities, float32 (K,), or the error where it is unreadable or larger.

    Images are larger above `max_megapixels`; None: the bundle's limit.
    """
    group: list[tuple[str, np.ndarray | UnreadableImageError]] = []
    size = 0
    for path, image in _read_ahead(paths, max_megapixels or bundle.max_megapixels):
        group.append((path, image))
        size += 0 if isinstance(image, UnreadableImageError) else image.nbytes
        if len(group) >= batch_size or size >= GROUP_BYTES:
            yield from _run_group(bundle, group)
            group, size = [], 0
    yield from _run_group(bundle, group)


def _run_group(
    bundle: Bundle, group: list[tuple[str, np.ndarray | UnreadableImageError]]
) -> Iterator[tuple[str, np.ndarray | UnreadableImageError]]:
    images = [image for _, image in group if not isinstance(image, UnreadableImageError)]
    rows = iter(bundle.predict(images))
    for path, image in group:
        yield path, (image if isinstance(image, UnreadableImageError) else next(rows))


def _read_ahead(paths: Sequence[str], max_megapixels: float) -> Iterator[tuple[str, np.ndarray | UnreadableImageError]]:
    """Decode in threads, only a few files ahead, to keep memory small."""
    pending: deque[tuple[str, Future[np.ndarray | UnreadableImageError]]] = deque()
    with ThreadPoolExecutor(DECODERS) as pool:
        for path in paths:
            pending.append((path, pool.submit(_decode_file, path, max_megapixels)))
            if len(pending) > 2 * DECODERS:
                first, future = pending.popleft()
                yield first, future.result()
        for first, future in pending:
            yield first, future.result()


def _decode_file(path: str, max_megapixels: float) -> np.ndarray | UnreadableImageError:
    try:
        return decode(Path(path).read_bytes(), max_megapixels)
    except UnreadableImageError as error:
        return error
    except (OSError, ValueError) as error:
        return UnreadableImageError(getattr(error, "strerror", None) or str(error))


def _read_labels(path: Path) -> tuple[list[str], list[str]]:
    """Return the class names and as many titles."""
    try:
        with _readable(path):
            content = json.loads(path.read_text(encoding="utf-8"))
        names, titles = content["class_names"], content["class_titles"]
        if not all(
            isinstance(labels, list) and all(isinstance(label, str) for label in labels) for labels in (names, titles)
        ):
            raise ValueError("not text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: expected JSON with class_names and class_titles; copy the bundle again") from error
    if len(names) != len(titles):
        raise BundleError(f"{path}: expected {len(names)} class titles, received {len(titles)}; copy the bundle again")
    return names, titles


def top_answers(bundle: Bundle, row: np.ndarray, count: int) -> list[Answer]:
    """Return the most probable classes, best first: class, title, probability; ties keep the order of the classes."""
    order = np.argsort(-row, kind="stable")[:count]
    return [
        {"class": bundle.class_names[k], "title": bundle.class_titles[k], "probability": float(row[k])} for k in order
    ]


class _Writer:
    """Writes the predictions of one image at a time: as a table or CSV for people, or as JSON lines with true names."""

    def __init__(self, output_format: str, stream: TextIO, count: int) -> None:
        self.format, self.stream = output_format, stream
        self.rows = csv.writer(stream, lineterminator="\n")
        if output_format == "csv":
            columns = (f"{name}_{rank}" for rank in range(1, count + 1) for name in ("class", "title", "probability"))
            self.rows.writerow(["path", *columns])

    def write(self, path: str, predictions: list[Answer]) -> None:
        if self.format == "csv":
            values = [path, *(value for prediction in predictions for value in prediction.values())]
            self.rows.writerow([cell_text(value) if isinstance(value, str) else value for value in values])
        elif self.format == "jsonl":
            self.stream.write(self._json_line({"path": path, "answers": predictions}) + "\n")
        else:
            texts = (
                f"{prediction['probability']:7.2%}  {printable(prediction['title'])}" for prediction in predictions
            )
            self.stream.write(f"{printable(path)}\n" + "".join(f"  {text}\n" for text in texts))

    def _json_line(self, content: dict[str, object]) -> str:
        """Return JSON that the stream can write without a substitute for any character."""
        line = printable_json(json.dumps(content, ensure_ascii=False))
        try:
            line.encode(self.stream.encoding or "utf-8")
        except UnicodeEncodeError:
            return json.dumps(content)
        return line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BundleError(f"{message}; see {self.prog} --help")


def main(words: Sequence[str] | None = None, bundle: Path | None = None, prog: str | None = None) -> int:
    """Run the command line; returns 0, 1 if a file could not be read, or 2 for bad input.

    Args:
        words: the command line's words; None: those of this process.
        bundle: the bundle; None: the first word names it.
        prog: the command's name in its help.
    """
    accept_all_characters()
    try:
        arguments = _parse_arguments(words, bundle, prog)
        folder = bundle or arguments.bundle
        file = INT8_MODEL if arguments.int8 else FLOAT_MODEL
        if arguments.verify:
            difference = verify_samples(folder, file, arguments.threads, arguments.max_megapixels)
            words = f"{folder}: all checksums match; sample images agree within {difference:.2g}"
            print(printable(words), flush=True)
            if unlisted := unlisted_words(unlisted_files(folder)):
                print(printable(f"note: {unlisted}"), file=sys.stderr)
            return 0
        return _classify_all(arguments, Bundle(folder, file, arguments.threads))
    except BundleError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    except MemoryError:  # an image or a batch of them; ONNX Runtime's own are BundleErrors
        print(f"error: {_LESS_MEMORY}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, e.g. `head`, has closed the pipe
        sys.stderr.close()
        return 0
    except OSError as error:
        what = "standard output cannot be written" if error.filename is None else f"{error.filename} cannot be read"
        print(printable(f"error: {what}: {error.strerror or error}"), file=sys.stderr)
        _discard_output()
        return 1
    except KeyboardInterrupt:
        return 130


def _discard_output() -> None:
    """Let what is still to be written to standard output vanish, or Python would try again when it ends."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        with open(os.devnull, "wb") as nothing, suppress(OSError):
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def _classify_all(arguments: argparse.Namespace, bundle: Bundle) -> int:
    paths = find_images(arguments.images)
    if not paths:
        raise BundleError("no images: expected files, folders, patterns, or - for paths on standard input")
    count = min(arguments.top, len(bundle.class_names))
    unreadable: list[tuple[str, str]] = []
    started = last_report = time.monotonic()
    writer = _Writer(arguments.format, sys.stdout, count)
    for done, (path, row) in enumerate(
        classify(bundle, paths, arguments.batch_size, arguments.max_megapixels), start=1
    ):
        if isinstance(row, UnreadableImageError):
            unreadable.append((path, str(row)))
        else:
            writer.write(path, top_answers(bundle, row, count))
        if time.monotonic() - last_report > REPORT_SECONDS:
            last_report = time.monotonic()
            print(f"{done:,}/{len(paths):,} images, {done / (last_report - started):,.0f}/s", file=sys.stderr)
    sys.stdout.flush()
    for path, reason in unreadable:
        print(printable(f"unreadable: {path}: {reason}"), file=sys.stderr)
    if unreadable:
        print(f"{len(unreadable):,} of {len(paths):,} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def _parse_arguments(words: Sequence[str] | None, bundle: Path | None, prog: str | None) -> argparse.Namespace:
    parser = _Parser(prog=prog, description="Classify images. Exit code 1: some files are unreadable. 2: bad input.")
    if bundle is None:
        parser.add_argument("bundle", type=Path, help="folder that keras-bench export wrote")
    add = parser.add_argument
    add("images", nargs="*", help="files, folders, 'patterns/**/*.jpg', or - for paths on standard input")
    add("--top", type=_positive, default=1, metavar="K", help="classes per image (default: 1)")
    add("--format", choices=("table", "csv", "jsonl"), default="table", help="default: table")
    add("--batch-size", type=_positive, default=32, metavar="N", help="images per batch (default: 32)")
    add("--threads", type=_threads, default=0, metavar="N", help="threads per operation (default: one per core)")
    limit = "refuse larger images, WebP and progressive JPEG from half as many (default: as in training)"
    add("--max-megapixels", type=_megapixels, metavar="N", help=limit)
    add("--int8", action="store_true", help="use model.int8.onnx")
    add("--verify", action="store_true", help="verify checksums and sample images, then exit")
    return parser.parse_args(words)


def _positive(text: str) -> int:
    return _whole_number(text, 1, 1_000_000_000)


def _threads(text: str) -> int:
    return _whole_number(text, 0, MAX_THREADS)


def _megapixels(text: str) -> int:
    return _whole_number(text, 1, HIGHEST_LIMIT)


def _whole_number(text: str, lowest: int, highest: int) -> int:
    is_number = text.isdecimal() and len(text) < 20
    if not is_number or int(text) < lowest:
        expected = f"expected a whole number of at least {lowest}"
    elif int(text) > highest:
        expected = f"expected at most {highest:,}"
    else:
        return int(text)
    received = repr(text) if len(text) <= 40 else f"{text[:20]!r}… of {len(text):,} characters"
    raise argparse.ArgumentTypeError(f"{expected}, received {received}")


if __name__ == "__main__":
    sys.exit(main(bundle=Path(__file__).resolve().parent))
