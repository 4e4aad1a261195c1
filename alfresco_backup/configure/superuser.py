"""A superuser's connection for `configure`: as the .env says, else by the socket as the server's account."""

import os

from alfresco_backup.backup.server import PATIENCE_SECONDS
from alfresco_backup.errors import HostNotReady, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.postgres.database import Database, connection_environment
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.system.waiting import wait_until

MAINTENANCE_DATABASE = "postgres"


def find_superuser(host: Host) -> Database:
    """A superuser's connection: as the .env says, else as the data directory's owner by its socket.

    The latter is peer authentication, for which psql runs as that account. Raises HostNotReady with what
    every attempt said.
    """
    attempts = [host.superuser_database, *_by_socket(host)]
    said, fixes = [], list[str]()
    for database in attempts:
        who = f"{database.environment['PGUSER']} by {database.environment['PGHOST']}"
        try:
            if database.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == "t":
                return database
            said.append(f"{who}: is no superuser")
        except ToolFailed as failure:
            said.append(f"{who}: {failure.tail or failure.message}")
            fixes = fixes or failure.hint.splitlines()
    fixes = fixes or [edit_setting("PGSUPERUSER"), edit_setting("PGSUPERPASSWORD")]
    if os.geteuid() not in (0, host.account.uid):
        fixes.append(f"or run it as root or as {host.account.name}")
    raise HostNotReady(
        "no superuser of the server can connect:\n" + "\n".join(f"  - {item}" for item in said),
        "\n".join(fixes),
    )


def wait_for_superuser(host: Host) -> Database:
    """As find_superuser, of a server that was started just now: tried for a minute. Raises HostNotReady."""
    late = "no superuser of the server can connect"
    return wait_until(lambda: find_superuser(host), PATIENCE_SECONDS, late, failing=HostNotReady, every=1)


def _by_socket(host: Host) -> list[Database]:
    """Connections by the socket that the running server names in its pid file."""
    if os.geteuid() not in (0, host.account.uid):
        return []
    try:
        lines = (host.installation.data_directory / "postmaster.pid").read_text().splitlines()
        port, folder = lines[3].strip(), lines[4].strip()
    except (OSError, IndexError):
        return []
    if not folder:
        return []
    environment = connection_environment(host.settings, superuser=True)
    environment.pop("PGPASSWORD", None)
    names = dict.fromkeys((host.settings.pgsuperuser, host.account.name, "postgres"))
    return [
        Database(
            host.psql,
            {**environment, "PGHOST": folder, "PGPORT": port, "PGUSER": name, "PGDATABASE": database},
            host.account,
        )
        for name in names
        if name
        for database in dict.fromkeys((host.settings.pgdatabase, MAINTENANCE_DATABASE))
    ]


def in_database(database: Database, name: str) -> Database:
    """The same connection to another database of the server."""
    return Database(
        database.programs,
        {**database.environment, "PGDATABASE": name},
        database.account,
        database.timeout_seconds,
    )
