"""Downloads a file reliably: interrupted transfers resume, checksums are verified, no partial file is left."""

import hashlib
import os
import time
from pathlib import Path

import requests
from filelock import FileLock
from platformdirs import user_cache_path

from keras_bench.console import Log
from keras_bench.disk import writing
from keras_bench.errors import UserError, one_line

# A dead network should be noticed quickly, but a slow one may take its time between two chunks.
CONNECT_SECONDS, READ_SECONDS = 10, 60
DOWNLOAD_CHUNK_BYTES = 1 << 18
# The clock of a file system may tick only every 2 s (FAT), and a file written again within one tick looks unchanged.
TICK_SECONDS = 2.0
_digests: dict[tuple[str, str, int, int, int, int, int], str] = {}  # of files that this process has read


class DownloadError(UserError):
    """The file could not be downloaded or is not the expected one; the caller adds what the user can do instead."""


def cache_folder() -> Path:
    """Return the folder of downloads and extracted archives: $KERAS_BENCH_CACHE or ~/.cache/keras-bench."""
    override = os.environ.get("KERAS_BENCH_CACHE")
    return Path(override) if override else user_cache_path("keras-bench")


def digest_file(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's content; a file that has not changed is read once per process."""
    with path.open("rb") as stream:
        status = os.fstat(stream.fileno())
        times = status.st_mtime_ns, status.st_ctime_ns
        key = (os.path.abspath(path), algorithm, status.st_dev, status.st_ino, status.st_size, *times)
        if key in _digests:
            return _digests[key]
        is_settled = max(times) < time.time_ns() - TICK_SECONDS * 1e9
        digest = hashlib.file_digest(stream, algorithm).hexdigest()
    if is_settled:
        _digests[key] = digest
    return digest


def checksum_algorithm(checksum: str) -> str:
    """Return "sha256" or "md5", judging by the length of the hexadecimal digest."""
    return "sha256" if len(checksum) == 64 else "md5"


def download(url: str, destination: Path, checksum: str, log: Log) -> Path:
    """Fetch `url` to `destination`, continuing the `.part` file of an earlier attempt if the server supports ranges.

    An existing destination is returned unchanged. Processes that want the same file take turns.

    Args:
        url: http or https address.
        destination: the file to write; it appears only after its checksum has been verified.
        checksum: expected md5 or sha256, hexadecimal; "" if the publisher states none.
        log: shows progress.

    Raises:
        DownloadError: no connection, an HTTP error, a broken transfer, or a wrong checksum.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(destination.with_name(f".{destination.name}.lock")):
        if destination.is_file():
            return destination
        part = destination.with_name(destination.name + ".part")
        try:
            _fetch_rest(url, part, log)
        except requests.RequestException as error:
            raise DownloadError(f"could not download {url}: {_failure_text(error)}") from error
        algorithm = checksum_algorithm(checksum)
        received = digest_file(part, algorithm)
        if checksum and received != checksum:
            part.unlink()
            raise DownloadError(
                f"{url}: wrong checksum (expected {algorithm} {checksum}, received {received}); try again"
            )
        os.replace(part, destination)
    return destination


def _fetch_rest(url: str, part: Path, log: Log) -> None:
    """Append to `part` the bytes it still lacks."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as response:
        if response.status_code == 416:  # range not satisfiable: nothing is left to fetch, the checksum decides
            return
        response.raise_for_status()
        if response.status_code != 206:  # not a partial response: the server sends the file from its start
            have = 0
        total = have + int(response.headers.get("Content-Length", 0))
        with (
            writing(part, total or None),
            part.open("ab" if have else "wb") as stream,
            log.progress(f"downloading {url.rsplit('/', 1)[-1]}", total, "bytes", done=have) as advance,
        ):
            for chunk in response.iter_content(DOWNLOAD_CHUNK_BYTES):
                stream.write(chunk)
                advance(len(chunk))
    if total and part.stat().st_size < total:
        raise requests.ConnectionError(f"the transfer broke off at {part.stat().st_size:,} of {total:,} bytes")


def _failure_text(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {CONNECT_SECONDS} s"
    if isinstance(error, requests.ConnectionError) and "broke off" not in str(error):
        return "no connection"
    return one_line(error, limit=120)
