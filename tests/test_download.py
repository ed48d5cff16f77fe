import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from keras_bench import download as files
from keras_bench.console import Log
from keras_bench.download import DownloadError, digest_file, download
from tests.damage import DAMAGE

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; supports ranges except under /plain; breaks the first transfer under /broken off halfway."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        if self.path == "/missing":
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range") and self.path != "/plain":
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        breaks = self.path == "/broken" and len(self.server.requests) == 1
        self.wfile.write(CONTENT[start : 600_000 if breaks else None])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.requests = []
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def address(server, path):
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def test_a_file_is_fetched_verified_and_not_fetched_again(server, tmp_path):
    target = tmp_path / "deep" / "file.bin"
    assert download(address(server, "/file"), target, MD5, Log()) == target
    assert target.read_bytes() == CONTENT
    download(address(server, "/file"), target, MD5, Log())
    assert len(server.requests) == 1
    assert not list(target.parent.glob("*.part"))


def test_sha256_is_recognised_by_its_length(server, tmp_path):
    download(address(server, "/file"), tmp_path / "file", hashlib.sha256(CONTENT).hexdigest(), Log())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_broken_transfer_is_continued_where_it_stopped(server, tmp_path):
    target = tmp_path / "file.bin"
    with pytest.raises(DownloadError, match="broke off|IncompleteRead|Connection broken"):
        download(address(server, "/broken"), target, MD5, Log())
    assert not target.exists()
    have = (tmp_path / "file.bin.part").stat().st_size
    assert 0 < have < len(CONTENT)
    download(address(server, "/broken"), target, MD5, Log())
    assert server.requests[1] == ("/broken", f"bytes={have}-")
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"something else")
    download(address(server, "/plain"), tmp_path / "file.bin", MD5, Log())
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_file_that_is_already_complete_is_only_verified(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    download(address(server, "/file"), tmp_path / "file.bin", MD5, Log())
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(DownloadError, match=f"wrong checksum .*expected md5 {'0' * 32}, received {MD5}"):
        download(address(server, "/file"), tmp_path / "file.bin", "0" * 32, Log())
    assert not (tmp_path / "file.bin").exists()
    assert not (tmp_path / "file.bin.part").exists()


def test_http_errors_and_dead_servers_have_different_messages(server, tmp_path):
    with pytest.raises(DownloadError, match="the server answered 404"):
        download(address(server, "/missing"), tmp_path / "file.bin", MD5, Log())
    with pytest.raises(DownloadError, match="no connection"):
        download("http://127.0.0.1:9/file", tmp_path / "file.bin", MD5, Log())


@pytest.fixture
def reads(monkeypatch):
    """A list that gets an entry per file read to be digested; every file counts as written long before."""
    reads, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *arguments: reads.append(arguments) or digest(*arguments))
    monkeypatch.setattr(files, "TICK_SECONDS", -3600.0)
    return reads


def test_a_file_is_read_once_until_it_changes(tmp_path, reads):
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(CONTENT)
    first = [digest_file(path), digest_file(path)]
    assert first == [hashlib.sha256(CONTENT).hexdigest()] * 2
    assert len(reads) == 1
    assert digest_file(path, "md5") == MD5
    other.write_bytes(CONTENT[::-1])  # of the same size
    os.replace(other, path)
    assert digest_file(path) == hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert len(reads) == 3


def test_a_byte_flipped_in_place_is_seen_although_the_modification_time_is_kept(tmp_path, reads):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    status, before = path.stat(), digest_file(path)
    while path.stat().st_ctime_ns == status.st_ctime_ns:  # until the clock of the file system has ticked
        DAMAGE["one byte in the middle"](path)
        DAMAGE["one byte in the middle"](path)
    DAMAGE["one byte in the middle"](path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest_file(path) != before


def test_a_file_that_was_just_written_is_read_again(tmp_path, reads, monkeypatch):
    monkeypatch.undo()
    path = tmp_path / "file"
    for content in (CONTENT, CONTENT[::-1]) * 20:  # faster than the clock of the file system
        path.write_bytes(content)
        assert digest_file(path) == hashlib.sha256(content).hexdigest()
