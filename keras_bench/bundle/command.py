"""Classifies images with an exported bundle; needs onnxruntime, NumPy and Pillow, nothing else.

Every bundle carries this file as predict.py, with the image decoder in it: `python predict.py photos/ --top 3`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TextIO

from keras_bench.bundle.classify import Answer, classify, find_images, top_answers
from keras_bench.bundle.model import Bundle, verify_samples
from keras_bench.bundle.onnx_file import LESS_MEMORY
from keras_bench.bundle.sums import FLOAT_MODEL, INT8_MODEL, BundleError, unlisted_files, unlisted_words
from keras_bench.images import HIGHEST_LIMIT, UnreadableImageError
from keras_bench.printable import accept_all_characters, cell_text, printable, printable_json

REPORT_SECONDS = 5.0  # between two progress lines
MAX_THREADS = 1024


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
        print(f"error: {LESS_MEMORY}", file=sys.stderr)
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
    if arguments.null and "-" not in arguments.images:
        raise BundleError("--null: expected - among the images, for paths on standard input; received none")
    paths = find_images(arguments.images, arguments.null)
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
    add("-0", "--null", action="store_true", help="paths on standard input end with NUL, as from find -print0")
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
