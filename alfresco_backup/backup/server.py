"""What a backup asks the running server."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from alfresco_backup.errors import ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.repository.records import Tablespace
from alfresco_backup.system.waiting import wait_until

PATIENCE_SECONDS = 60.0
ASK_AGAIN_SECONDS = 2.0
T = TypeVar("T")


def ask_patiently(question: Callable[[], T]) -> T:
    """The answer to a question to the server, asked again for a minute while it fails.

    For what is asked at the end of a copy of many hours. Raises ToolFailed when the minute is over.
    """
    late, every = "the server gave no answer", ASK_AGAIN_SECONDS
    return wait_until(lambda: (question(),), PATIENCE_SECONDS, late, failing=ToolFailed, every=every)[0]


def find_tablespaces(host: Host) -> tuple[Tablespace, ...]:
    """Tablespaces outside the data directory; those made inside it (in place) travel with the main tar."""
    rows = host.database.query(
        "SELECT oid, spcname, pg_tablespace_location(oid) FROM pg_tablespace"
        " WHERE pg_tablespace_location(oid) LIKE '/%' ORDER BY oid"
    )
    return tuple(Tablespace(int(oid), name, location) for oid, name, location in rows)


def server_time(host: Host) -> datetime:
    """The server's clock: commits have its times, so it decides what is before or after a target time."""
    return datetime.fromisoformat(host.database.value("SELECT clock_timestamp()"))


def database_bytes(host: Host) -> int:
    """The size of all databases that PGUSER may connect to, uncompressed."""
    return int(
        host.database.value(
            "SELECT sum(pg_database_size(oid))::bigint FROM pg_database"
            " WHERE has_database_privilege(oid, 'CONNECT')"
        )
    )


def wal_segment_size(host: Host) -> int:
    """The size of a WAL segment in bytes."""
    return int(
        host.database.value(
            "SELECT setting::bigint * CASE unit WHEN 'B' THEN 1 ELSE 8192 END"  # in 8 kB pages before 11
            " FROM pg_settings WHERE name = 'wal_segment_size'"
        )
    )
