"""A PostgreSQL cluster for the server of `serve --database postgresql`: made, started, stopped, kept.

It is in PREFECT_HOME/postgresql, beside the SQLite database that `serve` has otherwise, and stays for the
next time as that does; removing the folder removes it. The programs are of the machine's newest PostgreSQL.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alfresco_backup.errors import BackupError, ToolFailed
from alfresco_backup.settings.commands import make_command
from alfresco_backup.system.files import write_text
from demo.cluster import Cluster, default_bindir, free_port
from demo.places import give_to, server_account

CONNECTION = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
DATABASE = "prefect"
RECORD = "cluster.json"


@contextmanager
def postgresql(home: Path) -> Iterator[str]:
    """The connection URL of a database that is there as long as the block runs. Raises BackupError."""
    folder = home / "postgresql"
    try:
        cluster = _open(folder) if (folder / RECORD).exists() else _make(folder)
    except (ToolFailed, OSError) as error:
        raise BackupError(
            f"the PostgreSQL cluster in {folder} could not be started: {error}",
            make_command("serve", PREFECT_HOME="/var/tmp/prefect", DATABASE="postgresql"),  # noqa: S108 - a hint
        ) from error
    try:
        yield f"postgresql+asyncpg://{cluster.superuser}:{cluster.password}@127.0.0.1:{cluster.port}/{DATABASE}"
    finally:
        cluster.stop()


def _open(folder: Path) -> Cluster:
    record = json.loads((folder / RECORD).read_text())
    cluster = Cluster(Path(record["bindir"]), folder / "data", record["port"], password=record["password"])
    if not cluster.running:  # a `serve` that was killed has left it running
        cluster.start()
    return cluster


def _make(folder: Path) -> Cluster:
    """A cluster, or none: one that was not finished last time is made again."""
    Cluster(default_bindir(), folder / "data").stop("immediate")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    give_to(folder, server_account())
    cluster = Cluster(default_bindir(), folder / "data", free_port(), password=secrets.token_hex(16))
    cluster.create()
    cluster.configure(max_connections=100)
    cluster.start()
    cluster.sql(f"CREATE DATABASE {DATABASE}")
    record = {"bindir": os.fspath(cluster.bindir), "port": cluster.port, "password": cluster.password}
    write_text(folder / RECORD, json.dumps(record), 0o600)
    return cluster
