"""Files that appear whole or not at all."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file name beside `path` to write to; the file takes its final name when the block ends well.

    The temporary name keeps the full suffix, because Keras chooses its format by it. It is drawn at random: two
    containers that share a folder may both be process 1.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{uuid.uuid4().hex[:16]}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that is only ever replaced, never written to, a second name, whole or not at all.

    A hard link, which takes no room, or a copy where the file system has none.
    """
    with replacing(target) as temporary:
        temporary.unlink(missing_ok=True)  # left by a process of the same number: a copy would write into it
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an indented JSON file whole or not at all; NaN is refused, since it is not JSON."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def save_figure(figure: Any, path: Path) -> None:
    """Save a matplotlib Figure as PNG and as SVG under a path without suffix, each whole or not at all."""
    for suffix in (".png", ".svg"):
        with replacing(path.with_name(path.name + suffix)) as temporary:
            figure.savefig(temporary, dpi=130)
        figure.set_layout_engine("none")  # keeps the layout found in the first drawing: finding it takes as long again
