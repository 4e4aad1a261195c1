"""A stand-in for Solr's replication handler, as SnapShooter.java of 4.10 to 6.6 does it, with its faults."""

import json
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

SECRET = "the secret of Search Services"
Fault = Literal["", "refuses", "fails", "hangs", "never ends", "half", "gone", "no solr"]


@dataclass
class FakeSolr:
    """`indexes`: the live index of each core. Copies take `seconds`."""

    indexes: dict[str, Path]
    address: str = ""
    fault: Fault = ""
    seconds: float = 0.3
    flat: bool = False
    cuts: list[str] = field(default_factory=list)
    """Commands, each of which loses its answer once; one with "!" is not heeded either."""
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def copy(self, core: str, location: Path) -> None:
        """What Solr's thread does: the account of the copy is told when it is over, and not before."""
        account: dict[str, Any] = {"startTime": datetime.now().isoformat()}  # noqa: DTZ005 - as Java's Date
        time.sleep(self.seconds)
        if self.fault == "never ends":
            return
        if self.fault == "fails":
            self.accounts[core] = account | {"snapShootException": "No space left on device"}
            return
        target = location / f"snapshot.{datetime.now():%Y%m%d%H%M%S%f}"  # noqa: DTZ005 - its own zone
        shutil.copytree(self.indexes[core], target)
        files = sorted(target.iterdir())
        if self.fault == "half":
            files[0].unlink()
        if self.fault == "gone":
            location.rename(f"{location}.gone")
        completed = {"fileCount": len(files), "status": "success", "snapshotCompletedAt": str(time.time())}
        self.accounts[core] = account | completed


def _handler(solr: FakeSolr) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            core = parts.path.split("/")[2]
            solr.calls.append(f"{core} {asked['command']}")
            if solr.fault == "hangs":
                solr.over.wait(60)
                return
            if solr.fault == "no solr":
                self.answer(200, None)
                return
            if self.headers.get("X-Alfresco-Search-Secret") != SECRET or solr.fault == "refuses":
                self.answer(403, {})
                return
            if f"{asked['command']}!" in solr.cuts:
                solr.cuts.remove(f"{asked['command']}!")
                self.cut()
                return
            body: dict[str, Any] = {"responseHeader": {"status": 0, "QTime": 1}}
            if asked["command"] == "backup":
                place = Path(asked["location"])
                threading.Thread(target=solr.copy, args=(core, place), daemon=True).start()
                body["status"] = "OK"
            else:
                account: Any = solr.accounts.get(core)
                if account and solr.flat:
                    account = [part for pair in account.items() for part in pair]
                body["details"] = {"indexSize": "1 KB"} | ({"backup": account} if account else {})
            if asked["command"] in solr.cuts:
                solr.cuts.remove(asked["command"])
                self.cut()
                return
            self.answer(200, body)

        def cut(self) -> None:
            """Close the connection so that its other end sees a reset."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def answer(self, status: int, body: dict[str, Any] | None) -> None:
            text = b"<html>a web server</html>" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            return

    return Handler


@contextmanager
def fake_solr(indexes: dict[str, Path]) -> Iterator[FakeSolr]:
    """A running stand-in on loopback."""
    solr = FakeSolr(indexes)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(solr))
    server.daemon_threads = True
    solr.address = f"http://127.0.0.1:{server.server_port}/solr"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield solr
    finally:
        solr.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
