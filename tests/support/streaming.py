"""A WAL receiver as a process of its own, on a demo host, and a way to its server that can be cut."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.streaming.slot import slot_name
from demo.host import DemoHost
from tests.support.common import wait_until

LIMIT_SECONDS = 120.0


def set_settings(demo: DemoHost, **values: str) -> None:
    """Add settings to the host's `.env`; a later line wins over an earlier one."""
    text = demo.env_file.read_text()
    names = tuple(f"{name}=" for name in values)
    kept = [line for line in text.splitlines() if not line.startswith(names)]
    demo.env_file.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in values.items()), ""]))


class Receiver:
    """`wal-receiver --env FILE`; what it prints goes to `journal`."""

    def __init__(self, demo: DemoHost, env_file: Path | None = None) -> None:
        self.demo = demo
        self.journal = demo.directory / "wal-receiver.log"
        file = str(env_file or demo.env_file)
        argv = [sys.executable, "-m", "alfresco_backup", "wal-receiver", "--env", file]
        with self.journal.open("ab") as sink:
            self.process = subprocess.Popen(argv, cwd=PROJECT_DIRECTORY, stdout=sink, stderr=sink)

    @property
    def said(self) -> str:
        return self.journal.read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT_SECONDS)

    def wait_active(self) -> None:
        wait_until(lambda: is_active(self.demo), lambda: f"it receives: {self.said}", LIMIT_SECONDS)

    @property
    def program(self) -> int:
        """The process number of its pg_receivewal."""
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().startswith("pg_receivewal"):
                return int(child)
        raise LookupError("no pg_receivewal runs")


@contextmanager
def receiving(demo: DemoHost, env_file: Path | None = None) -> Iterator[Receiver]:
    """A receiver that is connected; killed at the end, if it still runs."""
    set_settings(demo, WAL_STREAMING="yes")
    receiver = Receiver(demo, env_file)
    try:
        receiver.wait_active()
        yield receiver
    finally:
        with suppress(ProcessLookupError):
            receiver.process.kill()
        receiver.process.wait(LIMIT_SECONDS)


class Wire:
    """A TCP relay to a server, on `port`: the network between, which a test spoils."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.is_cut = False
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.forgotten: set[socket.socket] = set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections; new ones end at once, until `mend`."""
        self.is_cut = True
        self._close()

    def mend(self) -> None:
        self.is_cut = False

    def forget(self) -> None:
        """Let nothing pass on the present connections, and tell neither side: a router that was replaced."""
        self.forgotten.update(end for pair in self.pairs for end in pair)

    def end(self) -> None:
        self.listener.close()
        self._close()

    def _close(self) -> None:
        while self.pairs:
            for item in self.pairs.pop():
                with suppress(OSError):
                    item.shutdown(socket.SHUT_RDWR)
                item.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.is_cut:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.server_port))
                self.pairs.append((client, server))
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if source not in self.forgotten:
                    target.sendall(data)
            if source not in self.forgotten:
                target.shutdown(socket.SHUT_WR)


@contextmanager
def wire_to(demo: DemoHost) -> Iterator[tuple[Wire, Path]]:
    """A relay to the host's server, and a copy of its `.env` by which a receiver goes that way."""
    wire = Wire(demo.cluster.port)
    env_file = demo.env_file.with_name(f"{demo.env_file.name}.wire")
    set_settings(demo, WAL_STREAMING="yes")
    kept = [line for line in demo.env_file.read_text().splitlines() if not line.startswith("PGPORT=")]
    env_file.touch(0o600)
    env_file.write_text("\n".join([*kept, f"PGPORT={wire.port}", ""]))
    try:
        yield wire, env_file
    finally:
        wire.end()
        env_file.unlink()


def is_active(demo: DemoHost) -> bool:
    question = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot_name(demo.name)}'"
    return demo.cluster.sql(question) == [("t",)]


def received(demo: DemoHost) -> list[str]:
    """The names in the receiver's folder."""
    return sorted(path.name for path in folder(demo).iterdir() if path.is_file())


def folder(demo: DemoHost) -> Path:
    return demo.backup_dir / "wal-receiver"


def archived(demo: DemoHost) -> list[str]:
    """The segments in the archive, as PostgreSQL names them; twice where both forms are there."""
    names = (path.name.removesuffix(".zst") for path in demo.wal_archive.iterdir())
    return sorted(name for name in names if len(name) == 24 and not name.startswith("."))


def commit(demo: DemoHost, word: str) -> None:
    """One acknowledged commit."""
    demo.cluster.sql("CREATE TABLE IF NOT EXISTS said (word text)")
    demo.cluster.sql(f"INSERT INTO said VALUES ('{word}')")


class CommitWriter:
    """A client that commits about a hundred rows a second and knows when each was acknowledged."""

    PAUSE_SECONDS = 0.01

    def __init__(self, demo: DemoHost, receiver: Receiver) -> None:
        self.demo, self.receiver = demo, receiver
        self.acknowledged: dict[int, float] = {}
        self.number = 0
        demo.cluster.sql("CREATE TABLE IF NOT EXISTS committed (number int PRIMARY KEY)")

    def write(self, seconds: float) -> None:
        """Commit for so long; each commit waits for the one before. Ends early when the server is gone."""
        argv = self.demo.cluster.psql_argv()
        psql = subprocess.Popen(
            argv,
            env={**os.environ, **self.demo.cluster.environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert psql.stdin is not None and psql.stdout is not None
        ends = time.monotonic() + seconds
        try:
            while time.monotonic() < ends:
                self.number += 1
                psql.stdin.write(f"INSERT INTO committed VALUES ({self.number}) RETURNING number;\n\\echo\n")
                psql.stdin.flush()
                if not psql.stdout.readline():
                    break
                self.acknowledged[self.number] = time.monotonic()
                psql.stdout.readline()
                time.sleep(self.PAUSE_SECONDS / 2)
        finally:
            psql.kill()
            psql.communicate()

    def lost(self, killed_at: float) -> tuple[int, float]:
        """How many acknowledged commits the server does not have, and how old the oldest of them was."""
        there = {int(number) for (number,) in self.demo.cluster.sql("SELECT number FROM committed")}
        lost = [when for number, when in self.acknowledged.items() if number not in there]
        return len(lost), killed_at - min(lost, default=killed_at)


def destroy_server(demo: DemoHost) -> float:
    """Kill every process of the server at once and remove its data directory; when it was killed."""
    data = demo.cluster.directory
    postmaster = int((data / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    killed_at = time.monotonic()
    for pid in (postmaster, *map(int, children)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in (postmaster, *map(int, children)):
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}/exe").exists(), "the server's processes are gone")
    for path in demo.cluster.socket_directory.glob(".s.PGSQL.*"):
        path.unlink()  # the number in it stays taken until whoever is init here has noticed
    shutil.rmtree(data)
    return killed_at
