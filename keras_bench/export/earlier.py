"""Finds what has changed in a finished bundle, and keeps what a user put into one that is replaced. No TensorFlow."""

import shlex
from pathlib import Path

from keras_bench.bundle.sums import (
    CARD,
    INT8_MODEL,
    REQUIRED,
    SIGNATURE,
    SUMS,
    BundleError,
    check_sums,
    read_sums,
    unlisted_files,
)
from keras_bench.console import Log


def changed_in_bundle(folder: Path) -> list[Path]:
    """Return the files of a bundle that are missing or not as they were made; SHA256SUMS alone if it is damaged."""
    try:
        listed = read_sums(folder)
    except (BundleError, OSError):
        return [folder / SUMS]
    return [folder / name for name in dict.fromkeys((*REQUIRED, *listed)) if not _is_unchanged(folder, name)]


def _is_unchanged(folder: Path, name: str) -> bool:
    try:
        check_sums(folder, [name])
    except (BundleError, OSError):
        return False
    return True


def place_to_keep(folder: Path) -> Path | None:
    """Return where to keep an earlier bundle that is replaced; None if nothing in it is the user's.

    A user's are files that SHA256SUMS does not list, and a model card that was edited.
    """
    if not folder.is_dir() or not (_unlisted(folder) or _is_card_edited(folder)):
        return None
    names = (f"{folder.name}.replaced{f'-{number}' if number > 1 else ''}" for number in range(1, 1_000_000))
    return next(path for path in map(folder.with_name, names) if not path.exists() and not path.is_symlink())


def _unlisted(folder: Path) -> list[str]:
    try:
        return unlisted_files(folder)
    except (BundleError, OSError):  # SHA256SUMS is damaged
        known = {*REQUIRED, INT8_MODEL, SUMS, SIGNATURE}
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
        return [name for name in names if name not in known and not (name[:7] == "sample/" and name[-4:] == ".png")]


def _is_card_edited(folder: Path) -> bool:
    return (folder / CARD).is_file() and folder / CARD in changed_in_bundle(folder)


def report_replaced(folder: Path, kept: Path | None, was_signed: bool, log: Log) -> None:
    """Say where an earlier bundle is kept, and that its signature does not hold for the new one.

    Args:
        folder: the new bundle.
        kept: the earlier bundle, if it is kept.
        was_signed: whether the earlier bundle was signed.
        log: the screen.
    """
    if kept is not None:
        log.warn(f"the earlier bundle held files that were added or edited, and is kept as {kept}")
    if was_signed:
        command = shlex.join(["keras-bench", "export", str(folder), "--sign"])
        log.warn(f"{folder} is made anew, so its signature is gone; sign it again: {command} PRIVATE_KEY.pem")
