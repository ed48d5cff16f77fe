"""The scores of every class as a table for the terminal and the log."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from keras_bench.evaluation.records import ClassScores
from keras_bench.printable import printable


def class_table(scores: Iterable[ClassScores], titles: list[str], heading: str) -> Table:
    """Return a table of precision, recall, F1 and support, one row per class.

    Args:
        scores: one per class.
        titles: class names for people, in the same order.
        heading: title of the table.
    """
    table = Table(title=Text(heading))
    table.add_column("class")
    for name in ("precision", "recall", "F1", "images"):
        table.add_column(name, justify="right")
    for row, title in zip(scores, titles, strict=True):
        table.add_row(
            Text(printable(title)), f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}", str(row.support)
        )
    return table
