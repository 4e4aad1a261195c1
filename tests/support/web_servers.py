"""Real web servers on sockets: one that notes what it is sent, one that never answers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    """What a server was sent. `headers` with small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class WebServer:
    """A server and what it was sent. `status` is what it answers."""

    port: int = 0
    status: int = 200
    requests: list[Request] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


@contextmanager
def web_server(status: int = 200) -> Iterator[WebServer]:
    """A server that notes each request before it answers."""
    known = WebServer(status=status)

    class Handler(BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            known.requests.append(Request(self.command, self.path, headers, body))
            self.send_response(known.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_HEAD = _take  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
