"""Finds, reads and classifies image files, a batch at a time."""

from __future__ import annotations

import glob
import io
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

import numpy as np

from keras_bench.bundle.model import Bundle
from keras_bench.bundle.sums import BundleError
from keras_bench.images import UnreadableImageError, decode, is_image_name

GROUP_BYTES = 64 << 20  # most decoded bytes in one batch
DECODERS = 4  # threads that read ahead
Answer = TypedDict("Answer", {"class": str, "title": str, "probability": float})


def find_images(arguments: Iterable[str], null: bool = False) -> list[str]:
    """Return image paths for files, folders (recursively), glob patterns, and "-" for paths on standard input.

    A file named explicitly is kept whatever its extension, even if it does not exist: reading it reports that.

    Args:
        arguments: as on the command line.
        null: whether paths on standard input end with a NUL character instead of a newline.

    Raises:
        BundleError: standard input is closed, or holds NUL characters although its paths end with newlines.
    """
    paths: list[str] = []
    for argument in arguments:
        if argument == "-":
            paths += _paths_on_stdin(null)
        elif os.path.isdir(argument):  # unlike Path.is_dir, without an error if the name is too long
            images = (path for path in Path(argument).rglob("*") if is_image_name(path.name) and path.is_file())
            paths += [str(path) for path in sorted(images)]
        elif not os.path.exists(argument) and glob.has_magic(argument):
            paths += sorted(name for name in glob.glob(argument, recursive=True) if Path(name).is_file())
        else:
            paths.append(argument)
    return paths


def _paths_on_stdin(null: bool) -> list[str]:
    if sys.stdin is None:
        raise BundleError("- names standard input, which is closed")
    if null:
        return [os.fsdecode(name) for name in sys.stdin.buffer.read().split(b"\0") if name]
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # as Python reads file names that are not UTF-8
    text = sys.stdin.read()
    if "\0" in text:
        raise BundleError(
            "standard input: expected one path per line, received NUL characters; give --null if they end the paths"
        )
    return [line for line in text.split("\n") if line.strip()]


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


def top_answers(bundle: Bundle, row: np.ndarray, count: int) -> list[Answer]:
    """Return the most probable classes, best first: class, title, probability; ties keep the order of the classes."""
    order = np.argsort(-row, kind="stable")[:count]
    return [
        {"class": bundle.class_names[k], "title": bundle.class_titles[k], "probability": float(row[k])} for k in order
    ]
