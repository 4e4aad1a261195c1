"""Prefect's server as an application for uvicorn, with one connection to its SQLite database.

The one that all start: `serve`, the unit prefect-server, and runs by hand that bring a server of their own.
As it comes (3.9.1) it has up to fifteen and stands still for a minute now and then when several clients write
(measured: once in three to five minutes of three busy ones; with one connection never, and more work done).
One connection holds SQLite's lock, another one waits for it in its thread, and the event loop collects a
cursor of that one: to close it, it waits for the connection, and so keeps the holder of the lock from going
on, until SQLite gives up after 60 s. Clients time out then, ask again, and are told a state without its data.
Prefect itself uses one connection for a database in memory, so nothing in it needs a second.

Its lock files are replaced, too. Prefect's (3.9.1) are files with the number of a process in them: one that a
killed server left behind counts as long as any process has that number, as after a reboot, and in a container
the server itself. Then nobody gets or gives back a host's lock any more, and no backup runs.
"""

import asyncio
import fcntl
import gc
import os
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prefect.server.api import server
from prefect.server.concurrency.lease_storage import filesystem
from prefect.server.database import configurations
from prefect.settings import get_current_settings
from sqlalchemy.ext.asyncio import AsyncEngine

OPEN_TO_ALL = (
    "PREFECT_SERVER_API_AUTH_STRING is not set; "
    "whoever reached the API of this server would be root on its hosts\n"
    "HINT: edit /etc/alfresco-backup/prefect-server.env: PREFECT_SERVER_API_AUTH_STRING=admin:..."
)


class KernelLock:
    """What Prefect's servers use of its FileLock, by flock: the kernel frees it when its holder ends.

    The file beside Prefect's lock file stays. A server that is not this one's program does not heed it.
    """

    def __init__(self, path: str | Path, timeout: float = -1, poll_interval: float = 0.1) -> None:
        self._path = Path(f"{path}.flock")
        self._timeout = timeout
        self._poll_interval = poll_interval
        self._descriptor = -1

    def acquire(self) -> None:
        """Raises TimeoutError."""
        started = time.monotonic()
        while not self._try():
            if 0 <= self._timeout <= time.monotonic() - started:
                raise TimeoutError(f"{self._path} is locked by another server")
            time.sleep(self._poll_interval)

    async def aacquire(self) -> None:
        while not self._try():
            await asyncio.sleep(self._poll_interval)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _try(self) -> bool:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True


def create_app() -> FastAPI:
    """Prefect's application. For a process that does nothing else: Prefect's pool and locks are changed.

    Raises SystemExit without a password; only servers of tests go without one.
    """
    if not (get_current_settings().server.api.auth_string or os.environ.get("PREFECT__SERVER_EPHEMERAL")):
        raise SystemExit(OPEN_TO_ALL)
    make = configurations.create_async_engine  # type: ignore[attr-defined]

    def make_with_one_connection(url: Any, **options: Any) -> AsyncEngine:
        if str(url).startswith("sqlite"):  # PostgreSQL has no lock on the whole database
            options |= {"pool_size": 1, "max_overflow": 0}
        made: AsyncEngine = make(url, **options)
        return made

    configurations.create_async_engine = make_with_one_connection  # type: ignore[attr-defined]
    filesystem.FileLock = server.FileLock = KernelLock  # type: ignore[attr-defined, assignment]
    gc.freeze()  # Prefect looks for garbage when it makes its application: only in what it makes then
    app = server.create_app(final=True)
    gc.freeze()
    gc.enable()  # deployments/server turned it off
    return app
