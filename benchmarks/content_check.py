"""The content check: seconds and peak memory for 30,000 and 300,000 documents.

`python -m benchmarks.content_check [FILES …]`. Real PostgreSQL, real files (benchmarks/store.py), warm cache,
each measurement a process of its own. Targets: 300,000 documents in at most 5 s, memory that does not grow.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import zlib
from pathlib import Path

from alfresco_backup.contentstore.check import Places
from alfresco_backup.postgres.database import Database
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.system.processes import Command, run
from benchmarks.store import generate
from demo.cluster import Cluster, client_bindir, default_bindir
from demo.places import server_account
from demo.rows import SPACES_STORE
from tasks.restore.content_check import check_stores

TARGET_SECONDS = 5.0
LIMIT = 3600.0
SCHEMA = Path(__file__).parent.parent / "demo/schema.sql"
BEGIN = """
INSERT INTO alf_transaction VALUES (1, 1, 'benchmark', 0);
INSERT INTO alf_content_data SELECT id, 0, id FROM alf_content_url
"""
NODES = f"""
CREATE TEMPORARY TABLE made AS
  SELECT (SELECT coalesce(max(id), 0) FROM alf_node) + id AS node, id AS data FROM alf_content_url;
INSERT INTO alf_node SELECT node, 1, {SPACES_STORE}, md5(node::text)::uuid::text, 1, 1, 1 FROM made;
INSERT INTO alf_node_properties
  (node_id, actual_type_n, persisted_type_n, long_value, qname_id, list_index, locale_id)
  SELECT node, 21, 3, data, 1, -1, 1 FROM made
"""


def fill(cluster: Cluster, name: str, store: Path, nodes: int = 1) -> None:
    """A database with so many live documents for every file of the store: copies share their content."""
    cluster.sql(f"CREATE DATABASE {name}")
    cluster.sql_file(SCHEMA, name)
    listing = store.with_suffix(".tsv")
    with listing.open("w", encoding="utf-8") as rows:
        number = 0
        for folder, _, files in os.walk(store):
            for file in files:
                number += 1
                path = Path(folder, file)
                url = f"store://{path.relative_to(store)}"
                crc = zlib.crc32(url.encode())
                rows.write(f"{number}\t{url}\t{url[-12:]}\t{crc}\t{path.stat().st_size}\t\\N\n")
    statements = (f"\\copy alf_content_url FROM '{listing}'", BEGIN, *[NODES] * nodes, "ANALYZE")
    for statement in statements:
        run(Command((*cluster.psql_argv(name), "-c", statement), LIMIT, cluster.environment()))


def measure(database: Database, store: Path) -> tuple[int, float, float]:
    """Documents, seconds of a second check (warm cache) and this process's peak memory in MiB."""
    places = Places({"contentstore": store})
    for _ in range(2):
        result = check_stores(database, places, store.with_suffix(".csv"), limit_seconds=LIMIT)
        result.require_complete()
    return result.checked, result.seconds, peak_memory()


def peak_memory() -> float:
    """This process's peak in MiB. Not getrusage's, which begins with the parent's at the time of the fork."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(sizes: list[int]) -> None:
    directory = Path(tempfile.mkdtemp(prefix="content-check-"))
    directory.chmod(0o755)
    cluster = Cluster(default_bindir(), directory / "data", durable=False, account=server_account()).create()
    try:
        cluster.start()
        for files in sizes:
            store = directory / f"store{files}"
            made = generate(store, files)
            fill(cluster, f"alfresco{files}", store)
            environment = cluster.environment() | {"PGDATABASE": f"alfresco{files}"}
            programs = Programs(client_bindir(cluster.bindir), cluster.version)
            with multiprocessing.get_context("spawn").Pool(1) as fresh:
                checked, seconds, peak = fresh.apply(measure, (Database(programs, environment), store))
            print(
                f"{checked:>9,} documents in {made.minutes:,} folders: {seconds:5.2f} s, "
                f"{checked / seconds:,.0f}/s, peak {peak:.0f} MiB (target for 300,000: {TARGET_SECONDS:g} s)"
            )
    finally:
        cluster.stop("immediate")
        shutil.rmtree(directory)


if __name__ == "__main__":
    started = time.monotonic()
    main([int(item) for item in sys.argv[1:]] or [30_000, 300_000])
    print(f"benchmark took {time.monotonic() - started:.0f} s")
