"""The paths of files in a sweep's folder."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from keras_bench.console import Log
from keras_bench.locks import lock_folder, refuse_if_locked


class SweepDir:
    """The results of a sweep, in `runs/sweeps/<name>/`; its runs are in the folder of their experiment.

    Args:
        root: that folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    results = property(lambda self: self.root / "results.csv")
    page = property(lambda self: self.root / "index.html")
    figures = property(lambda self: self.root / "figures")
    trials = property(lambda self: self.root / "trials.sqlite")

    def lock_results(self, log: Log) -> AbstractContextManager[None]:
        """Lock table, page and figures, which are written together, waiting for a process that is writing them."""
        return lock_folder(self.root, self.root / ".results.lock", f"writing the table of {self.root}", log)

    @contextmanager
    def lock_search(self) -> Iterator[None]:
        """Lock the trials of a search for this process.

        Raises:
            UserError: another process is running the same search.
        """
        remedy = "wait for it, or give this search another name or --out"
        with refuse_if_locked(self.root / ".search.lock", f"{self.root} is in use by another process; {remedy}"):
            yield


def sweep_folder(out: Path, name: str) -> SweepDir:
    """Return `runs/sweeps/<name>`."""
    return SweepDir(out / "sweeps" / name)
