"""Logs for tests that ask what was said."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from keras_bench.console import Log

Advance = Callable[[int], None]


class WarningsLog(Log):
    """A log that remembers its warnings instead of printing them."""

    def __init__(self) -> None:
        super().__init__()
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)


class InterruptedLog(WarningsLog):
    """Presses Ctrl-C when a certain epoch begins; None: never."""

    def __init__(self, epoch: int | None = None) -> None:
        super().__init__()
        self.epoch = epoch

    def progress(self, title: str, total: int, unit: str, done: int = 0) -> AbstractContextManager[Advance]:
        if self.epoch is not None and f"epoch {self.epoch}/" in title:
            raise KeyboardInterrupt
        return super().progress(title, total, unit, done)
