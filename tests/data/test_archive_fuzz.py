"""Damaged zips and tars of every kind: the verbs that read them give a UserError and nothing else, or read them."""

import io
import random
import tarfile
import zipfile

import pytest

from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data.sources import guess_source, open_source
from keras_bench.download import cache_folder
from keras_bench.errors import UserError
from tests.mutations import mutated

FILES = {
    "photos/labels.csv": b"path,label\ncat/1.png,cat\ncat/2.png,cat\ndog/1.png,dog\ndog/2.png,dog\n",
    "photos/cat/1.png": bytes(range(256)) * 3,
    "photos/cat/2.png": b"\x89PNG" + bytes(200),
    "photos/dog/1.png": b"woof" * 99,
    "photos/dog/2.png": b"",
}
METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


def zipped(method):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", METHODS[method]) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(mode):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{mode}") as archive:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize("kind", [*METHODS, "", "gz", "bz2", "xz"])
def test_a_damaged_archive_is_read_or_refused_in_one_line(kind, tmp_path):
    original = zipped(kind) if kind in METHODS else tarred(kind)
    draw = random.Random(kind)
    archive = tmp_path / "a.zip"
    before = {path for path in tmp_path.rglob("*") if cache_folder() not in (path, *path.parents)} | {archive}
    refusals = []
    for _ in range(150):
        archive.write_bytes(mutated(original, draw))
        for source in ("folder", "csv", "tiny-imagenet"):
            try:
                guess_source(archive)
                open_source(DatasetConfig(source=source), archive, Log())
            except UserError as error:
                refusals.append(str(error))
    assert len(refusals) > 150  # tiny-imagenet's layout alone is refused 150 times
    assert not [message for message in refusals if "\n" in message]
    assert not list((cache_folder() / "extracted").glob("*.part"))
    assert {path for path in tmp_path.rglob("*") if cache_folder() not in (path, *path.parents)} == before
