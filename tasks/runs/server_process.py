"""The Prefect server of a run by hand as a process, which starts while the run still imports Prefect.

Both take seconds of one processor each, so this module imports nothing of Prefect. Whether a server will be
needed is a guess by the environment: Prefect's profiles and files may name another one. A wrong guess costs
a server that is stopped again, or one that starts later, never the run. embedded_server.py decides.
"""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import BackupError
from alfresco_backup.system.processes import Child, Command

SERVER = Path(__file__).parents[2] / "deployments/server"
LOG = "embedded-server.log"
FOREVER_SECONDS = 3650 * 86400.0
SERVER_LOGIN = "PREFECT_SERVER_API_AUTH_STRING"
ANOTHER_SERVER = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")
"""Each of them may name a server, so none is started ahead."""
SERVER_ENVIRONMENT = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # The one block that a run may load was stored by `deploy`, with its type. To compare the blocks of the
    # database with Prefect's takes a quarter of a second.
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    # Whoever shares the database with this server schedules and reacts; this one only serves its run.
    **{
        f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false"
        for service in ("SCHEDULER", "LATE_RUNS", "TRIGGERS", "FOREMAN", "PAUSE_EXPIRATIONS")
    },
}


@dataclass(frozen=True)
class ServerProcess:
    """A server that was started; it need not answer yet. It dies with this process."""

    child: Child
    address: str
    login: str
    home: Path

    @property
    def log(self) -> Path:
        return self.home / LOG


_ahead: list[ServerProcess] = []


@contextmanager
def server_ahead() -> Iterator[None]:
    """Around what imports Prefect and runs a flow: a server for it starts now, where it will need its own.

    What keeps it from starting is said by whoever needs it; what nobody took is stopped at the end.
    """
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    named = any(os.environ.get(name) for name in ANOTHER_SERVER) or (home / "profiles.toml").exists()
    try:
        if not named:
            with suppress(OSError, BackupError):
                _ahead.append(start_server(home))
        yield
    finally:
        for server in _ahead:
            server.child.stop()
        _ahead.clear()


def take_server(home: Path) -> ServerProcess:
    """The server that was started ahead for that home, else one that starts now; the caller stops it.

    Raises OSError where the home cannot be written to, ToolFailed where the program does not start.
    """
    ahead = _ahead.pop() if _ahead else None
    if ahead and (ahead.home, ahead.child.process.poll()) == (home, None):
        return ahead
    if ahead:
        ahead.child.stop()
    return start_server(home)


def start_server(home: Path) -> ServerProcess:
    """Start a server with its history in `home`, made where it is missing. Raises as take_server."""
    home.mkdir(parents=True, exist_ok=True)
    login = new_login()
    environment = {**os.environ, "PREFECT_HOME": str(home), **SERVER_ENVIRONMENT, SERVER_LOGIN: login}
    command = Command((str(SERVER), "--fd", "0"), FOREVER_SECONDS, environment)
    # The server gets its socket ready made, as standard input: a port that is only chosen here could be
    # somebody else's by the time the server listens, and the run would talk to that one.
    # uvicorn takes it for a local one and leaves Nagle's algorithm on, which the connections inherit: each
    # answer but the first of a connection would be 40 ms late (measured with uvicorn 0.54).
    with socket.socket() as place, (home / LOG).open("ab") as sink:
        place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        place.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{place.getsockname()[1]}/api"
        child = Child(command, stdin=place.fileno(), stdout=sink.fileno(), stderr=sink.fileno())
    return ServerProcess(child, address, login, home)


def new_login() -> str:
    """A user and a random password, as Prefect's server and its clients take them."""
    return f"admin:{secrets.token_urlsafe(24)}"
