"""The files of a bundle, and the checksums that show whether they are as they were made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from keras_bench.printable import printable

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
_SUM = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


class BundleError(Exception):
    """The bundle is incomplete, changed, or not made by keras-bench; the message is one line for the user."""


class ChangedBundleError(BundleError):
    """A bundle is no longer as it was made: a file is missing or changed, or the model predicts something else."""


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
        with readable(file), file.open("rb") as stream:
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
    with readable(path):
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
def readable(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file into a BundleError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: expected UTF-8 text; copy the bundle again") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error
