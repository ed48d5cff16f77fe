"""A web server on this machine for the downloads of tortured commands; it serves parts of files, as real ones do."""

import os
import socket
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Server:
    """A server in a process of its own.

    Attributes:
        port: where it listens on this machine.
        process: its id.
    """

    port: int
    process: int

    @property
    def address(self) -> str:
        """The URL of its folder, ending in a slash."""
        return f"http://127.0.0.1:{self.port}/"


def start_server(folder: Path) -> Server:
    """Serve the files of a folder from a new process, which ends with this one."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    parent, process = os.getpid(), os.fork()
    if process == 0:
        server = _Server(("127.0.0.1", port), _handler(folder), bind_and_activate=False)
        server.parent = parent
        server.socket.close()
        server.socket, server.server_port = listening, port
        try:
            server.serve_forever()
        finally:
            os._exit(0)
    listening.close()
    return Server(port, process)


class _Server(ThreadingHTTPServer):
    """A server that ends with the process that started it.

    Attributes:
        parent: the id of that process.
    """

    parent = 0

    def service_actions(self) -> None:
        """Look, twice a second, whether that process is still there."""
        if os.getppid() != self.parent:
            os._exit(0)


def _handler(folder: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / Path(self.path).name
            if not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    return Handler
