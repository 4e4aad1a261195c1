"""A Prefect server for a run that was started by hand or cron where no server is configured.

Prefect would start one by itself, but that one (3.8.8, measured) never frees the lock of a killed run, dies
before the run at Ctrl-C, so that the run hangs for minutes, and outlives a run that was killed. This one
frees slots, ignores the terminal, dies with the run, has one connection to its database (server_app.py), and
a password that only the run knows: other accounts of the machine reach its port, too.
"""

import logging
import os
import secrets
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect import tags
from prefect.client.orchestration import get_client
from prefect.context import refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

from alfresco_backup.errors import BackupError
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.system.processes import Child, Command
from alfresco_backup.system.waiting import wait_until

SERVER = Path(__file__).parents[2] / "deployments/server"
START_SECONDS = 300.0  # the first start makes the database: 19 s on an idle machine, minutes on a busy one
DRAIN_SECONDS = 10.0
FOREVER_SECONDS = 3650 * 86400.0
LOGIN, SERVER_LOGIN = "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"
"""`user:password`, as the client sends it and as the server expects it."""
SERVER_HINT = "systemctl status prefect-server"
WITHOUT_SERVER = (
    "  if it cannot be brought back: stop the worker (systemctl stop 'prefect-worker@*'), see that none of\n"
    "  its runs is left (pgrep -af prefect), then without the server: PREFECT_API_URL= and the same command"
)
SERVER_ENVIRONMENT = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # Whoever shares the database with this server schedules and reacts; this one only serves its run.
    **{
        f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false"
        for service in ("SCHEDULER", "LATE_RUNS", "TRIGGERS", "FOREMAN", "PAUSE_EXPIRATIONS")
    },
}


@contextmanager
def direct_run(host_name: str) -> Iterator[None]:
    """Around a flow that is started by hand or by cron: a server for it, and the host's name as its tag.

    Runs of deployments have the tag from prefect.yaml; alarms are taken back by the next success with it.
    """
    with prefect_server(), tags(host_name):
        yield


@contextmanager
def prefect_server() -> Iterator[str]:
    """Give the API's address: the configured server's, or that of a server which lives as long as the block.

    The embedded server keeps its history in PREFECT_HOME/prefect.db and says what troubles it in
    PREFECT_HOME/embedded-server.log. Raises BackupError when no server answers.
    """
    configured = PREFECT_API_URL.value()
    if configured:
        require_answer(configured, f"{SERVER_HINT}\n{WITHOUT_SERVER}")
        try:
            yield configured
        finally:
            _tell_the_rest()
        return
    configured_login = os.environ.get(LOGIN)
    home = Path(PREFECT_HOME.value())
    log = home / "embedded-server.log"
    try:
        home.mkdir(parents=True, exist_ok=True)
        log.touch()
    except OSError as error:
        raise BackupError(
            f"PREFECT_HOME={home}, where Prefect keeps its history, cannot be written to: {error}",
            f"ls -ld {shlex.quote(str(home))}; or set PREFECT_HOME in the .env to a folder of this account",
        ) from error
    # The server gets its socket ready made, as standard input: a port that is only chosen here could be
    # somebody else's by the time the server listens, and the run would talk to that one.
    with socket.socket() as place, log.open("ab") as sink:
        place.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{place.getsockname()[1]}/api"
        login = new_login()
        server = Child(_command(login), stdin=place.fileno(), stdout=sink.fileno(), stderr=sink.fileno())
    try:
        await_start(server, address, "Prefect's embedded server did not start", f"tail -50 {log}")
        _use(address, login)
        logging.getLogger("prefect.flow_runs").addFilter(_is_no_link)
        yield address
    finally:
        # While the server lives: without one Prefect tries for over a minute when the process ends.
        _tell_the_rest()
        _use(None, configured_login)
        server.stop()


def _tell_the_rest() -> None:
    """Send what a run still has to tell the server, for a few seconds at most.

    Prefect would do it when the process ends, and say so after our last line, which is what to type next.
    """
    APILogWorker.drain_all(timeout=DRAIN_SECONDS)
    EventsWorker.drain_all(timeout=DRAIN_SECONDS)


def _is_no_link(record: logging.LogRecord) -> bool:
    """Whether a line is worth showing: without a user interface Prefect's link to the run leads nowhere."""
    return not record.getMessage().startswith("View at ")


def _command(login: str) -> Command:
    environment = {**os.environ, **SERVER_ENVIRONMENT, SERVER_LOGIN: login}
    return Command((str(SERVER), "--fd", "0"), FOREVER_SECONDS, environment)


def new_login() -> str:
    """A user and a random password, as Prefect's server and its clients take them."""
    return f"admin:{secrets.token_urlsafe(24)}"


def await_start(server: Child, address: str, late: str, hint: str) -> None:
    """Wait until a server that was started just now answers. Raises BackupError when it does not, or ends."""

    def up() -> bool:
        if server.process.poll() is not None:
            raise BackupError(late, hint)
        return answers(address)

    wait_until(up, START_SECONDS, late, hint=hint)


def require_answer(address: str, hint: str = SERVER_HINT) -> None:
    """Raise BackupError unless the server of PREFECT_API_URL answers and takes this host's password."""
    if not answers(address):
        raise BackupError(f"the Prefect server of PREFECT_API_URL={address} does not answer", hint)
    try:
        with get_client(sync_client=True) as client:
            client.request("GET", "/admin/version")
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise
        raise BackupError(
            f"the Prefect server of PREFECT_API_URL={address} does not accept the value of {LOGIN}",
            edit_setting(LOGIN),
        ) from error


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=10).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _use(address: str | None, login: str | None) -> None:
    """Make this process's Prefect talk to that server; its settings are read once, at import."""
    for name, value in (("PREFECT_API_URL", address), (LOGIN, login)):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    refresh_global_settings_context()
