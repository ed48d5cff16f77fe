"""history.csv: one row per epoch, written while training runs."""

import csv
from pathlib import Path

HISTORY_COLUMNS = (
    "epoch", "seconds", "train_seconds", "learning_rate", "loss", "cross_entropy", "top1", "top5",
    "val_loss", "val_cross_entropy", "val_top1", "val_top5",
    "balanced_cross_entropy", "balanced_accuracy", "val_balanced_cross_entropy", "val_balanced_accuracy",
)  # fmt: skip


def append_history(path: Path, row: dict[str, object]) -> None:
    """Add the row of an epoch; a file begun by an earlier version keeps the columns it has.

    Args:
        path: the file; it is begun where it is not there.
        row: value by column; a column that it lacks stays empty.
    """
    columns = list(HISTORY_COLUMNS)
    if is_begun := path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            columns = next(csv.reader(stream))
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        if not is_begun:
            writer.writeheader()
        writer.writerow(row)


def best_row(rows: list[dict[str, float]], monitor: str, mode: str) -> dict[str, float]:
    """Return the row of the best epoch, of equals the first, as Keras's ModelCheckpoint keeps it.

    Args:
        rows: from `read_history`, at least one.
        monitor: the column that decides.
        mode: "max" or "min", which of its values is best.
    """
    sign = 1 if mode == "max" else -1
    return max(rows, key=lambda row: sign * row[monitor])


def read_history(path: Path) -> list[dict[str, float]]:
    """Return history.csv as one mapping of numbers per epoch; metrics that were not measured are left out."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]
