"""Output for people: lines on the screen and in run.log, tables, and the progress of long operations."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from keras_bench.disk import writing
from keras_bench.errors import RunError
from keras_bench.printable import printable
from keras_bench.watchdog import Watchdog, stall_seconds

PLAIN_SECONDS = 10  # between two progress lines where the output is not a terminal


class Log:
    """Prints lines and, once `path` is set, also appends them to that run.log with date and time.

    Args:
        console: where to print; by default standard output, with styles only on a terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.path: Path | None = None
        self.spent: dict[str, float] = {}  # seconds by activity

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print one line: names from data are never interpreted as markup, and control nothing."""
        text = printable(text)
        self.console.print(text, style=style, markup=False, emoji=False)
        self._append_to_file(text)

    def lines(self, text: str) -> None:
        """Print a text of several lines; names in it cannot hold newlines, since they were escaped before."""
        for line in text.split("\n"):
            self.line(line)

    def warn(self, text: str) -> None:
        """Print one line that starts with "warning:"."""
        self.line(f"warning: {text}", style="yellow")

    def table(self, table: Table) -> None:
        """Print a rich table at its full width: a piped table is not cut to 80 columns."""
        plain = table_text(table)  # makes the table printable too
        fits = self.console.is_terminal and max(map(len, plain.splitlines())) <= self.console.width
        if fits:
            self.console.print(table)
        else:
            self.console.print(plain, markup=False, emoji=False)
        self._append_to_file(plain)

    def keep(self, table: Table) -> None:
        """Write a table to run.log only."""
        self._append_to_file(table_text(table))

    @contextmanager
    def progress(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Show the progress of a long operation, and warn when it stands still.

        Yields a function that takes the number of units just finished; 0 is only a sign of life.
        """

        def warn(seconds: float) -> None:
            with suppress(OSError, RunError):  # it is on the screen; where run.log has no space, watching goes on
                self.warn(
                    f"{title}: no {_singular(unit)} has finished for {duration(seconds)}; "
                    "it goes on by itself if the machine is only busy, else Ctrl-C ends it"
                )

        with Watchdog(stall_seconds(), warn) as watchdog, self._bar(title, total, unit, done) as show:

            def advance(count: int) -> None:
                watchdog.seen()
                if count:
                    show(count)

            yield advance

    @contextmanager
    def _bar(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Show a bar on a terminal, else lines; yields a function that takes the number of units just finished."""
        title = printable(title)
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self.console, transient=True) as bar:
                task = bar.add_task(title, total=total or None, completed=done, unit=unit)
                yield lambda count: bar.advance(task, count)
            return
        last_printed = time.monotonic()
        finished = done
        # Time left is measured from the end of the first call, whose time includes starting up.
        first_call: tuple[float, int] | None = None

        def advance(count: int) -> None:
            nonlocal finished, last_printed, first_call
            finished += count
            now = time.monotonic()
            first_time, first_finished = first_call = first_call or (now, finished)
            if now - last_printed >= PLAIN_SECONDS:
                last_printed = now
                seconds_left = (now - first_time) / max(1, finished - first_finished) * (total - finished)
                time_left = f", {duration(seconds_left)} left" if finished > first_finished else ""
                self.line(f"{title}: {finished:,}/{total:,} {unit}{time_left}")

        yield advance

    @contextmanager
    def timed(self, activity: str) -> Iterator[None]:
        """Add the duration of the block to an activity, less the time credited to nested activities."""
        started, spent_before = time.monotonic(), sum(self.spent.values())
        try:
            yield
        finally:
            nested = sum(self.spent.values()) - spent_before
            self.spend(activity, time.monotonic() - started - nested)

    def spend(self, activity: str, seconds: float) -> None:
        """Add seconds to an activity."""
        self.spent[activity] = self.spent.get(activity, 0.0) + seconds

    def _append_to_file(self, text: str) -> None:
        if self.path is not None:
            with writing(self.path), self.path.open("a", encoding="utf-8") as stream:
                for line in text.split("\n"):
                    stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}".rstrip() + "\n")


def table_text(table: Table) -> str:
    """Return a rich table as plain text at its full width; its cells become printable in place."""
    _make_printable(table)
    wide = Console(width=240, record=True, file=io.StringIO(), highlight=False)
    wide.print(table)
    return wide.export_text().rstrip("\n")


def _make_printable(table: Table) -> None:
    """Escape what names from data could do to a terminal."""
    for column in table.columns:
        column.header = _printable_cell(column.header, newlines=True)  # ours, in several lines
        column.footer = _printable_cell(column.footer, newlines=True)
        column._cells = list(map(_printable_cell, column._cells))
    table.title = table.title and _printable_text(table.title)
    table.caption = table.caption and _printable_text(table.caption)


def _printable_cell(cell: RenderableType, newlines: bool = False) -> RenderableType:
    return _printable_text(cell, newlines) if isinstance(cell, str | Text) else cell


def _printable_text(text: str | Text, newlines: bool = False) -> str | Text:
    if isinstance(text, str):
        return printable(text, newlines)
    escaped = printable(text.plain, newlines)
    return text if escaped == text.plain else Text(escaped)


def _singular(unit: str) -> str:
    """Return "image" for "images", "class" for "classes", "batch" for "batches" and "entry" for "entries"."""
    if unit.endswith("ies"):
        return f"{unit[:-3]}y"
    return unit[:-2] if unit.endswith(("sses", "ches", "shes", "xes")) else unit.removesuffix("s")


def duration(seconds: float) -> str:
    """Return a time span in readable form: 4.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def counted(number: int, units: str) -> str:
    """Return a number with its noun, of which the plural is given: "1 epoch" or "1,200 epochs"."""
    return f"{number:,} {_singular(units) if number == 1 else units}"
