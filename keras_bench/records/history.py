"""history.csv: one row an epoch, written while training runs."""

import csv
from pathlib import Path

HISTORY_COLUMNS = (
    "epoch", "seconds", "train_seconds", "learning_rate", "loss", "cross_entropy", "top1", "top5",
    "val_loss", "val_cross_entropy", "val_top1", "val_top5",
)  # fmt: skip


def read_history(path: Path) -> list[dict[str, float]]:
    """Return history.csv as one mapping of numbers an epoch; metrics that were not measured are left out."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]
