"""A library in a database of its own, and what reading it must give."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from alfresco_backup.documents.criteria import SITES, Criteria
from alfresco_backup.documents.nodes import LIVE_STORE, TRASHCAN, Node, NodeDetails
from alfresco_backup.documents.queries import absent_tables, read_details
from alfresco_backup.documents.search import by_uuid, search, search_trashcan
from alfresco_backup.postgres.database import Database
from alfresco_backup.postgres.programs import Programs
from demo.cluster import Cluster, client_bindir
from demo.library import ODD_NAMES, Library, every_type

SCHEMA = Path(__file__).parents[2] / "demo/schema.sql"
DATABASE, WHOLE = "library", "with everything.txt"
MANY = 100_000


def database_of(cluster: Cluster, name: str = DATABASE) -> Database:
    programs = Programs(client_bindir(cluster.bindir), cluster.version)
    return Database(programs, cluster.environment() | {"PGDATABASE": name})


def make_library(cluster: Cluster, store: Path, schema: Sequence[Path] = (SCHEMA,)) -> Library:
    cluster.sql(f"CREATE DATABASE {DATABASE}")
    for script in schema:
        cluster.sql_file(script, DATABASE)
    return Library(cluster, store, database=DATABASE)


def furnish(library: Library) -> None:
    """Every odd document, live and in the trashcan, and what a working host does."""
    folder = library.make_folder(library.make_site("sales", private=True), "odd ones")
    odd = library.add_odd(folder)
    library.update(odd[1], "second")
    for node in odd[1::2]:
        library.delete(node)
    library.set_permission(folder, "O'Neill", "Coordinator", allowed=False)
    library.set_permission(odd[0], "GROUP_ünit", "Editor", inherits=False)
    library.work(60)
    library.add(folder, WHOLE, properties=every_type())
    lost = library.make_folder(folder, "deleted as a whole")
    library.add(library.make_folder(lost, "within"), "deep.txt")
    library.delete(library.add(lost, "deleted before.txt"))
    library.delete(lost)
    library.rename(folder, 'Odd: "ones"')


def read(library: Library, nodes: Sequence[Node], *, with_versions: bool = True) -> list[NodeDetails]:
    database = database_of(library.cluster, library.database)
    return list(read_details(database, nodes, with_versions=with_versions))


def check_details(library: Library) -> None:
    """What is read of every document and folder is what the library remembers, value by value."""
    remembered = list(library.state().values())
    absent = absent_tables(database_of(library.cluster, library.database))
    for found, wanted in zip(read(library, [one.node for one in remembered]), remembered, strict=True):
        assert replace(found, warnings=()) == wanted
        assert tuple(warning.split()[2].rstrip(":") for warning in found.warnings) == absent
    kinds = {one.type for details in remembered for one in details.properties}
    assert kinds >= {"text", "mltext", "int", "long", "float", "double", "datetime", "boolean", "qname"}
    assert kinds >= {"noderef", "childassocref", "locale", "period", "content", "any", "encrypted"}
    assert any(one.node.in_trashcan and len(one.versions) > 1 for one in remembered)


def check_searches(library: Library) -> None:
    """Every search finds those nodes that fit by what the library remembers, and none besides."""
    database = database_of(library.cluster, library.database)
    nodes = {uuid: details.node for uuid, details in library.state().items()}
    assert by_uuid(database, list(nodes)) == nodes
    for store, ask in ((LIVE_STORE, search), (TRASHCAN, search_trashcan)):
        there = [node for node in nodes.values() if node.store == store and node.path != "/Company Home"]
        for criteria in _searches(library.commits[0].committed_at, nodes[library.company_home]):
            found = ask(database, criteria)
            wanted = {node.uuid: node for node in there if _fits(node, criteria)}
            assert {node.uuid: node for node in found.nodes} == wanted, criteria


def _searches(begin: datetime, home: Node) -> list[Criteria]:
    names = ("*", "*.TXT", "renamed ?*.txt", WHOLE.upper(), "nothing of that name", *ODD_NAMES[:6])
    folder = '/Company Home/Sites/sales/documentLibrary/Odd: "ones"'
    others = [
        Criteria(path=folder, limit=MANY),
        Criteria(site="sales", limit=MANY),
        Criteria(path=f"{folder}/{WHOLE}", limit=MANY),
        Criteria(creator="O'Neill", limit=MANY),
        Criteria(modifier="björn", name="*.txt", limit=MANY),
        Criteria(changed_since=begin.astimezone(UTC), limit=MANY),
        Criteria(nodes=(home.uuid,), limit=MANY),
    ]
    return [Criteria(name=name, limit=MANY) for name in names] + others


def _fits(node: Node, criteria: Criteria) -> bool:
    pattern = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in criteria.name)
    path = criteria.path or (f"{SITES}/{criteria.site}" if criteria.site else "")
    return (
        (not criteria.name or bool(re.fullmatch(pattern, node.name, re.DOTALL | re.IGNORECASE)))
        and (not path or node.path == path or node.path.startswith(f"{path}/"))
        and criteria.creator in ("", node.creator)
        and criteria.modifier in ("", node.modifier)
        and (
            not criteria.changed_since or (node.modified or criteria.changed_since) >= criteria.changed_since
        )
        and (not criteria.nodes or node.uuid in criteria.nodes)
    )
