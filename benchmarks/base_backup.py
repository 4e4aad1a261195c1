"""Base backup of a database of at least 1 GB against `pg_basebackup -Ft -z -X stream`, side by side.

`python -m benchmarks.base_backup [MAJOR …]`: all PostgreSQL versions found, or the named ones (15 16 13).
The time of our base backup includes all that makes it one: reading the tar back, comparing it with its
manifest, waiting for WAL, checksums, fsync. Target: at least 5 times faster on 15 and later, 3 times below.
"""

import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from alfresco_backup.backup.make import base_backup
from alfresco_backup.host.host import Host, Run, load_host
from alfresco_backup.system.processes import Command, run
from alfresco_backup.times import make_stamp, size_for_people, utc_now
from demo.cluster import Cluster, available_bindirs, client_bindir, major_version
from demo.places import give_to, server_account

PASSWORD = "benchmark"  # noqa: S105 - a server that lives for one measurement
LIMIT = 3600.0
# Rows like Alfresco's: numbers, short repeated texts, GUIDs and hashes that do not compress well.
FILL = """
CREATE TABLE alf_node_properties AS
SELECT n AS node_id, n % 97 AS qname_id, 6 AS actual_type_n, n * 31 AS long_value,
  'store://2024/' || n % 12 + 1 || '/' || n % 28 + 1 || '/' || n % 24 || '/' || n % 60 || '/'
    || gen_random_guid() || '.bin' AS string_value, 'Invoice ' || n || ' of ' || md5(n::text) AS name
FROM generate_series(1, {rows}) AS n
"""
GUID = """
CREATE FUNCTION gen_random_guid() RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT md5(random()::text || clock_timestamp()::text)::uuid::text $$
"""


def prepare(directory: Path, bindir: Path, rows: int) -> tuple[Cluster, Host]:
    """A cluster with a database of about 240 bytes a row, archiving into a repository of its own."""
    repository = directory / "backup"
    (repository / "pg_wal").mkdir(parents=True)
    give_to(repository / "pg_wal", server_account())
    (directory / "alf_data/contentstore/2024").mkdir(parents=True)
    commands = directory / "commands"
    shutil.copytree(Path(__file__).parent.parent / "deployments/wal", commands)
    cluster = Cluster(bindir, directory / "alf_data/postgresql").create()
    archive = f'{commands}/archive-wal --zstd "%p" "%f" {repository}/pg_wal'
    cluster.configure(wal_level="replica", archive_mode="on", archive_command=archive, max_wal_size="4GB")
    cluster.start()
    cluster.sql(f"CREATE ROLE alfresco LOGIN REPLICATION PASSWORD '{PASSWORD}'")
    cluster.sql("CREATE DATABASE alfresco OWNER alfresco")
    cluster.sql(GUID, "alfresco")
    cluster.sql(FILL.format(rows=rows), "alfresco")
    cluster.sql("CHECKPOINT")
    settings = {
        "PGHOST": "127.0.0.1",
        "PGPORT": cluster.port,
        "PGUSER": "alfresco",
        "PGPASSWORD": PASSWORD,
        "PGSUPERPASSWORD": cluster.password,
        "BACKUP_DIR": repository,
        "ALF_BASE_DIR": directory,
        "PG_BINDIR": client_bindir(bindir),
    }
    env_file = directory / ".env"
    env_file.write_text("".join(f'{name}="{value}"\n' for name, value in settings.items()))
    env_file.chmod(0o600)
    return cluster, load_host(env_file)


def measure(bindir: Path, rows: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="benchmark-base-", dir="/var/tmp"))
    directory.chmod(0o755)
    cluster, host = prepare(directory, bindir, rows)
    try:
        size = int(cluster.sql("SELECT pg_database_size('alfresco')")[0][0])
        theirs = directory / "theirs"
        client = client_bindir(bindir)
        argv = (str(client / "pg_basebackup"), "-D", str(theirs), "-Ft", "-z", "-X", "stream", "-c", "fast")
        started = time.monotonic()
        run(Command(argv, LIMIT, cluster.environment("alfresco", PASSWORD)))
        plain = time.monotonic() - started
        started = time.monotonic()
        ours = base_backup(Run(host, make_stamp(utc_now()), directory / "log"), lambda _done, _total: None)
        seconds = time.monotonic() - started
        theirs_bytes = sum(path.stat().st_size for path in theirs.iterdir())
        print(f"PostgreSQL {host.server.label}, {size_for_people(size)}:")
        print(f"  pg_basebackup -Ft -z -X stream {plain:.1f} s, {size_for_people(theirs_bytes)}")
        print(f"  ours {seconds:.1f} s, {size_for_people(ours.stored_bytes)}; {plain / seconds:.1f}x as fast")
    finally:
        cluster.stop()
        shutil.rmtree(directory)


def main(majors: list[str]) -> None:
    rows = 14_000_000
    for bindir in available_bindirs():
        label = str(major_version(bindir) // 10000)
        if not majors or label in majors:
            measure(bindir, rows)
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main(sys.argv[1:])
