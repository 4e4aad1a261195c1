"""Prefect's server as an application for uvicorn, with one connection to its SQLite database.

As it comes (3.8.8) it has up to fifteen and stands still for a minute now and then when several clients write
(measured: once in three to five minutes of three busy ones; with one connection never, and more work done).
One connection holds SQLite's lock, another one waits for it in its thread, and the event loop collects a
cursor of that one: to close it, it waits for the connection, and so keeps the holder of the lock from going
on, until SQLite gives up after 60 s. Clients time out then, ask again, and are told a state without its data.
Prefect itself uses one connection for a database in memory, so nothing in it needs a second.
"""

from functools import partial

from fastapi import FastAPI
from prefect.server.api import server
from prefect.server.database import configurations


def create_app() -> FastAPI:
    """Prefect's application. For a process that does nothing else: how Prefect makes its pool is changed."""
    make = configurations.create_async_engine  # type: ignore[attr-defined]
    configurations.create_async_engine = partial(make, pool_size=1, max_overflow=0)  # type: ignore[attr-defined]
    return server.create_app()
