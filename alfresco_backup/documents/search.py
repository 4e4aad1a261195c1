"""Which nodes of Alfresco's database fit what is asked for. Works with any copy of it, 9.4 and later."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from alfresco_backup.contentstore.check_queries import (
    DEEPEST_PATH,
    ENCRYPTION_TABLE,
    paths_of,
    paths_of_listed,
    qname,
)
from alfresco_backup.documents.criteria import SITES, Criteria, name_test
from alfresco_backup.documents.nodes import LIVE_STORE, TRASHCAN, ContentFile, Node
from alfresco_backup.documents.qnames import prefixed
from alfresco_backup.documents.queries import absent_tables, content_columns
from alfresco_backup.documents.values import parse_time
from alfresco_backup.errors import ToolFailed
from alfresco_backup.postgres.database import SCRIPT_FAILED, Database, quoted_literal

SEARCH_SECONDS = 900.0
LIVE_SECONDS = 600
BATCH = 1000
GONE_FOLDER = "/(a folder that is gone)"
OPTIONAL_TABLES = ("alf_mimetype", "alf_encoding", ENCRYPTION_TABLE)
FOLDER_TYPES = ("folder", "systemfolder", "site", "sites")


@dataclass(frozen=True)
class Found:
    """The nodes that fit, by path; `more`: there are more than the limit. `absent`: tables that are not.

    `unplaced`: so many in the trashcan may fit besides, whose path is not known as their folder is gone.
    """

    nodes: tuple[Node, ...]
    more: bool = False
    absent: tuple[str, ...] = ()
    unplaced: int = 0


def only_asking(database: Database) -> Database:
    """The live database: asked in read-only transactions, no statement for longer than LIVE_SECONDS.

    The server itself ends a statement then, whatever became of the client.
    """
    options = f"-c default_transaction_read_only=on -c statement_timeout={LIVE_SECONDS}s"
    given = database.environment.get("PGOPTIONS", "")
    return replace(database, environment={**database.environment, "PGOPTIONS": f"{given} {options}".strip()})


def search(database: Database, criteria: Criteria) -> Found:
    """The documents and folders of the live store that fit. Raises ToolFailed where the database refuses."""
    try:
        return _search_at_once(database, criteria)
    except ToolFailed as failure:
        absent = absent_tables(database, OPTIONAL_TABLES) if failure.returncode == SCRIPT_FAILED else ()
        if not absent:
            raise
    found = [
        row[0] for row in database.stream(f"{wanted(criteria)} LIMIT {criteria.limit + 1}", SEARCH_SECONDS)
    ]
    return _found(
        [*read_nodes(database, found[: criteria.limit], absent)], len(found) > criteria.limit, absent
    )


def _search_at_once(database: Database, criteria: Criteria) -> Found:
    """In one psql and connection, which take longer than most searches. Fails where a table is absent.

    Two statements: one alone would be planned for as many nodes as the limit allows, and take many times
    longer for one node.
    """
    tables = ", ".join(f"'{name}'::regclass" for name in OPTIONAL_TABLES)
    first = (
        "SELECT coalesce(string_agg(id::text, ',' ORDER BY place) FILTER (WHERE place <= "
        f"{criteria.limit}), 'NULL') AS numbers, count(*) > {criteria.limit} AS more, "
        f"ARRAY[{tables}]::text AS tables FROM (SELECT id, row_number() OVER () AS place "
        f"FROM ({wanted(criteria)} LIMIT {criteria.limit + 1}) hit) hits"
    )
    described = _described(":numbers", ())
    more, *rows = database.stream_after(first, ["SELECT :'more'::text", described], SEARCH_SECONDS)
    return _found([_node(row) for row in rows], more == ["t"], ())


def _found(nodes: Iterable[Node], more: bool, absent: Sequence[str]) -> Found:
    return Found(tuple(sorted(nodes, key=lambda node: node.path)), more, tuple(absent))


def search_trashcan(database: Database, criteria: Criteria) -> Found:
    """What fits of what was deleted and is not purged, with the path it had; a path means that one, too.

    By path every node of the trashcan is looked at, in batches: memory does not grow with their count.
    """
    absent = absent_tables(database, OPTIONAL_TABLES)
    folders = _folders(database, criteria)
    sql = f"{_wanted(criteria, TRASHCAN, '')}{_deleted_first(criteria)}"
    enough = criteria.limit + 1
    fitting: list[Node] = []
    unplaced = 0
    with closing(database.stream(sql if folders else f"{sql} LIMIT {enough}", SEARCH_SECONDS)) as rows:
        for batch in _batches(row[0] for row in rows):
            place = {number: index for index, number in enumerate(batch)}
            described = sorted(read_nodes(database, batch, absent), key=lambda node: place[str(node.number)])
            unplaced += sum(_is_below(node.path, [GONE_FOLDER]) for node in described) if folders else 0
            fitting += [node for node in described if not folders or _is_below(node.path, folders)]
            if len(fitting) >= enough:
                break
    shown = tuple(sorted(fitting[: criteria.limit], key=lambda node: node.path))
    return Found(shown, len(fitting) > criteria.limit, absent, unplaced)


def search_both(database: Database, criteria: Criteria) -> Found:
    """What fits in the live store, then what fits in the trashcan, each up to the limit."""
    live = Found(()) if criteria.deleted_since else search(database, criteria)
    trash = search_trashcan(database, criteria)
    absent = dict.fromkeys((*live.absent, *trash.absent))
    return Found((*live.nodes, *trash.nodes), live.more or trash.more, tuple(absent), trash.unplaced)


def wanted(criteria: Criteria) -> str:
    """The statement for the numbers of what fits in the live store."""
    path = criteria.path.rstrip("/")
    top = _by_path(path) if path else _site(criteria.site) if criteria.site else ""
    return _wanted(criteria, LIVE_STORE, top)


def _folders(database: Database, criteria: Criteria) -> list[str]:
    """The paths that everything wanted is at or below one of; none for no such condition."""
    if criteria.site:
        sites = [row[0] for row in database.stream(_all_sites(), SEARCH_SECONDS)]
        return [f"{path}/{criteria.site}" for path in read_paths(database, sites).values() or [SITES]]
    path = criteria.path.rstrip("/")
    return [path] if path else []


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _batches(numbers: Iterable[str]) -> Iterator[list[str]]:
    source = iter(numbers)
    while batch := list(islice(source, BATCH)):
        yield batch


def by_uuid(database: Database, uuids: Sequence[str]) -> dict[str, Node]:
    """What nodes are by now, in the live store or the trashcan, by uuid; those that are gone are missing."""
    absent = absent_tables(database, OPTIONAL_TABLES)
    found: dict[str, Node] = {}
    for start in range(0, len(uuids), BATCH):
        listed = ", ".join(quoted_literal(uuid) for uuid in uuids[start : start + BATCH])
        stores = f"{store_number(LIVE_STORE)}, {store_number(TRASHCAN)}"
        sql = (
            f"SELECT n.id FROM alf_node n WHERE n.store_id IN ({stores}) AND n.uuid IN ({listed}) "
            f"AND {_is_no_trace()}"
        )
        numbers = [row[0] for row in database.stream(sql, SEARCH_SECONDS)]
        for node in read_nodes(database, numbers, absent):
            if node.uuid not in found or node.store == LIVE_STORE:
                found[node.uuid] = node
    return found


def _by_path(path: str) -> str:
    """The statement for the number of the node at a path of names. Capitals matter."""
    current = f"SELECT root_node_id FROM alf_store WHERE {_is_store(LIVE_STORE)}"
    for name in path.strip("/").split("/"):
        current = (
            "SELECT c.child_node_id FROM alf_child_assoc c JOIN alf_node_properties p "
            f"ON p.node_id = c.child_node_id AND p.qname_id = {qname('name')} "
            f"WHERE c.is_primary AND c.parent_node_id = ({current}) "
            f"AND p.string_value = {quoted_literal(name)} LIMIT 1"
        )
    return current


def _all_sites() -> str:
    """The folder of all sites by its type: its name and Company Home's are in the language in which Alfresco
    was first started.
    """
    return (
        f"SELECT n.id FROM alf_node n WHERE n.store_id = {store_number(LIVE_STORE)} "
        f"AND n.type_qname_id = {qname('sites', 'site/1.0')}"
    )


def _site(name: str) -> str:
    """The statement for the number of a site of that short name, which is its cm:name."""
    return (
        "SELECT c.child_node_id FROM alf_child_assoc c JOIN alf_node_properties p "
        f"ON p.node_id = c.child_node_id AND p.qname_id = {qname('name')} "
        f"WHERE c.is_primary AND c.parent_node_id IN ({_all_sites()}) "
        f"AND p.string_value = {quoted_literal(name)}"
    )


def with_all_below(database: Database, uuids: Sequence[str], limit: int) -> tuple[Found, int]:
    """Nodes of the live store and the trashcan by their ids, folders with all below them; and how many.

    None are read where there are more than `limit`.
    """
    absent = absent_tables(database, OPTIONAL_TABLES)
    tree = _tree(uuids)
    count = int(database.value(f"SELECT count(*) FROM ({tree}) found"))
    numbers = [row[0] for row in database.stream(tree, SEARCH_SECONDS)] if count <= limit else []
    nodes = sorted(read_nodes(database, numbers, absent), key=lambda node: (node.path, node.number))
    return Found(tuple(nodes), count > limit, absent), count


def _tree(uuids: Sequence[str]) -> str:
    stores = " OR ".join(f"({_is_store(store)})" for store in (LIVE_STORE, TRASHCAN))
    return (
        "WITH RECURSIVE below (id, depth) AS (SELECT n.id, 0 FROM alf_node n "
        f"WHERE n.store_id IN (SELECT id FROM alf_store WHERE {stores}) "
        f"AND n.uuid IN ({', '.join(map(quoted_literal, uuids))}) "
        f"AND {_is_no_trace()} UNION "
        "SELECT c.child_node_id, below.depth + 1 FROM below JOIN alf_child_assoc c "
        f"ON c.parent_node_id = below.id AND c.is_primary AND c.type_qname_id = {qname('contains')} "
        f"WHERE below.depth < {DEEPEST_PATH}) SELECT DISTINCT id FROM below"
    )


def _is_no_trace() -> str:
    """Whether a node is one: of type sys:deleted is what Alfresco leaves of one that was deleted, under the
    same id in the same store, until its cleaner comes (AbstractNodeDAOImpl).
    """
    return f"n.type_qname_id IS DISTINCT FROM {qname('deleted', 'system/1.0')}"


def read_nodes(database: Database, numbers: Sequence[str], absent: Sequence[str]) -> Iterator[Node]:
    """The nodes of these numbers, in batches: memory does not grow with their count."""
    for start in range(0, len(numbers), BATCH):
        batch = numbers[start : start + BATCH]
        if not batch:
            return
        described = [
            _node(row) for row in database.stream(_described(_listed(batch), absent), SEARCH_SECONDS)
        ]
        deleted = [str(node.number) for node in described if node.in_trashcan]
        paths = former_paths(database, deleted)
        for node in described:
            yield replace(node, path=paths.get(str(node.number)) or node.path)


def read_paths(database: Database, numbers: Sequence[str]) -> dict[str, str]:
    """The paths of nodes by their numbers."""
    return dict(database.stream(paths_of(numbers), SEARCH_SECONDS)) if numbers else {}


def former_paths(database: Database, numbers: Sequence[str]) -> dict[str, str]:
    """The paths that nodes of the trashcan had, by number.

    What was deleted is there below the root with all that it had below it. sys:archivedOriginalParentAssoc
    of it names the folder it was in, as `parent|child|type|name|primary|position` (archiveHierarchyImpl in
    DbNodeServiceImpl.java, ChildAssociationRef.toString). That one may have been deleted since as well.
    """
    found: dict[str, str] = {}
    tails = {number: (number, "") for number in numbers}
    for _ in range(DEEPEST_PATH):
        if not tails:
            break
        origins = _origins(database, sorted({number for number, _ in tails.values()}))
        live = read_paths(database, [folder for _, folder, store in origins.values() if store == LIVE_STORE])
        pending: dict[str, tuple[str, str]] = {}
        for leaf, (number, tail) in tails.items():
            inside, folder, store = origins.get(number, ("", "", ""))
            if store == TRASHCAN:
                pending[leaf] = (folder, f"{inside}{tail}")
            elif inside:
                found[leaf] = f"{live.get(folder, GONE_FOLDER)}{inside}{tail}"
        tails = pending
    return found


def _origins(database: Database, numbers: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Of nodes in the trashcan: path from what was deleted, number and store of the folder that was in.

    Number and store are empty where that folder is gone.
    """
    if not numbers:
        return {}
    rows = database.stream(_origins_query(numbers), SEARCH_SECONDS)
    return {number: (path, folder, store) for number, path, folder, store in rows}


def _wanted(criteria: Criteria, store: str, top: str) -> str:
    """The numbers of the nodes that fit. What hangs below others by cm:contains, and what was deleted."""
    conditions = [f"n.store_id = {store_number(store)}"]
    if criteria.nodes:
        conditions.append(f"n.uuid IN ({', '.join(map(quoted_literal, criteria.nodes))})")
    if criteria.name:
        operator, pattern = name_test(criteria.name)
        conditions.append(
            f"n.id IN (SELECT node_id FROM alf_node_properties WHERE qname_id = {qname('name')} "
            f"AND string_value {operator} {quoted_literal(pattern)})"
        )
    if criteria.creator:
        conditions.append(f"n.audit_creator = {quoted_literal(criteria.creator)}")
    if criteria.modifier:
        conditions.append(f"n.audit_modifier = {quoted_literal(criteria.modifier)}")
    if criteria.changed_since:
        day = (criteria.changed_since - timedelta(days=1)).date().isoformat()
        conditions.append(f"n.audit_modified >= '{day}'")  # as text, in any time zone: an index serves that
        conditions.append(f"n.audit_modified::timestamptz >= {_time(criteria.changed_since)}")
    if criteria.deleted_since:
        conditions.append(f"n.id IN ({_below(_deleted_since(criteria.deleted_since))})")
    if top:
        conditions.append(f"n.id IN ({_below(top)})")
    conditions.append(_is_shown(store))
    return f"SELECT n.id FROM alf_node n WHERE {' AND '.join(conditions)}"


def _is_shown(store: str) -> str:
    """What people see as a document or folder: in a folder, or itself deleted into the trashcan."""
    contained = (
        "EXISTS (SELECT 1 FROM alf_child_assoc c WHERE c.child_node_id = n.id AND c.is_primary "
        f"AND c.type_qname_id = {qname('contains')})"
    )
    if store != TRASHCAN:
        return contained
    archived = (
        "EXISTS (SELECT 1 FROM alf_node_aspects a WHERE a.node_id = n.id "
        f"AND a.qname_id = {qname('archived', 'system/1.0')})"
    )
    return f"({contained} OR {archived})"


def _deleted_first(criteria: Criteria) -> str:
    """What was itself deleted comes before what was in it: that alone can come out of the trashcan."""
    if not criteria.deleted_since:
        return ""
    return (
        " ORDER BY EXISTS (SELECT FROM alf_node_properties a WHERE a.node_id = n.id "
        f"AND a.qname_id = {qname('archivedDate', 'system/1.0')}) DESC"
    )


def _deleted_since(time: datetime) -> str:
    """What was itself deleted since. Alfresco dates that alone, nothing of what it had below it."""
    return (
        f"SELECT node_id FROM alf_node_properties WHERE qname_id = {qname('archivedDate', 'system/1.0')} "
        f"AND string_value::timestamptz >= {_time(time)}"
    )


def _below(tops: str) -> str:
    """The nodes that a statement gives, and all below them."""
    return (
        f"WITH RECURSIVE below (id, depth) AS (SELECT tops.*, 0 FROM ({tops}) tops UNION ALL "
        "SELECT c.child_node_id, below.depth + 1 FROM below JOIN alf_child_assoc c "
        f"ON c.parent_node_id = below.id AND c.is_primary WHERE below.depth < {DEEPEST_PATH}) "
        "SELECT id FROM below"
    )


def _origins_query(numbers: Sequence[str]) -> str:
    name = f"coalesce({_string('c.child_node_id', 'name')}, c.qname_localname)::text"
    origin = _string("top.node", "archivedOriginalParentAssoc", "system/1.0")
    return f"""
WITH RECURSIVE climb (leaf, node, parent, path, depth) AS (
  SELECT c.child_node_id, c.child_node_id, c.parent_node_id, '/' || {name}, 1
  FROM alf_child_assoc c WHERE c.is_primary AND c.child_node_id IN ({_listed(numbers)})
  UNION ALL
  SELECT climb.leaf, c.child_node_id, c.parent_node_id, '/' || {name} || climb.path, climb.depth + 1
  FROM climb JOIN alf_child_assoc c ON c.child_node_id = climb.parent AND c.is_primary
  WHERE climb.depth < {DEEPEST_PATH}
), top AS (SELECT DISTINCT ON (leaf) leaf, node, path FROM climb ORDER BY leaf, depth DESC)
SELECT DISTINCT ON (top.leaf) top.leaf, top.path, coalesce(n.id::text, ''),
  coalesce(s.protocol || '://' || s.identifier, '')
FROM top
LEFT JOIN alf_node n ON n.uuid = split_part(split_part({origin}, '|', 1), '/', 4)
  AND n.store_id IN ({store_number(LIVE_STORE)}, {store_number(TRASHCAN)}) AND {_is_no_trace()}
LEFT JOIN alf_store s ON s.id = n.store_id
ORDER BY top.leaf, s.protocol DESC"""


def _string(node: str, name: str, model: str = "content/1.0") -> str:
    """A text property of a node, as a part of another statement."""
    return (
        f"(SELECT p.string_value FROM alf_node_properties p WHERE p.node_id = {node} "
        f"AND p.qname_id = {qname(name, model)} LIMIT 1)"
    )


def _listed(numbers: Iterable[str]) -> str:
    return ", ".join(str(int(each)) for each in numbers)


def _described(numbers: str, absent: Sequence[str]) -> str:
    """One row for each node of these numbers, with commas between them, in the order that _node reads."""
    columns, content = content_columns((*absent, "alf_locale"), "c.long_value")
    joins = [
        "JOIN alf_store s ON s.id = n.store_id",
        "JOIN alf_qname t ON t.id = n.type_qname_id JOIN alf_namespace tn ON tn.id = t.ns_id",
        f"LEFT JOIN alf_node_properties p ON p.node_id = n.id AND p.qname_id = {qname('name')}",
        f"LEFT JOIN alf_node_properties v ON v.node_id = n.id AND v.qname_id = {qname('versionLabel')}",
        f"LEFT JOIN alf_node_properties c ON c.node_id = n.id AND c.qname_id = {qname('content')} "
        "AND c.actual_type_n IN (3, 21)",
        content,
        f"LEFT JOIN ({paths_of_listed(numbers)}) way ON way.leaf = n.id",
    ]
    return (
        "SELECT n.id, n.uuid, p.string_value, tn.uri, t.local_name, s.protocol || '://' || s.identifier, "
        f"n.audit_creator, n.audit_created, n.audit_modifier, n.audit_modified, v.string_value, "
        f"way.path, {columns} "
        f"FROM alf_node n {' '.join(joins)} WHERE n.id IN ({numbers})"
    )


def _node(row: Sequence[str]) -> Node:
    number, uuid, name, uri, local, store, creator, created, modifier, modified, label = row[:11]
    path, url, size, mimetype, encoding, _, encrypted = row[11:]
    content = ContentFile(url, int(size or 0), mimetype, encoding, encrypted == "t") if url else None
    return Node(
        number=int(number),
        uuid=uuid,
        name=name or uuid,
        path=path or f"/{name or uuid}",
        type=prefixed(uri, local),
        is_folder=content is None and local in FOLDER_TYPES,
        store=store,
        content=content,
        version_label=label,
        creator=creator,
        created=parse_time(created),
        modifier=modifier,
        modified=parse_time(modified),
    )


def _is_store(store: str) -> str:
    protocol, _, identifier = store.partition("://")
    return f"protocol = '{protocol}' AND identifier = '{identifier}'"


def store_number(store: str) -> str:
    """The number of a store, as a part of another statement."""
    return f"(SELECT id FROM alf_store WHERE {_is_store(store)})"


def _time(time: datetime) -> str:
    return f"{quoted_literal(time.isoformat())}::timestamptz"
