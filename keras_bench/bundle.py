"""Classifies images with an exported bundle; needs onnxruntime, NumPy and Pillow, nothing else.

Every bundle carries this file as predict.py, with the image decoder in it: `python predict.py photos/ --top 3`.
"""

from __future__ import annotations

import argparse
import csv
import glob
import hashlib
import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO, TypedDict

import numpy as np

from keras_bench.images import UnreadableImageError, decode, is_image_name

if TYPE_CHECKING:
    import onnxruntime

IMAGE, PROBABILITIES = "image", "probabilities"  # the model's input and output
SUMS = "SHA256SUMS"
LABELS = "labels.json"
FLOAT_MODEL = "model.onnx"
INT8_MODEL = "model.int8.onnx"
EXPECTED = "sample/expected.json"
SAMPLE_TOLERANCE = 1e-4  # of a probability, between the machine that made the bundle and this one
INT8_TOLERANCE = 0.05  # likewise for int8, whose kernels round differently from processor to processor
GROUP_BYTES = 64 << 20  # most decoded bytes in one batch
DECODERS = 4  # threads that read ahead
REPORT_SECONDS = 5.0  # between two progress lines


Answer = TypedDict("Answer", {"class": str, "title": str, "probability": float})


class BundleError(Exception):
    """The bundle is incomplete, changed, or not made by keras-bench; the message is one line for the user."""


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

    Raises:
        BundleError: a file is missing or changed, the labels are not the model's, or the model's inputs or outputs
            are not a bundle's.
    """

    def __init__(self, folder: Path, file: str = FLOAT_MODEL, threads: int = 0) -> None:
        check_sums(folder, (file, LABELS))
        labels = _read_labels(folder / LABELS)
        self.class_names: list[str] = labels["class_names"]
        self.class_titles: list[str] = labels["class_titles"]
        self.session = open_session(folder / file, threads)
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self._check_signature(folder / file)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (N, K) for uint8 images (N, height, width, 3), RGB in [0, 255], of any size."""
        return np.asarray(self.session.run([PROBABILITIES], {IMAGE: images})[0])

    def predict(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 (N, K) for images of any sizes, each uint8 (height, width, 3); equal sizes run together."""
        probabilities = np.empty((len(images), len(self.class_names)), dtype=np.float32)
        indices_by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            indices_by_shape.setdefault(image.shape, []).append(i)
        for indices in indices_by_shape.values():
            probabilities[indices] = self.probabilities(np.stack([images[i] for i in indices]))
        return probabilities

    def _check_signature(self, path: Path) -> None:
        inputs = [(node.name, node.type, len(node.shape), node.shape[-1]) for node in self.session.get_inputs()]
        outputs = [(node.name, node.type, node.shape[-1]) for node in self.session.get_outputs()]
        expected_outputs = [(PROBABILITIES, "tensor(float)")]
        if inputs != [(IMAGE, "tensor(uint8)", 4, 3)] or [output[:2] for output in outputs] != expected_outputs:
            raise BundleError(
                f"{path}: expected image uint8 (N, H, W, 3) to probabilities float32, received {inputs} to {outputs}"
            )
        model_classes = json.loads(self.metadata.get("class_names", "null"))
        if model_classes != self.class_names or outputs[0][2] != len(self.class_names):
            raise BundleError(
                f"{path.parent / LABELS}: its {len(self.class_names)} class names are not the model's, which gives "
                f"{outputs[0][2]} probabilities; take both from the same bundle"
            )


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
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{path}: onnxruntime {onnxruntime.__version__} cannot load it ({reason})") from error


def check_sums(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """Compare files with SHA256SUMS and return the names of the files compared.

    Args:
        folder: the bundle.
        names: files to compare; None: every listed file.

    Raises:
        BundleError: a file is missing, not listed, or changed.
    """
    path = folder / SUMS
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle: expected {SUMS} in it; make one with `keras-bench export`")
    digests = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        digests[name] = digest
    checked = list(digests if names is None else names)
    for name in checked:
        file = folder / name
        if name not in digests or not file.is_file() or ".." in Path(name).parts:
            raise BundleError(f"{file} is missing from the bundle; copy the whole folder again")
        with file.open("rb") as stream:
            received = hashlib.file_digest(stream, "sha256").hexdigest()
        if received != digests[name]:
            raise BundleError(f"{file} was changed or damaged (its sha256 is not the one in {SUMS}); copy it again")
    return checked


def verify_samples(folder: Path, file: str = FLOAT_MODEL, threads: int = 0) -> float:
    """Classify the sample images and return the largest difference from their probabilities at export.

    Raises:
        BundleError: as for `Bundle`, or a probability differs by more than 1e-4 (int8: 0.05).
    """
    check_sums(folder)
    bundle = Bundle(folder, file, threads)
    expected = json.loads((folder / EXPECTED).read_text(encoding="utf-8"))[file]
    probabilities = bundle.predict([decode((folder / name).read_bytes()) for name in expected])
    difference = float(np.abs(probabilities - np.array(list(expected.values()))).max())
    tolerance = SAMPLE_TOLERANCE if file == FLOAT_MODEL else INT8_TOLERANCE
    if not difference <= tolerance:
        raise BundleError(f"{folder / file}: sample images are off by {difference:.2g}, more than {tolerance:g}")
    return difference


def find_images(arguments: Iterable[str]) -> list[str]:
    """Return image paths for files, folders (recursively), glob patterns, and "-" for paths on standard input.

    A file named explicitly is kept whatever its extension, even if it does not exist: reading it reports that.
    """
    paths: list[str] = []
    for argument in arguments:
        if argument == "-":
            paths += [line for line in sys.stdin.read().splitlines() if line.strip()]
        elif Path(argument).is_dir():
            images = (path for path in Path(argument).rglob("*") if is_image_name(path.name) and path.is_file())
            paths += [str(path) for path in sorted(images)]
        elif not Path(argument).exists() and glob.has_magic(argument):
            paths += sorted(name for name in glob.glob(argument, recursive=True) if Path(name).is_file())
        else:
            paths.append(argument)
    return paths


def classify(
    bundle: Bundle, paths: Sequence[str], batch_size: int = 32
) -> Iterator[tuple[str, np.ndarray | UnreadableImageError]]:
    """Yield each path in order with its probabilities, float32 (K,), or the error where it is unreadable."""
    group: list[tuple[str, np.ndarray | UnreadableImageError]] = []
    size = 0
    for path, image in _read_ahead(paths):
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


def _read_ahead(paths: Sequence[str]) -> Iterator[tuple[str, np.ndarray | UnreadableImageError]]:
    """Decode in threads, only a few files ahead, to keep memory small."""
    pending: deque[tuple[str, Future[np.ndarray | UnreadableImageError]]] = deque()
    with ThreadPoolExecutor(DECODERS) as pool:
        for path in paths:
            pending.append((path, pool.submit(_decode_file, path)))
            if len(pending) > 2 * DECODERS:
                first, future = pending.popleft()
                yield first, future.result()
        for first, future in pending:
            yield first, future.result()


def _decode_file(path: str) -> np.ndarray | UnreadableImageError:
    try:
        return decode(Path(path).read_bytes())
    except UnreadableImageError as error:
        return error
    except (OSError, ValueError) as error:
        return UnreadableImageError(getattr(error, "strerror", None) or str(error))


def _read_labels(path: Path) -> dict[str, list[str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = {key: [str(name) for name in content[key]] for key in ("class_names", "class_titles")}
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: expected JSON with class_names and class_titles; copy the bundle again") from error
    return labels


def top_answers(bundle: Bundle, row: np.ndarray, count: int) -> list[Answer]:
    """Return the most probable classes, best first: class, title, probability; ties keep the order of the classes."""
    order = np.argsort(-row, kind="stable")[:count]
    return [
        {"class": bundle.class_names[k], "title": bundle.class_titles[k], "probability": float(row[k])} for k in order
    ]


def _printable(text: str) -> str:
    """Return text with control characters escaped: names in files must not control the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Writer:
    """Writes the predictions of one image at a time, as a table, CSV or JSON lines."""

    def __init__(self, output_format: str, stream: TextIO, count: int) -> None:
        self.format, self.stream = output_format, stream
        self.rows = csv.writer(stream, lineterminator="\n")
        if output_format == "csv":
            columns = (f"{name}_{rank}" for rank in range(1, count + 1) for name in ("class", "title", "probability"))
            self.rows.writerow(["path", *columns])

    def write(self, path: str, predictions: list[Answer]) -> None:
        if self.format == "csv":
            self.rows.writerow([path, *(value for prediction in predictions for value in prediction.values())])
        elif self.format == "jsonl":
            self.stream.write(json.dumps({"path": path, "answers": predictions}, ensure_ascii=False) + "\n")
        else:
            texts = (
                f"{prediction['probability']:7.2%}  {_printable(prediction['title'])}" for prediction in predictions
            )
            self.stream.write(f"{_printable(path)}\n" + "".join(f"  {text}\n" for text in texts))


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
    try:
        arguments = _parse_arguments(words, bundle, prog)
        folder = bundle or arguments.bundle
        file = INT8_MODEL if arguments.int8 else FLOAT_MODEL
        if arguments.verify:
            difference = verify_samples(folder, file, arguments.threads)
            print(f"{folder}: all checksums match; sample images agree within {difference:.2g}")
            return 0
        return _classify_all(arguments, Bundle(folder, file, arguments.threads))
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, e.g. `head`, has closed the pipe
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130


def _classify_all(arguments: argparse.Namespace, bundle: Bundle) -> int:
    paths = find_images(arguments.images)
    if not paths:
        raise BundleError("no images: expected files, folders, patterns, or - for paths on standard input")
    count = min(arguments.top, len(bundle.class_names))
    unreadable: list[tuple[str, str]] = []
    started = last_report = time.monotonic()
    writer = _Writer(arguments.format, sys.stdout, count)
    for done, (path, row) in enumerate(classify(bundle, paths, arguments.batch_size), start=1):
        if isinstance(row, UnreadableImageError):
            unreadable.append((path, str(row)))
        else:
            writer.write(path, top_answers(bundle, row, count))
        if time.monotonic() - last_report > REPORT_SECONDS:
            last_report = time.monotonic()
            print(f"{done:,}/{len(paths):,} images, {done / (last_report - started):,.0f}/s", file=sys.stderr)
    sys.stdout.flush()
    for path, reason in unreadable:
        print(f"unreadable: {_printable(path)}: {_printable(reason)}", file=sys.stderr)
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
    add("--threads", type=int, default=0, metavar="N", help="threads per operation (default: one per core)")
    add("--int8", action="store_true", help="use model.int8.onnx")
    add("--verify", action="store_true", help="verify checksums and sample images, then exit")
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(bundle=Path(__file__).resolve().parent))
