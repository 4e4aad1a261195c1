"""A relay between a test and its Prefect server, on which the way there can be spoilt."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

Forward = Callable[[], httpx.Response]
Spoil = Callable[[str, Forward], httpx.Response | None]
"""Given the path and a way to pass the request on: what is answered; None: the connection just breaks."""


def pass_on(_path: str, forward: Forward) -> httpx.Response:
    """As if there were no relay."""
    return forward()


@dataclass
class Relay:
    """The relay's address, what it does with requests, and the paths it has seen."""

    upstream: str
    address: str = ""
    spoil: Spoil = pass_on
    paths: list[str] = field(default_factory=list)

    def seen(self, words: str) -> int:
        """How many requests had these words in their path."""
        return sum(words in path for path in self.paths)


@contextmanager
def relayed(*, retries: int = 0) -> Iterator[Relay]:
    """This process's Prefect talks to its server by way of a relay, trying each request again so often."""
    relay = Relay(str(PREFECT_API_URL.value()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(relay))
    server.daemon_threads = True
    relay.address = f"http://127.0.0.1:{server.server_port}{urlsplit(relay.upstream).path}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with temporary_settings({PREFECT_API_URL: relay.address, PREFECT_CLIENT_MAX_RETRIES: retries}):
            yield relay
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay_request(self) -> None:
            if self.headers.get("Upgrade"):
                self.close_connection = True
                self._tunnel()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            relay.paths.append(self.path)
            answer = relay.spoil(self.path, lambda: self._forward(body))
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def _forward(self, body: bytes) -> httpx.Response:
            passed = {"Content-Type", "Accept", "X-Prefect-Api-Version", "User-Agent"}
            headers = {name: value for name, value in self.headers.items() if name.title() in passed}
            url = httpx.URL(relay.upstream).join(self.path)
            return httpx.request(self.command, url, content=body, headers=headers, timeout=60)

        def _tunnel(self) -> None:
            """Events travel by websocket: their bytes are passed on as they are."""
            url = httpx.URL(relay.upstream)
            with socket.create_connection((url.host, url.port)) as upstream:
                head = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items())]
                upstream.sendall("\r\n".join([*head, "", ""]).encode())
                back = threading.Thread(target=_pump, args=(upstream, self.connection), daemon=True)
                back.start()
                _pump(self.connection, upstream)
                back.join(timeout=5)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.relay_request)
    return Handler


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
