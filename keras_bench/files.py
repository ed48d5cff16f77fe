"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; the file gets its final name if the block succeeds.

    The temporary name keeps the full suffix, because Keras chooses the format by it. It is random rather than the
    process id: two containers that share a folder may both be process 1.
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
    """Make `source` available as `target`: a hard link, which takes no space, or else a copy, whole or not at all.

    Only for files that are replaced, never modified: a link shares its content.
    """
    with replacing(target) as temporary:
        temporary.unlink(missing_ok=True)  # os.link needs a name that is free
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


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write an indented JSON file whole or not at all; NaN raises ValueError, since JSON has no NaN."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def save_figure(figure: Figure, path: Path) -> None:
    """Save a matplotlib Figure as PNG and SVG, each whole or not at all; `path` has no suffix."""
    for suffix in (".png", ".svg"):
        with replacing(path.with_name(path.name + suffix)) as temporary:
            figure.savefig(temporary, dpi=130)
        figure.set_layout_engine("none")  # reuses the first drawing's layout; computing it again doubles the time
