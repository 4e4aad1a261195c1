"""Prefect's server as an application for uvicorn, with one connection to its SQLite database.

The one that all start: `serve`, the unit prefect-server, and runs by hand that bring a server of their own.
As it comes (3.8.8) it has up to fifteen and stands still for a minute now and then when several clients write
(measured: once in three to five minutes of three busy ones; with one connection never, and more work done).
One connection holds SQLite's lock, another one waits for it in its thread, and the event loop collects a
cursor of that one: to close it, it waits for the connection, and so keeps the holder of the lock from going
on, until SQLite gives up after 60 s. Clients time out then, ask again, and are told a state without its data.
Prefect itself uses one connection for a database in memory, so nothing in it needs a second.
"""

import os
from typing import Any

from fastapi import FastAPI
from prefect.server.api import server
from prefect.server.database import configurations
from prefect.settings import get_current_settings
from sqlalchemy.ext.asyncio import AsyncEngine

OPEN_TO_ALL = (
    "PREFECT_SERVER_API_AUTH_STRING is not set; "
    "whoever reached the API of this server would be root on its hosts\n"
    "HINT: edit /etc/alfresco-backup/prefect-server.env: PREFECT_SERVER_API_AUTH_STRING=admin:..."
)


def create_app() -> FastAPI:
    """Prefect's application. For a process that does nothing else: how Prefect makes its pool is changed.

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
    return server.create_app(final=True)
