"""history.csv: one row per epoch, written while training runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keras_bench.frames import append_frame, frame_csv, frame_of, read_frame, write_frame

if TYPE_CHECKING:
    import pandas as pd

HISTORY_COLUMNS = (
    "epoch", "seconds", "train_seconds", "learning_rate", "loss", "cross_entropy", "top1", "top5",
    "val_loss", "val_cross_entropy", "val_top1", "val_top5",
    "balanced_cross_entropy", "balanced_accuracy", "val_balanced_cross_entropy", "val_balanced_accuracy",
)  # fmt: skip


def append_history(path: Path, row: Mapping[str, object]) -> None:
    """Append the row of one epoch; a file that an earlier version began keeps its columns.

    Args:
        path: the file, created if it does not exist.
        row: value by column; the cell of a missing column stays empty.
    """
    append_frame(path, frame_of([row]), HISTORY_COLUMNS)


def read_history(path: Path) -> pd.DataFrame:
    """Return history.csv, one row per epoch, all columns float64; NaN marks a value that was not measured.

    Raises:
        UserError: the file is damaged.
    """
    return read_frame(path, float, required=["epoch"])


def best_row(history: pd.DataFrame, monitor: str, mode: str) -> pd.Series:
    """Return the row of the best epoch, the first among equals, as Keras's ModelCheckpoint keeps it.

    Args:
        history: from `read_history`, at least one row.
        monitor: the column to compare.
        mode: "max" or "min", whichever value of that column is best.
    """
    values = history[monitor]
    return history.loc[values.idxmax() if mode == "max" else values.idxmin()]


def drop_later_epochs(path: Path, epochs: int) -> None:
    """Cut history.csv back to its first epochs, which also removes a last line that a crash cut short."""
    rows = read_frame(path, str)  # as text, so that no digit changes
    if len(rows) > epochs:
        write_frame(path, rows.head(epochs))


def history_digest(path: Path, epochs: int) -> str:
    """Return the SHA-256 digest of the first rows of history.csv, whatever ends its lines.

    Raises:
        UserError: the file is damaged.
    """
    return hashlib.sha256(frame_csv(read_frame(path, str).head(epochs)).encode()).hexdigest()
