"""Searches for documents among 1,000,000 nodes beside the bare SQL that tells the same, in one run.

`python -m benchmarks.documents [NODES …]`. Real PostgreSQL with the indexes of Alfresco, warm cache; each
search in a process of its own, seven times in turn with its bare SQL. Targets: a name or node id about 1 s,
a pattern about 5 s, at most 1.5 times the bare SQL, of the least seconds; memory that does not grow with
the nodes that are there. `--plans` shows how the server does it.
"""

import argparse
import hashlib
import multiprocessing
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from alfresco_backup.documents.criteria import Criteria
from alfresco_backup.documents.nodes import Node
from alfresco_backup.documents.queries import read_details
from alfresco_backup.documents.search import search, wanted
from alfresco_backup.postgres.database import Database
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.system.processes import Command, run
from benchmarks.content_check import peak_memory
from demo.cluster import Cluster, client_bindir, default_bindir
from demo.library import Library
from demo.places import server_account

SCHEMA = Path(__file__).parent.parent / "demo/schema.sql"
DATABASE = "library"
RATIO_TARGET, NAME_SECONDS, PATTERN_SECONDS = 1.5, 1.0, 5.0
FOLDERS = 1000
BASE = 2_000_000_000
ROUNDS = 7
LIMIT = 3600.0
NAMES = {
    "name": "cm:name",
    "title": "cm:title",
    "label": "cm:versionLabel",
    "property": "cm:content",
    "content": "cm:content",
    "folder": "cm:folder",
    "contains": "cm:contains",
}

WITHOUT_INDEXES = """
SET session_replication_role = replica;
CREATE TEMP TABLE later AS SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS made
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'public' AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid);
DO $$ DECLARE each text; BEGIN
  FOR each IN SELECT name FROM later LOOP EXECUTE 'DROP INDEX ' || each; END LOOP; END $$;
"""
WITH_INDEXES = """
DO $$ DECLARE each text; BEGIN
  FOR each IN SELECT made FROM later LOOP EXECUTE each; END LOOP; END $$;
"""
NODES = """
INSERT INTO alf_content_url
  SELECT {base} + i, 'store://2026/' || i % 12 + 1 || '/' || i % 28 + 1 || '/' || i % 24 || '/' || i % 60
    || '/' || md5(i::text)::uuid || '.bin', right(md5(i::text), 8) || '.bin', i, 1000 + i % 100000, NULL
  FROM generate_series(1, {nodes}) i;
INSERT INTO alf_content_data SELECT {base} + i, 0, {base} + i, 1, 1, 1 FROM generate_series(1, {nodes}) i;
CREATE TEMP TABLE made AS
  SELECT {base} + i AS id, i, {base} - i % {folders} AS parent, {content} AS type,
    'Report ' || i || '.pdf' AS name
  FROM generate_series(1, {nodes}) i
  UNION ALL SELECT {base} - i, {nodes} + 1 + i, {top}, {folder}, 'folder ' || i
  FROM generate_series(0, {folders} - 1) i;
INSERT INTO alf_node
  SELECT id, 1, {store}, md5('node' || i)::uuid::text, {transaction}, type, 1, NULL, 'user' || i % 500,
    '2016-01-01T00:00:00.000Z', 'user' || i % 300,
    to_char('2016-01-01'::timestamp + i % {nodes} * interval '5 minutes', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
  FROM made;
INSERT INTO alf_child_assoc
  SELECT id, 1, parent, {contains}, i, lower(name), id, {cm}, name, i, true, -1 FROM made;
INSERT INTO alf_node_properties (node_id, actual_type_n, persisted_type_n, string_value, qname_id, list_index,
  locale_id)
  SELECT id, 6, 6, name, {name}, -1, 1 FROM made
  UNION ALL SELECT id, 6, 6, 'Quarterly figures ' || i, {title}, -1, 1 FROM made WHERE id > {base}
  UNION ALL SELECT id, 6, 6, '1.0', {label}, -1, 1 FROM made WHERE id > {base};
INSERT INTO alf_node_properties (node_id, actual_type_n, persisted_type_n, long_value, qname_id, list_index,
  locale_id)
  SELECT id, 21, 3, id, {property}, -1, 1 FROM made WHERE id > {base};
"""
BARE = """
WITH RECURSIVE hit AS ({hit} OFFSET 0),
climb (leaf, parent, path, depth) AS (
  SELECT c.child_node_id, c.parent_node_id, '/' || p.string_value, 1 FROM hit
  JOIN alf_child_assoc c ON c.child_node_id = hit.id AND c.is_primary
  LEFT JOIN alf_node_properties p ON p.node_id = c.child_node_id AND p.qname_id = {name}
  UNION ALL
  SELECT climb.leaf, c.parent_node_id, '/' || p.string_value || climb.path, depth + 1
  FROM climb JOIN alf_child_assoc c ON c.child_node_id = climb.parent AND c.is_primary
  LEFT JOIN alf_node_properties p ON p.node_id = c.child_node_id AND p.qname_id = {name}
)
SELECT DISTINCT ON (leaf) n.uuid, path, n.audit_creator, n.audit_created, n.audit_modifier, n.audit_modified,
  label.string_value, u.content_url, u.content_size, m.mimetype_str
FROM climb JOIN alf_node n ON n.id = leaf
LEFT JOIN alf_node_properties label ON label.node_id = leaf AND label.qname_id = {label}
LEFT JOIN alf_node_properties c ON c.node_id = leaf AND c.qname_id = {property}
LEFT JOIN alf_content_data d ON d.id = c.long_value LEFT JOIN alf_content_url u ON u.id = d.content_url_id
LEFT JOIN alf_mimetype m ON m.id = d.content_mimetype_id
ORDER BY leaf, depth DESC
"""
NAMED = "SELECT node_id AS id FROM alf_node_properties WHERE qname_id = {name} AND string_value "


@dataclass(frozen=True)
class Search:
    """A search, the bare SQL for its nodes, and how long it may take at 1,000,000 nodes."""

    what: str
    criteria: Criteria
    hit: str
    seconds: float = PATTERN_SECONDS


def fill(cluster: Cluster, store: Path, nodes: int) -> dict[str, object]:
    """A database with so many documents in 1,000 folders of a site; the numbers that statements need."""
    cluster.sql(f"CREATE DATABASE {DATABASE}")
    cluster.sql_file(SCHEMA, DATABASE)
    library = Library(cluster, store, database=DATABASE)
    top = library.items[library.make_site("large")].number
    library.add(library.sites, "one of its own.txt", size=10)
    names = {key: library._rows.qname(name) for key, name in NAMES.items()}
    library.close()
    ((transaction, cm, spaces),) = cluster.sql(
        "SELECT (SELECT max(id) FROM alf_transaction), (SELECT id FROM alf_namespace WHERE uri LIKE "
        "'%/model/content/1.0'), (SELECT id FROM alf_store WHERE protocol = 'workspace' AND identifier = "
        "'SpacesStore')",
        DATABASE,
    )
    numbers = {
        "base": BASE,
        "nodes": nodes,
        "store": spaces,
        "transaction": transaction,
        "cm": cm,
        "top": top,
    }
    script = store.with_suffix(".sql")
    rows = NODES.format(**numbers, **names, folders=FOLDERS)
    script.write_text(WITHOUT_INDEXES + rows + WITH_INDEXES)
    argv = (*cluster.psql_argv(DATABASE), "-1", "-f", str(script))
    run(Command(argv, LIMIT, cluster.environment()))
    run(Command((*cluster.psql_argv(DATABASE), "-c", "VACUUM ANALYZE"), LIMIT, cluster.environment()))
    return {**names, "store": spaces}


def searches(nodes: int, numbers: dict[str, object]) -> list[Search]:
    middle = nodes // 2
    folder = "/Company Home/Sites/large/documentLibrary/folder 7"
    named = NAMED.format(**numbers)
    since = datetime(2016, 1, 1, tzinfo=UTC).timestamp() + (nodes - 500) * 300
    text = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return [
        Search(
            "a name",
            Criteria(name=f"report {middle}.PDF"),
            f"{named} ILIKE 'report {middle}.PDF'",
            NAME_SECONDS,
        ),
        Search(
            "a node id",
            Criteria(nodes=(_uuid(middle),)),
            f"SELECT id FROM alf_node WHERE store_id = {numbers['store']} AND uuid = '{_uuid(middle)}'",
            NAME_SECONDS,
        ),
        Search("a pattern", Criteria(name="*t 7777*"), f"{named} ILIKE '%t 7777%'"),
        Search(
            "a folder",
            Criteria(path=folder, limit=2000),
            "SELECT c.child_node_id AS id FROM alf_child_assoc c JOIN alf_node_properties p ON p.node_id = "
            f"c.parent_node_id AND p.qname_id = {numbers['name']} AND p.string_value = 'folder 7'",
        ),
        Search(
            "who and a pattern",
            Criteria(creator="user77", name="*77.pdf"),
            f"{named} ILIKE '%77.pdf' "
            "AND node_id IN (SELECT id FROM alf_node WHERE audit_creator = 'user77')",
        ),
        Search(
            "changed since",
            Criteria(changed_since=datetime.fromtimestamp(since, UTC)),
            f"SELECT id FROM alf_node WHERE audit_modified >= '{text}' AND store_id = {numbers['store']}",
        ),
    ]


@dataclass(frozen=True)
class Timed:
    """What a task counted, and its seconds in some rounds."""

    found: int
    seconds: tuple[float, ...]

    @property
    def words(self) -> str:
        return f"{min(self.seconds):.2f} s (median {statistics.median(self.seconds):.2f} s)"


def timed(*tasks: Callable[[], int]) -> tuple[list[Timed], float]:
    """Tasks in turn, and this process's peak memory in MiB."""
    seconds: list[list[float]] = [[] for _ in tasks]
    for _ in range(ROUNDS):
        found = []
        for task, taken in zip(tasks, seconds, strict=True):
            begin = time.monotonic()
            found.append(task())
            taken.append(time.monotonic() - begin)
    return [Timed(*each) for each in zip(found, map(tuple, seconds), strict=True)], peak_memory()


def search_once(database: Database, criteria: Criteria) -> int:
    return len(search(database, criteria).nodes)


def bare_once(database: Database, sql: str) -> int:
    return sum(1 for _ in database.stream(sql, 3600))


def details_once(database: Database, nodes: Sequence[Node]) -> int:
    return sum(1 for _ in read_details(database, nodes, with_versions=True))


def measure(database: Database, nodes: int, numbers: dict[str, object]) -> None:
    for each in searches(nodes, numbers):
        bare = BARE.format(hit=each.hit, **numbers)
        (ours, theirs), peak = _fresh(
            partial(search_once, database, each.criteria), partial(bare_once, database, bare)
        )
        print(
            f"{each.what:>18} of {nodes:,} nodes: {ours.found:,} found in {ours.words}, bare SQL "
            f"{theirs.found:,} in {theirs.words}, {min(ours.seconds) / min(theirs.seconds):.2f} times "
            f"(targets {each.seconds:g} s, {RATIO_TARGET:g} times), peak {peak:.0f} MiB",
            flush=True,
        )
    for count in (100, 1000, 10000):
        found_nodes = search(database, Criteria(name="report*", limit=count)).nodes
        (details,), peak = _fresh(partial(details_once, database, found_nodes))
        print(
            f"{'all details':>18} of {details.found:,} documents: {details.words}, peak {peak:.0f} MiB",
            flush=True,
        )


def _fresh(*tasks: Callable[[], int]) -> tuple[list[Timed], float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(timed, tasks)


def show_plans(database: Database, nodes: int, numbers: dict[str, object]) -> None:
    for each in searches(nodes, numbers):
        print(f"\n{each.what}")
        for row in database.query(f"EXPLAIN ANALYZE {wanted(each.criteria)} LIMIT 1001"):
            print("   ", row[0])


def _uuid(number: int) -> str:
    return str(uuid.UUID(hashlib.md5(f"node{number}".encode(), usedforsecurity=False).hexdigest()))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--plans", action="store_true")
    options = parser.parse_args(arguments)
    for nodes in options.nodes:
        directory = Path(tempfile.mkdtemp(prefix="documents-"))
        directory.chmod(0o755)
        cluster = Cluster(
            default_bindir(), directory / "data", durable=False, account=server_account()
        ).create()
        cluster.configure(shared_buffers="256MB", maintenance_work_mem="256MB", max_wal_size="4GB")
        try:
            cluster.start()
            begin = time.monotonic()
            numbers = fill(cluster, directory / "store", nodes)
            print(f"{nodes:,} nodes made in {time.monotonic() - begin:.0f} s", flush=True)
            programs = Programs(client_bindir(cluster.bindir), cluster.version)
            database = Database(
                programs, cluster.environment() | {"PGDATABASE": DATABASE}, timeout_seconds=600
            )
            measure(database, nodes, numbers)
            if options.plans:
                show_plans(database, nodes, numbers)
        finally:
            cluster.stop("immediate")
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
