"""Every way of starting a Prefect server starts the same application, cured and with a password."""

import asyncio
import ctypes
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prefect.server.concurrency.lease_storage import filesystem
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from deployments import serve
from tasks.runs import embedded_server, server_process
from tasks.runs.server_app import KernelLock
from tests.support.common import wait_until
from tests.support.prefect_database import give_database

SERVER = PROJECT_DIRECTORY / "deployments/server"
LOGIN = {"PREFECT_SERVER_API_AUTH_STRING": "admin:word"}
POOL = """
import asyncio
from tasks.runs.server_app import create_app
from prefect.server.database.dependencies import provide_database_interface
create_app()
async def look():
    engine = await provide_database_interface().engine()
    print(type(engine.pool).__name__, engine.pool.size(), engine.pool._max_overflow)
asyncio.run(look())
"""


def python(program: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    values = {**os.environ, "PREFECT_HOME": str(home), **environment}
    argv = [sys.executable, "-c", program]
    return subprocess.run(
        argv, cwd=PROJECT_DIRECTORY, env=values, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_server_has_one_connection_to_its_sqlite_database(tmp_path: Path) -> None:
    """With more it stands still for a minute now and then: tasks/runs/server_app.py."""
    done = python(POOL, give_database(tmp_path), **LOGIN)
    assert done.stdout == "AsyncAdaptedQueuePool 1 0\n", done.stderr


@pytest.mark.slow
def test_on_postgresql_it_has_the_pool_that_prefect_gives_it(tmp_path: Path) -> None:
    """One connection would make a server of many hosts wait for each of them in turn."""
    url = "postgresql+asyncpg://prefect@127.0.0.1:9/prefect"
    done = python(POOL, tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL=url, **LOGIN)
    assert done.stdout == "AsyncAdaptedQueuePool 5 10\n", done.stderr


def test_unit_serve_and_runs_by_hand_start_the_same_program() -> None:
    unit = (PROJECT_DIRECTORY / "deployments/systemd/prefect-server.service").read_text()
    assert re.search(r"^ExecStart=/opt/alfresco-backup/deployments/server$", unit, re.MULTILINE)
    assert serve.SERVER == server_process.SERVER == SERVER
    folders = ("deployments", "tasks", "demo", "benchmarks", "tests/support")
    paths = [path for name in folders for path in (PROJECT_DIRECTORY / name).rglob("*") if path.is_file()]
    stock = re.compile(r'"server", "start"|^[^#`]*prefect server start|prefect\.server\.api\.server:')
    texts = {path: path.read_text() for path in paths if path.suffix != ".pyc"}
    assert [path for path, text in texts.items() if any(map(stock.search, text.splitlines()))] == []


@pytest.mark.slow
def test_no_server_starts_without_a_password(tmp_path: Path) -> None:
    values = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [SERVER, "--port", "0"],
        env={**values, "PREFECT_HOME": str(give_database(tmp_path))},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("PREFECT_SERVER_API_AUTH_STRING is not set; whoever reached the API ")


@pytest.mark.slow
def test_a_server_of_a_run_by_hand_answers_that_run_only(tmp_path: Path, monkeypatch) -> None:
    """Other accounts of the machine can reach its port."""
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "of:another server")
    with temporary_settings({PREFECT_API_URL: None, PREFECT_HOME: give_database(tmp_path)}):
        monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
        monkeypatch.delenv("PREFECT_API_URL", raising=False)
        with embedded_server.prefect_server() as address:
            strange = httpx.post(f"{address}/flow_runs/filter", json={}, timeout=60)
            assert strange.status_code == httpx.codes.UNAUTHORIZED
            wrong = httpx.post(f"{address}/flow_runs/filter", json={}, auth=("admin", "x"), timeout=60)
            assert wrong.status_code == httpx.codes.UNAUTHORIZED
            user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
            own = httpx.post(f"{address}/flow_runs/filter", json={}, auth=(user, password), timeout=60)
            assert own.json() == []
    assert os.environ["PREFECT_API_AUTH_STRING"] == "of:another server"


PIDFD_GETFD = 438


def sockets_of(process: int) -> Iterator[socket.socket]:
    """Duplicates of the TCP connections that another process has open."""
    system = ctypes.CDLL(None, use_errno=True)
    handle = os.pidfd_open(process)
    try:
        for entry in Path(f"/proc/{process}/fd").iterdir():
            if str(entry.readlink()).startswith("socket:"):
                with socket.socket(fileno=system.syscall(PIDFD_GETFD, handle, int(entry.name), 0)) as found:
                    yield found
    finally:
        os.close(handle)


@pytest.mark.slow
def test_a_server_of_a_run_by_hand_sends_each_answer_at_once(tmp_path: Path) -> None:
    """With Nagle's algorithm all but the first answer of a connection come 40 ms late."""
    server = server_process.start_server(give_database(tmp_path))
    try:
        wait_until(lambda: embedded_server.answers(server.address), "a server", 300)
        place = httpx.URL(server.address)
        with socket.create_connection((place.host, place.port)) as client:
            client.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.1 200 OK"
            ours = [
                other.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                for other in sockets_of(server.child.process.pid)
                if other.family == socket.AF_INET and port_of(other) == client.getsockname()[1]
            ]
        assert ours == [1]
    finally:
        server.child.stop()


def port_of(connection: socket.socket) -> int:
    """Of its other end; 0 where it has none."""
    try:
        return int(connection.getpeername()[1])
    except OSError:
        return 0


@contextmanager
def running_server(home: Path) -> Iterator[httpx.Client]:
    """The server that all ways of starting one start, with its leases in files; stopped at the end."""
    leases = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": filesystem.__name__, "PREFECT_UI_ENABLED": "0"}
    with socket.socket() as place, (home / "server.log").open("ab") as said:
        place.bind(("127.0.0.1", 0))
        environment = {**os.environ, "PREFECT_HOME": str(home), **leases, **LOGIN}
        server = subprocess.Popen(
            [SERVER, "--fd", "0"], stdin=place, stdout=said, stderr=said, env=environment
        )
        address = f"http://127.0.0.1:{place.getsockname()[1]}/api"
        try:
            wait_until(lambda: embedded_server.answers(address), "a server", 300)
            with httpx.Client(base_url=address, auth=("admin", "word"), timeout=120) as client:
                yield client
        finally:
            server.kill()
            server.wait()


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["of init", "of another"])
def test_a_lock_file_that_a_killed_server_left_keeps_no_lease_waiting(whose: str, tmp_path: Path) -> None:
    """Its number is another process's after a reboot, and in a container the next server's own."""
    (give_database(tmp_path) / "concurrency_leases").mkdir()
    process = 1 if whose == "of init" else os.getpid()
    (tmp_path / "concurrency_leases/expirations.lock").write_text(str(process))
    with running_server(tmp_path) as client:
        limit = {"name": "alf1", "limit": 1, "active": True}
        client.post("/v2/concurrency_limits/", json=limit).raise_for_status()
        want = {"names": ["alf1"], "slots": 1, "mode": "concurrency", "lease_duration": 60}
        for _ in range(2):  # the second time it must have been given back
            taken = client.post("/v2/concurrency_limits/increment-with-lease", json=want)
            lease = {"lease_id": taken.raise_for_status().json()["lease_id"]}
            client.post(
                f"/v2/concurrency_limits/leases/{lease['lease_id']}/renew", json={"lease_duration": 60}
            ).raise_for_status()
            client.post("/v2/concurrency_limits/decrement-with-lease", json=lease).raise_for_status()


@pytest.mark.slow
def test_a_lock_of_the_kernel_lets_one_in_and_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "leases/expirations.lock"
    first, second = KernelLock(path), KernelLock(path, timeout=0.2, poll_interval=0.01)
    first.acquire()
    with pytest.raises(TimeoutError):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()
    killed = f"import os; from tasks.runs.server_app import KernelLock as K; K({str(path)!r}).acquire()"
    assert python(f"{killed}; os.kill(os.getpid(), 9)", tmp_path, **LOGIN).returncode == -9
    asyncio.run(first.aacquire())
    first.release()
