"""A Prefect server for a run that was started by hand or cron where no server is configured.

Prefect would start one by itself, but that one (3.9.1, measured) never frees the lock of a killed run, dies
before the run at Ctrl-C, so that the run hangs for minutes, and outlives a run that was killed. This one
frees slots, ignores the terminal, dies with the run, has one connection to its database (server_app.py), and
a password that only the run knows: other accounts of the machine reach its port, too.
"""

import logging
import os
import shlex
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
from alfresco_backup.system.processes import Child
from alfresco_backup.system.waiting import wait_until
from tasks.runs.server_process import take_server

START_SECONDS = 300.0  # the first start makes the database: 19 s on an idle machine, minutes on a busy one
DRAIN_SECONDS = 10.0
LOGIN = "PREFECT_API_AUTH_STRING"
"""`user:password`, as the client sends it; the server has it in SERVER_LOGIN."""
SERVER_HINT = "systemctl status prefect-server"
WITHOUT_SERVER = (
    "  if it cannot be brought back: stop the worker (systemctl stop 'prefect-worker@*'), see that none of\n"
    "  its runs is left (pgrep -af prefect), then without the server: PREFECT_API_URL= and the same command"
)


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
    try:
        server = take_server(home)
    except OSError as error:
        raise BackupError(
            f"PREFECT_HOME={home}, where Prefect keeps its history, cannot be written to: {error}",
            f"ls -ld {shlex.quote(str(home))}; or set PREFECT_HOME in the .env to a folder of this account",
        ) from error
    try:
        late = "Prefect's embedded server did not start"
        await_start(server.child, server.address, late, f"tail -50 {server.log}")
        _use(server.address, server.login)
        logging.getLogger("prefect.flow_runs").addFilter(_is_no_link)
        yield server.address
    finally:
        # While the server lives: without one Prefect tries for over a minute when the process ends.
        _tell_the_rest()
        _use(None, configured_login)
        server.child.stop()


def _tell_the_rest() -> None:
    """Send what a run still has to tell the server, for a few seconds at most.

    Prefect would do it when the process ends, and say so after our last line, which is what to type next.
    """
    APILogWorker.drain_all(timeout=DRAIN_SECONDS)
    EventsWorker.drain_all(timeout=DRAIN_SECONDS)


def _is_no_link(record: logging.LogRecord) -> bool:
    """Whether a line is worth showing: without a user interface Prefect's link to the run leads nowhere."""
    return not record.getMessage().startswith("View at ")


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
        # Reading the machine's certificates takes longer than the answer of a server on the way up.
        secure = address.startswith("https:")
        return httpx.get(f"{address}/health", timeout=10, verify=secure).status_code == httpx.codes.OK
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
