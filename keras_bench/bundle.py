"""Classifies images with an exported bundle; needs onnxruntime, NumPy and Pillow, nothing else.

Every bundle carries this file as predict.py, with the image decoder in it: `python predict.py photos/ --top 3`.
"""

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
from typing import Any, NoReturn, TextIO

import numpy as np

from keras_bench.images import UnreadableImageError, decode, is_image_name

IMAGE, PROBABILITIES = "image", "probabilities"  # the model's input and output
SUMS = "SHA256SUMS"
LABELS = "labels.json"
FLOAT_MODEL = "model.onnx"
INT8_MODEL = "model.int8.onnx"
EXPECTED = "sample/expected.json"
SAMPLE_TOLERANCE = 1e-4  # of a probability, between the machine that made the bundle and this one
INT8_TOLERANCE = 0.05  # of the same for int8, whose kernels round differently from processor to processor
GROUP_BYTES = 64 << 20  # decoded pixels that are run together at most
DECODERS = 4  # threads that read ahead
REPORT_SECONDS = 5.0  # between two lines of progress


class BundleError(Exception):
    """The bundle is incomplete, changed, or not one of ours; the message is one line for people."""


class Bundle:
    """An exported model and its class names, checked before it answers.

    Args:
        folder: the bundle.
        file: "model.onnx" or "model.int8.onnx".
        threads: of one operation; 0: one a core.

    Attributes:
        class_names: K names, in the order of the probabilities.
        class_titles: K names for people.
        metadata: what the model file says of itself.

    Raises:
        BundleError: a file is missing or changed, the labels are not the model's, or the model takes or gives
            something else.
    """

    def __init__(self, folder: Path, file: str = FLOAT_MODEL, threads: int = 0) -> None:
        check_sums(folder, (file, LABELS))
        labels = _read_labels(folder / LABELS)
        self.class_names: list[str] = labels["class_names"]
        self.class_titles: list[str] = labels["class_titles"]
        self.session = open_session(folder / file, threads)
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self._check_contract(folder / file)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (N, K) for uint8 images (N, height, width, 3), RGB in [0, 255], of any size."""
        return np.asarray(self.session.run([PROBABILITIES], {IMAGE: images})[0])

    def predict(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 (N, K) for images of any sizes, each uint8 (height, width, 3); equal sizes run together."""
        found = np.empty((len(images), len(self.class_names)), dtype=np.float32)
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            shapes.setdefault(image.shape, []).append(i)
        for members in shapes.values():
            found[members] = self.probabilities(np.stack([images[i] for i in members]))
        return found

    def _check_contract(self, path: Path) -> None:
        takes = [(one.name, one.type, len(one.shape), one.shape[-1]) for one in self.session.get_inputs()]
        gives = [(one.name, one.type, one.shape[-1]) for one in self.session.get_outputs()]
        answers = [(PROBABILITIES, "tensor(float)")]
        if takes != [(IMAGE, "tensor(uint8)", 4, 3)] or [one[:2] for one in gives] != answers:
            raise BundleError(
                f"{path}: expected image uint8 (N, H, W, 3) to probabilities float32, received {takes} to {gives}"
            )
        inside = json.loads(self.metadata.get("class_names", "null"))
        if inside != self.class_names or gives[0][2] != len(self.class_names):
            raise BundleError(
                f"{path.parent / LABELS}: its {len(self.class_names)} class names are not the model's, which gives "
                f"{gives[0][2]} probabilities; take both from the same bundle"
            )


def open_session(path: Path, threads: int = 0) -> Any:
    """Return an ONNX Runtime session on the CPU.

    Raises:
        BundleError: onnxruntime is missing, or cannot load the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BundleError(f"onnxruntime is missing ({error}); install it: pip install onnxruntime") from error
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, which share no base
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{path}: onnxruntime {onnxruntime.__version__} cannot load it ({reason})") from error


def check_sums(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """Compare files with SHA256SUMS and return the names that were checked.

    Args:
        folder: the bundle.
        names: only these; None: all that are listed.

    Raises:
        BundleError: a file is missing, not listed, or changed.
    """
    path = folder / SUMS
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle: expected {SUMS} in it; make one with `keras-bench export`")
    listed = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    wanted = list(listed if names is None else names)
    for name in wanted:
        file = folder / name
        if name not in listed or not file.is_file() or ".." in Path(name).parts:
            raise BundleError(f"{file} is missing from the bundle; copy the whole folder again")
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != listed[name]:
            raise BundleError(f"{file} was changed or damaged (its sha256 is not the one in {SUMS}); copy it again")
    return wanted


def verify_samples(folder: Path, file: str = FLOAT_MODEL, threads: int = 0) -> float:
    """Run the sample images and return the largest difference from the probabilities they had at export.

    Raises:
        BundleError: as `Bundle`, or a probability is further off than 1e-4 (int8: 0.05).
    """
    check_sums(folder)
    bundle = Bundle(folder, file, threads)
    expected = json.loads((folder / EXPECTED).read_text(encoding="utf-8"))[file]
    found = bundle.predict([decode((folder / name).read_bytes()) for name in expected])
    worst = float(np.abs(found - np.array(list(expected.values()))).max())
    limit = SAMPLE_TOLERANCE if file == FLOAT_MODEL else INT8_TOLERANCE
    if not worst <= limit:
        raise BundleError(f"{folder / file}: sample images are off by {worst:.2g}, more than {limit:g}")
    return worst


def find_images(words: Iterable[str]) -> list[str]:
    """Return image paths for files, folders (searched through), glob patterns, and "-" for paths on standard input.

    A file that was named is kept whatever it is called, and also if it does not exist: reading it will say so.
    """
    found: list[str] = []
    for word in words:
        if word == "-":
            found += [line for line in sys.stdin.read().splitlines() if line.strip()]
        elif Path(word).is_dir():
            below = (path for path in Path(word).rglob("*") if is_image_name(path.name) and path.is_file())
            found += [str(path) for path in sorted(below)]
        elif not Path(word).exists() and glob.has_magic(word):
            found += sorted(name for name in glob.glob(word, recursive=True) if Path(name).is_file())
        else:
            found.append(word)
    return found


def classify(
    bundle: Bundle, paths: Sequence[str], batch_size: int = 32
) -> Iterator[tuple[str, np.ndarray | UnreadableImageError]]:
    """Yield each path in order with its probabilities, float32 (K,), or why it cannot be read."""
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
    """Decode in threads, a few files ahead of the one that is yielded, so that memory stays small."""
    waiting: deque[tuple[str, Future[np.ndarray | UnreadableImageError]]] = deque()
    with ThreadPoolExecutor(DECODERS) as pool:
        for path in paths:
            waiting.append((path, pool.submit(_read, path)))
            if len(waiting) > 2 * DECODERS:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _read(path: str) -> np.ndarray | UnreadableImageError:
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


def top_answers(bundle: Bundle, row: np.ndarray, count: int) -> list[dict[str, Any]]:
    """Return the most probable classes, best first: class, title, probability; equals in the order of the classes."""
    order = np.argsort(-row, kind="stable")[:count]
    return [
        {"class": bundle.class_names[k], "title": bundle.class_titles[k], "probability": float(row[k])} for k in order
    ]


def _printable(text: str) -> str:
    """Return text from files that cannot steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Writer:
    """Writes answers one by one, as a table for people, as CSV or as JSON lines."""

    def __init__(self, kind: str, stream: TextIO, count: int) -> None:
        self.kind, self.stream = kind, stream
        self.rows = csv.writer(stream, lineterminator="\n")
        if kind == "csv":
            columns = (f"{name}_{rank}" for rank in range(1, count + 1) for name in ("class", "title", "probability"))
            self.rows.writerow(["path", *columns])

    def write(self, path: str, answers: list[dict[str, Any]]) -> None:
        if self.kind == "csv":
            self.rows.writerow([path, *(value for answer in answers for value in answer.values())])
        elif self.kind == "jsonl":
            self.stream.write(json.dumps({"path": path, "answers": answers}, ensure_ascii=False) + "\n")
        else:
            texts = (f"{answer['probability']:7.2%}  {_printable(answer['title'])}" for answer in answers)
            self.stream.write(f"{_printable(path)}\n" + "".join(f"  {text}\n" for text in texts))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BundleError(f"{message}; see {self.prog} --help")


def main(words: Sequence[str] | None = None, bundle: Path | None = None, prog: str | None = None) -> int:
    """Classify what the command line names; returns 0, 1 where a file could not be read, or 2 for bad input.

    Args:
        words: the command line; None: the process's own.
        bundle: the bundle; None: the first word names it.
        prog: what the command is called in its help.
    """
    try:
        arguments = _parse(words, bundle, prog)
        folder = bundle or arguments.bundle
        file = INT8_MODEL if arguments.int8 else FLOAT_MODEL
        if arguments.verify:
            worst = verify_samples(folder, file, arguments.threads)
            print(f"{folder}: all sums are right; sample images agree within {worst:.2g}")
            return 0
        return _classify_all(arguments, Bundle(folder, file, arguments.threads))
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
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
    started = last = time.monotonic()
    writer = _Writer(arguments.format, sys.stdout, count)
    for done, (path, row) in enumerate(classify(bundle, paths, arguments.batch_size), start=1):
        if isinstance(row, UnreadableImageError):
            unreadable.append((path, str(row)))
        else:
            writer.write(path, top_answers(bundle, row, count))
        if time.monotonic() - last > REPORT_SECONDS:
            last = time.monotonic()
            print(f"{done:,}/{len(paths):,} images, {done / (last - started):,.0f}/s", file=sys.stderr)
    sys.stdout.flush()
    for path, why in unreadable:
        print(f"unreadable: {_printable(path)}: {_printable(why)}", file=sys.stderr)
    if unreadable:
        print(f"{len(unreadable):,} of {len(paths):,} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def _parse(words: Sequence[str] | None, bundle: Path | None, prog: str | None) -> argparse.Namespace:
    parser = _Parser(prog=prog, description="Classify images. Exit code 1: some could not be read. 2: bad input.")
    if bundle is None:
        parser.add_argument("bundle", type=Path, help="folder that keras-bench export wrote")
    add = parser.add_argument
    add("images", nargs="*", help="files, folders, 'patterns/**/*.jpg', or - for paths on standard input")
    add("--top", type=_positive, default=1, metavar="K", help="answers for each image (default: 1)")
    add("--format", choices=("table", "csv", "jsonl"), default="table", help="default: table")
    add("--batch-size", type=_positive, default=32, metavar="N", help="images run together (default: 32)")
    add("--threads", type=int, default=0, metavar="N", help="of one operation (default: one a core)")
    add("--int8", action="store_true", help="use model.int8.onnx")
    add("--verify", action="store_true", help="check the sums and the sample images, and stop")
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(bundle=Path(__file__).resolve().parent))
