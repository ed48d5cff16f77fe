"""Ratios of two measurements: printed, and recorded in benchmarks/results/ with hardware and versions."""

import csv
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_bench.environment import describe_environment

FOLDER = Path(__file__).parent / "results"
COLUMNS = ("measure", "model", "image_size", "round", "ours", "plain", "ratio", "note")
PROVENANCE = ("cpu", "cores", "tensorflow", "keras", "onnxruntime", "commit", "time")


@dataclass(frozen=True)
class Ratio:
    """One measurement of keras-bench and of plain Keras in one round.

    Attributes:
        measure: what was measured, with its unit.
        model: backbone.
        image_size: side of the input in pixels.
        round: number of the repetition, from 1.
        ours: the figure of keras-bench.
        plain: the figure of plain Keras.
        more_is_better: true for a rate such as images/s, false for seconds or memory.
        note: a remark for the reader, e.g. "extrapolated".
    """

    measure: str
    model: str
    image_size: int
    round: int
    ours: float
    plain: float
    more_is_better: bool
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times better keras-bench is; below 1 if it is worse."""
        return self.ours / self.plain if self.more_is_better else self.plain / self.ours

    def __str__(self) -> str:
        numbers = f"ours {self.ours:,.4g}, plain Keras {self.plain:,.4g}: {self.ratio:.2f} times better"
        return f"{self.model} at {self.image_size}, {self.measure}: {numbers}{f' ({self.note})' if self.note else ''}"


def keep(rows: Iterable[Ratio], name: str) -> None:
    """Append ratios to benchmarks/results/NAME.csv."""
    columns = provenance()
    for row in rows:
        figures = (f"{value:.5g}" for value in (row.ours, row.plain, row.ratio))
        measured = (row.measure, row.model, row.image_size, row.round, *figures, row.note)
        append(name, (*COLUMNS, *PROVENANCE), (*measured, *columns))


def provenance() -> tuple[object, ...]:
    """Return this machine's and this checkout's values of the columns `PROVENANCE`."""
    environment = describe_environment([])
    packages = environment["packages"]
    versions = (packages["tensorflow"], packages["keras"], packages["onnxruntime"])
    return (environment["cpu"], environment["cores"], *versions, environment["commit"], environment["time"])


def append(name: str, columns: Sequence[str], row: Sequence[object]) -> None:
    """Append one row to benchmarks/results/NAME.csv, with a header line first if the file is new."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.csv"
    is_new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([columns, row] if is_new else [row])


def summarise(rows: list[Ratio]) -> None:
    """Print the median ratio of each measure with its spread."""
    for key in dict.fromkeys((row.measure, row.model, row.image_size) for row in rows):
        ratios = sorted(row.ratio for row in rows if (row.measure, row.model, row.image_size) == key)
        spread = f" ({ratios[0]:.2f} to {ratios[-1]:.2f})" if len(ratios) > 1 else " (one round)"
        measure, model, image_size = key
        print(f"{model} at {image_size}, {measure}: {statistics.median(ratios):.2f}{spread}")
