"""Logs for tests that ask what was said."""

from keras_bench.console import Log


class WarningsLog(Log):
    """A log that remembers its warnings instead of printing them."""

    def __init__(self) -> None:
        super().__init__()
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)
