"""Reads the files of a run folder, whichever version wrote them.

A field that an earlier version did not write takes its default, so every field added to a record needs one; an
unknown field is ignored. If a file still cannot be read, the error names it in one line.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from keras_bench import __version__
from keras_bench.errors import DamagedFileError, UserError, one_line
from keras_bench.files import DIGEST, content_digest

if TYPE_CHECKING:
    import numpy as np

Record = TypeVar("Record")

REBUILD_REMEDY = ", or remove the file to have it rebuilt"


@cache
def _type_adapter(record_type: type[Record]) -> TypeAdapter[Record]:
    return TypeAdapter(record_type)


def record_of(record_type: type[Record], tree: object) -> Record:
    """Build a record, a frozen dataclass, from plain values.

    Args:
        record_type: the dataclass; nested records, tuples and numeric keys are built from their JSON equivalents.
        tree: plain values by field name.

    Raises:
        ValueError: a field without a default is missing, or a value is of another type; the message names the field.
    """
    try:
        return _type_adapter(record_type).validate_python(tree)  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ValueError(f"{field}: {first['msg']}" if field else first["msg"]) from error


def read_record(path: Path, parse: Callable[[dict[str, Any]], Record]) -> Record:
    """Read a JSON file as a record.

    Args:
        path: the file.
        parse: builds the record from the file's keys and values.

    Raises:
        DamagedFileError: the file is missing or damaged, or lacks a field that every version wrote.
    """
    tree: object = None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError(f"expected keys and values, received {type(tree).__name__}")
        recorded = tree.pop(DIGEST, None)  # earlier versions wrote none
        if recorded not in (None, content_digest(tree)):
            raise ValueError("its content has changed since it was written")
        return parse(tree)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except KeyError as error:
        raise unreadable(path, f"{error.args[0]}: missing", _writer_version(tree)) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise unreadable(path, error, _writer_version(tree)) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the keys and values of a JSON file.

    Raises:
        DamagedFileError: the file is missing or damaged.
    """
    return read_record(path, dict)


def read_intact(path: Path, parse: Callable[[dict[str, Any]], Record]) -> Record | None:
    """Read a JSON file as a record, like `read_record`, but return None if it is missing or damaged."""
    try:
        return read_record(path, parse)
    except DamagedFileError:
        return None


def has_other_content(path: Path) -> bool:
    """Return whether a JSON file can be parsed, but no longer has the content of which it holds the digest."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    recorded = tree.pop(DIGEST, None) if isinstance(tree, dict) else None
    return recorded is not None and recorded != content_digest(tree)


def is_intact(path: Path, read: Callable[[Path], object]) -> bool:
    """Return whether a function can read a file, which raises a DamagedFileError if it is missing or damaged."""
    try:
        read(path)
    except DamagedFileError:
        return False
    return True


@contextmanager
def arrays_of(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Yield the arrays of an .npz file by name.

    Raises:
        DamagedFileError: the file is missing or damaged, or lacks an array that the block reads.
    """
    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            yield arrays
    except FileNotFoundError as error:
        raise _missing(path) from error
    except KeyError as error:
        raise unreadable(path, str(error.args[0]), None) from error
    except (
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise unreadable(path, error, None) from error


def _writer_version(tree: object) -> str | None:
    """Return the version of keras-bench that wrote a file, if the file states it."""
    for key in ("environment", "packages", "keras-bench"):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return str(tree) if tree else None


def _missing(path: Path) -> DamagedFileError:
    """Return the error of a file that is not there."""
    return DamagedFileError(
        f"{path} cannot be read: it is missing; restore it from a copy, or repeat the command that made it"
    )


def unreadable(path: Path, reason: Exception | str, writer: str | None) -> DamagedFileError:
    """Return the error of a file that cannot be read: which, why, the version that wrote it if known, and a remedy."""
    versions = f"it was written by {writer}, this is {__version__}" if writer else f"this is {__version__}"
    return DamagedFileError(
        f"{path} cannot be read ({one_line(reason, limit=None)}): it is damaged, or from another version of "
        f"keras-bench ({versions}); use the version that wrote it{REBUILD_REMEDY}"
    )


def refused(path: Path, error: OSError) -> UserError:
    """Return the error of a file that the system does not let us read: it may be intact, so it is not rebuilt."""
    return UserError(f"{path} cannot be read: {error.strerror or error}; check its permissions and the disk")
