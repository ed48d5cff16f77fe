"""The commit points of a command, where a file gets its name or a row its place, and traps that kill it there.

A trap sits in the process of the command: the functions that commit are replaced by ones that first look whether the
process is to die there, so the program itself knows nothing of it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MOMENTS = ("before", "half", "after")  # half: what was to be committed is only half there
CHUNK_BYTES = 16_384  # of a download, far smaller than in the program, so that there are several
WORKER_SECONDS = 1.5  # "half" of a latency worker

# Stage by the path that is committed, relative to the command's folder; the first match counts.
STAGES = (
    (r"^(cache/downloads|keras)/", "download"),
    (r"^cache/extracted/", "archive"),
    (r"^cache/decoded/.*\.pixels$", "decoded pixels"),
    (r"^cache/decoded/", "decoded table"),
    (r"^cache/features/.*\.part\.json$", "feature progress"),
    (r"^cache/features/.*\.npy$", "feature array"),
    (r"^cache/features/", "feature facts"),
    (r"/audit\.json$", "audit"),
    (r"/config\.yaml$", "config"),
    (r"/environment\.json$", "environment"),
    (r"/dataset\.json$", "dataset"),
    (r"/splits\.csv$", "splits"),
    (r"/state/epoch\d+\.keras$", "state model"),
    (r"/state/epoch\d+\.best\.weights\.h5$", "state weights"),
    (r"/state/epoch\d+\.json$", "state JSON"),
    (r"/history\.csv row \d+$", "history row"),
    (r"/history\.csv$", "history cut"),
    (r"/(best|tail)\.weights\.h5$", "best weights"),
    (r"/predictions-\w+\.npz$", "predictions"),
    (r"/model\.keras$", "model"),
    (r"/result\.json$", "result"),
    (r"/sample_predictions\.\w+$", "sample figure"),
    (r"/run\.json$", "run"),
    (r"/thumbnails/files\.json$", "record of images"),
    (r"/thumbnails/", "thumbnail"),
    (r"/cost\.json$", "cost"),
    (r"/explained\.json$", "explained images"),
    (r"/explanations\.npz$", "explanations"),
    (r"/checks\.json$", "explanation checks"),
    (r"/export\.json$", "export"),
    (r"/latency\.json$", "latency"),
    (r"/timing\.json$", "timing"),
    (r"^runs/[^/]+/results\.csv$", "report table"),
    (r"/classes\.csv$", "class table"),
    (r"/MODEL_CARD\.md$", "model card"),
    (r"/figures/", "report figure"),
    (r"/index\.html$", "report page"),
    (r"/summary\.txt$", "report summary"),
    (r"/comparison\.json$", "record of the report"),
    (r"^exports/.*\.before-", "earlier bundle aside"),
    (r"^exports/.*/verification\.json$", "bundle's verification"),
    (r"^exports/", "bundle"),
)


@dataclass(frozen=True)
class Point:
    """A commit point.

    Attributes:
        stage: what is committed.
        name: the path, relative to the command's folder, without the random part of a temporary name.
    """

    stage: str
    name: str


def point_of(path: str | os.PathLike[str], suffix: str = "") -> Point:
    """Return the commit point of a path, which may be relative to the current folder."""
    name = os.path.relpath(os.fspath(path)).replace(os.sep, "/")
    name = re.sub(r"\.(writing|before)-[0-9a-f]{16}-", r".\1-", re.sub(r"\.[0-9a-f]{32}\.part", ".part", name)) + suffix
    return Point(next((stage for pattern, stage in STAGES if re.search(pattern, name)), "other"), name)


class Trap:
    """Kills this process at one commit point, or records all of them.

    Args:
        target: where to die; None: nowhere. A target without a name stands for the first point of its stage.
        moment: one of `MOMENTS`.
        record: file that takes a line per point; None: none.
    """

    def __init__(self, target: Point | None = None, moment: str = "before", record: Path | None = None) -> None:
        self.target, self.moment, self.record = target, moment, record

    def commit(self, point: Point, do: Callable[[], object], do_half: Callable[[], object]) -> object:
        """Commit, unless the process is to die before, halfway or after."""
        if self.record is not None:
            with open(self.record, "a") as stream:
                stream.write(f"{point.stage}\t{point.name}\n")
        if self.target is None or point.stage != self.target.stage or self.target.name not in ("", point.name):
            return do()
        if self.moment == "after":
            do()
        elif self.moment == "half":
            do_half()
        die()
        return None

    def install(self) -> None:
        """Replace the functions that commit."""
        self._replace_moves()
        self._replace_removals()
        self._replace_appends()
        self._replace_downloads()
        self._replace_workers()
        from keras_bench.training import feature_store

        feature_store.SAVE_SECONDS = 0.0  # so that passes of a second are saved on the way

    def _replace_moves(self) -> None:
        move = os.replace

        def replace(source, target, **options):
            if not os.path.lexists(source):  # an earlier bundle that may not be there: nothing happens
                return move(source, target, **options)
            return self.commit(point_of(target), lambda: move(source, target, **options), lambda: halve(Path(source)))

        os.replace = replace

    def _replace_removals(self) -> None:
        rmtree, unlink = shutil.rmtree, os.unlink

        def remove_folder(path, *arguments, **options):
            def do():
                return rmtree(path, *arguments, **options)

            name = point_of(path).name
            if name.startswith("..") or not Path(path).is_dir():  # temporary folders of other packages
                return do()
            return self.commit(Point(f"removal of {_kind(Path(path).name)}", name), do, lambda: halve(Path(path)))

        def remove_file(path, *arguments, **options):
            def do():
                return unlink(path, *arguments, **options)

            if options or not re.match(r"epoch\d+\.", os.path.basename(os.fspath(path))):
                return do()
            return self.commit(Point("removal of older state", point_of(path).name), do, lambda: None)

        shutil.rmtree, os.unlink = remove_folder, remove_file

    def _replace_appends(self) -> None:
        from keras_bench.runs import history

        append = history.append_frame

        def append_frame(path, frame, columns):
            size = path.stat().st_size if path.is_file() else 0

            def do_half():
                append(path, frame, columns)
                os.truncate(path, (size + path.stat().st_size) // 2)

            row = int(frame["epoch"].iloc[0])
            return self.commit(point_of(path, f" row {row}"), lambda: append(path, frame, columns), do_half)

        history.append_frame = append_frame

    def _replace_downloads(self) -> None:
        import requests

        from keras_bench import download

        download.DOWNLOAD_CHUNK_BYTES = CHUNK_BYTES
        iter_content = requests.Response.iter_content

        def chunks(response, size):
            start = int((response.request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            for chunk in iter_content(response, size):
                point = Point("download chunk", f"{Path(response.url).name} at {start}")
                yield from self._chunk(point, chunk)
                start += len(chunk)

        requests.Response.iter_content = chunks

    def _chunk(self, point: Point, chunk: bytes) -> Iterator[bytes]:
        """Yield one chunk of a download, or part of it and die when the next is asked for."""
        given: list[bytes] = []
        is_alive = self.target is None or point != self.target
        if is_alive or self.moment != "before":
            yield chunk[: len(chunk) // 2] if not is_alive and self.moment == "half" else chunk
        self.commit(point, lambda: given, lambda: given)

    def _replace_workers(self) -> None:
        from keras_bench.cost import latency

        run_child = latency.run_child

        def run(command, capture=False):
            def do():
                return run_child(command, capture)

            def do_half():
                threading.Timer(WORKER_SECONDS, die).start()
                do()

            call = command[command.index("--call") + 1]
            return self.commit(Point("latency worker", f"{Path(command[3]).name} {call}"), do, do_half)

        latency.run_child = run


def die() -> None:
    """Kill this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _kind(name: str) -> str:
    """Return what a removed folder is."""
    kinds = {"state": "state", ".before": "earlier bundle", ".writing": "unfinished bundle"}
    return kinds.get(name.partition("-")[0], "folder")


def halve(path: Path) -> None:
    """Leave the first half of a file's bytes or of a folder's files.

    A file with a second name keeps its bytes: no writer is halfway through it.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        for file in files[len(files) // 2 :]:
            file.unlink()
    elif path.is_file() and path.stat().st_nlink == 1:
        os.truncate(path, path.stat().st_size // 2)
