"""What a person reads: lines on the screen and in run.log, tables, and progress of long work."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_SECONDS = 10  # off a terminal, a long step says how far it is this often


class Log:
    """Prints lines and, once a run folder is known, keeps them in its run.log with the time of day.

    Args:
        console: where to print; by default standard output, with styles only on a terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.path: Path | None = None
        self.spent: dict[str, float] = {}  # seconds by part of the work

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print one line as it is: names from data are never read as markup."""
        self.console.print(text, style=style, markup=False, emoji=False)
        self._keep(text)

    def warn(self, text: str) -> None:
        """Print one line that starts with "warning:"."""
        self.line(f"warning: {text}", style="yellow")

    def table(self, table: Table) -> None:
        """Print a rich table at its full width, so that a piped table is not cut to 80 columns."""
        plain = table_text(table)
        fits = self.console.is_terminal and max(map(len, plain.splitlines())) <= self.console.width
        if fits:
            self.console.print(table)
        else:
            self.console.print(plain, markup=False, emoji=False)
        self._keep(plain)

    def keep(self, table: Table) -> None:
        """Write a table to run.log only."""
        self._keep(table_text(table))

    @contextmanager
    def progress(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Show how far a long step is; yields a function to call with the number of units just finished."""
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
        last = time.monotonic()
        finished = done
        first: tuple[float, int] | None = None  # it also starts whatever works, so it says nothing about the others

        def advance(count: int) -> None:
            nonlocal finished, last, first
            finished += count
            now = time.monotonic()
            begun, before = first = first or (now, finished)
            if now - last >= PLAIN_SECONDS:
                last = now
                left = (now - begun) / max(1, finished - before) * (total - finished)
                time_left = f", {duration(left)} left" if finished > before else ""
                self.line(f"{title}: {finished:,}/{total:,} {unit}{time_left}")

        yield advance

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time this takes to a part of the work, less what goes to other parts meanwhile."""
        started, before = time.monotonic(), sum(self.spent.values())
        try:
            yield
        finally:
            elsewhere = sum(self.spent.values()) - before
            self.spend(part, time.monotonic() - started - elsewhere)

    def spend(self, part: str, seconds: float) -> None:
        """Add seconds to a part of the work."""
        self.spent[part] = self.spent.get(part, 0.0) + seconds

    def _keep(self, text: str) -> None:
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as stream:
                for part in text.splitlines() or [""]:
                    stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {part}".rstrip() + "\n")


def table_text(table: Table) -> str:
    """Return a rich table as plain text at its full width."""
    wide = Console(width=240, record=True, file=io.StringIO(), highlight=False)
    wide.print(table)
    return wide.export_text().rstrip("\n")


def duration(seconds: float) -> str:
    """Return a time span for people: 4.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
