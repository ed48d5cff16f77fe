"""Files and folders that appear whole or not at all, and what killed processes left of them.

What is being written has a temporary name beside its final one, `.writing-<random>-<name>`; a folder that is being
replaced is called `.before-<random>-<name>` for a moment. `sweep` removes those that a killed process left behind.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from keras_bench.disk import writing
from keras_bench.printable import printable_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WRITING, BEFORE = ".writing-", ".before-"
# Earlier versions used the process id, or for the best weights nothing at all, instead of 16 random digits.
_TEMPORARY = re.compile(r"\.(?:writing|before)-(?:[0-9a-f]{16}-|[0-9]+-)?(.+)")
DIGEST = "sha256"  # the key of a record's own digest


@contextmanager
def replacing(path: Path, needed: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; the file gets its final name if the block succeeds.

    The temporary name keeps the full suffix, because Keras chooses the format by it. It is random rather than the
    process id: two containers that share a folder may both be process 1.

    Args:
        path: the file.
        needed: its size in bytes, for the message where the disk is full; None if unknown.

    Raises:
        DiskFullError: there is no space for it.
    """
    with writing(path, needed):  # which says what is free once the unfinished file is removed
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path, WRITING)
        try:
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path, keep: Callable[[], Path | None] = lambda: None) -> Iterator[Path]:
    """Yield a new temporary folder, which gets its final name, in place of an earlier folder, if the block succeeds.

    The caller holds the lock under which this folder is written, so that `sweep` can restore the earlier folder if
    the process is killed between the two renamings.

    Args:
        folder: the folder.
        keep: called once the new folder is complete; returns where to move the earlier one, None to remove it.

    Raises:
        DiskFullError: there is no space for it.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(folder, WRITING)
        temporary.mkdir()
        try:
            yield temporary
            kept = keep()
            earlier = kept or _temporary(folder, BEFORE)
            with suppress(FileNotFoundError):  # there is no earlier one
                os.replace(folder, earlier)
            os.replace(temporary, folder)
            if kept is None:
                shutil.rmtree(earlier, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path, prefix: str) -> Path:
    return path.with_name(f"{prefix}{uuid.uuid4().hex[:16]}-{path.name}")


def final_name(path: Path) -> str | None:
    """Return the name that an unfinished file or folder would have got; None for any other path."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is not None:
        return match[1]
    # Folders in the cache, by an earlier version; a file of this name is a download that resumes.
    return path.stem if path.suffix == ".part" and path.is_dir() else None


def sweep(folder: Path, is_covered: Callable[[str], bool], recursive: bool = False) -> None:
    """Remove what killed processes left unfinished in a folder, and restore a folder that they had put aside.

    The caller holds the lock under which the covered names are written, so whatever is unfinished among them belongs to
    no living process.

    Args:
        folder: the folder, which need not exist.
        is_covered: whether the lock covers a final name, e.g. "result.json".
        recursive: whether it covers the folders below as well.
    """
    for parent, folders, files in os.walk(folder):
        paths = [Path(parent, name) for name in [*files, *folders]]
        folders[:] = [name for name in folders if recursive and final_name(Path(parent, name)) is None]
        for path in paths:
            name = final_name(path)
            if name is not None and is_covered(name):
                _remove_or_restore(path, path.with_name(name))


def _remove_or_restore(path: Path, final: Path) -> None:
    if path.name.startswith(BEFORE) and not final.exists():
        os.replace(path, final)
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
    with replacing(path, len(content)) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write an indented JSON file whole or not at all; NaN raises ValueError, since JSON has no NaN."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, printable_json(text) + "\n")


def write_record(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file that also holds the digest of its content, by which `read_record` recognises damage."""
    tree = json.loads(json.dumps(content, allow_nan=False))  # as it will be read back
    write_json(path, {**tree, DIGEST: content_digest(tree)})


def content_digest(tree: Mapping[str, object]) -> str:
    """Return the SHA-256 digest of a JSON file's keys and values, whatever their order and layout."""
    text = json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def save_figure(figure: Figure, path: Path) -> None:
    """Save a matplotlib Figure as PNG and SVG, each whole or not at all; `path` has no suffix."""
    for kind in ("png", "svg"):
        stream = io.BytesIO()  # Pillow does not say why a write to the disk failed
        figure.savefig(stream, format=kind, dpi=130)
        write_bytes(path.with_name(f"{path.name}.{kind}"), stream.getvalue())
        figure.set_layout_engine("none")  # reuses the first drawing's layout; computing it again doubles the time
