"""What Alfresco's tables say of documents besides where they are: read in batches, a statement a table.

Runs on PostgreSQL 9.4 and later, Alfresco 4.2 and later. Builders are pure; `read_*` ask the database.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from alfresco_backup.contentstore.check_queries import ENCRYPTION_TABLE, qname
from alfresco_backup.documents.nodes import (
    ContentFile,
    Node,
    NodeDetails,
    Permission,
    Property,
    Version,
)
from alfresco_backup.documents.qnames import prefixed
from alfresco_backup.documents.values import DEFAULT_LOCALE, Row, parse_time, property_of
from alfresco_backup.postgres.database import Database, quoted_literal

BATCH = 1000  # the longest of its statements, with as many node ids, is half of what an argument may be
STREAM_SECONDS = 3600.0
NAMES = ("alf_namespace", "alf_qname")
CONTENT = ("alf_content_data", "alf_content_url")
PERMISSIONS = (
    "alf_node",
    "alf_access_control_list",
    "alf_acl_member",
    "alf_access_control_entry",
    "alf_permission",
    "alf_authority",
)
VERSION_MODEL = "versionstore/2.0"
VERSIONS = (*NAMES, "alf_node", "alf_node_properties")
TABLES = (
    *NAMES,
    "alf_node_properties",
    "alf_node_aspects",
    "alf_locale",
    *CONTENT,
    ENCRYPTION_TABLE,
    "alf_mimetype",
    "alf_encoding",
    *PERMISSIONS,
)
_WITHOUT = {
    "alf_locale": "languages of texts are numbers",
    "alf_content_data": "no content is known",
    "alf_content_url": "no content is known",
    ENCRYPTION_TABLE: "content is taken as not encrypted",
    "alf_mimetype": "no mimetype is known",
    "alf_encoding": "no encoding is known",
    "alf_node_aspects": "no aspects are known",
    "alf_node_properties": "no properties and no versions are known",
    "alf_namespace": "no properties, aspects and versions are known",
    "alf_qname": "no properties, aspects and versions are known",
    "alf_node": "no permissions and no versions are known",
}


def absent_tables(database: Database, names: Sequence[str] = TABLES) -> tuple[str, ...]:
    """Those of the tables that this database does not have: an older or a reduced schema."""
    found = {row[0] for row in database.query(absent_query(names))}
    return tuple(name for name in names if name in found)


def absent_query(names: Sequence[str]) -> str:
    """One row for each of the tables that is absent, its name."""
    return " UNION ALL ".join(f"SELECT '{name}' WHERE to_regclass('{name}') IS NULL" for name in names)


def read_details(database: Database, nodes: Sequence[Node], *, with_versions: bool) -> Iterator[NodeDetails]:
    """What is exported of each node, in their order; each with the Node it was asked with.

    Four statements for 1,000 nodes; memory holds one such batch. A node that is gone has no properties.
    What an absent table would have told is empty, with one warning a table.
    """
    absent = absent_tables(database)
    warnings = tuple(f"no table {name}: {_WITHOUT.get(name, 'no permissions are known')}" for name in absent)
    for start in range(0, len(nodes), BATCH):
        batch = nodes[start : start + BATCH]
        numbers = [node.number for node in batch]
        properties = read_properties(database, numbers, absent)
        aspects = read_aspects(database, numbers, absent)
        permissions = read_permissions(database, numbers, absent)
        versions = read_versions(database, [node.uuid for node in batch], absent) if with_versions else {}
        for node in batch:
            inherits, granted = permissions.get(node.number, (True, ()))
            yield NodeDetails(
                node=node,
                properties=properties.get(node.number, ()),
                aspects=aspects.get(node.number, ()),
                permissions=granted,
                inherits_permissions=inherits,
                versions=versions.get(node.uuid, ()),
                warnings=warnings,
            )


def read_properties(
    database: Database, numbers: Sequence[int], absent: Collection[str]
) -> dict[int, tuple[Property, ...]]:
    """The properties of each node by their names, content properties among them."""
    if {*NAMES, "alf_node_properties"} & {*absent}:
        return {}
    found: dict[int, list[Property]] = {}
    lines = database.stream(properties_query(numbers, absent), STREAM_SECONDS)
    rows = ((int(line[0]), _row(line)) for line in lines)
    for (number, _), group in groupby(rows, lambda pair: (pair[0], pair[1].name)):
        found.setdefault(number, []).append(property_of([row for _, row in group]))
    return {number: tuple(sorted(each, key=lambda one: one.name)) for number, each in found.items()}


def properties_query(numbers: Sequence[int], absent: Collection[str]) -> str:
    """Rows of alf_node_properties, all of one property together, each with the value of its column as text.

    Floating point numbers by their bytes: until 12 their text has fewer digits than they have.
    """
    locale = "p.locale_id::text" if "alf_locale" in absent else "coalesce(l.locale_str, p.locale_id::text)"
    join = "" if "alf_locale" in absent else "LEFT JOIN alf_locale l ON l.id = p.locale_id"
    columns, joins = content_columns(absent, "CASE WHEN {} THEN p.long_value END".format(_is_content("p")))
    return f"""
SELECT p.node_id, ns.uri, q.local_name, p.actual_type_n, p.persisted_type_n, p.list_index,
  CASE WHEN p.actual_type_n IN (0, 6, 10) THEN {locale} ELSE '' END,
  CASE p.persisted_type_n WHEN 1 THEN p.boolean_value::text WHEN 3 THEN p.long_value::text
    WHEN 4 THEN encode(float4send(p.float_value), 'hex') WHEN 5 THEN encode(float8send(p.double_value), 'hex')
    WHEN 9 THEN encode(p.serializable_value, 'hex') ELSE p.string_value END,
  {columns}
FROM alf_node_properties p
JOIN alf_qname q ON q.id = p.qname_id
JOIN alf_namespace ns ON ns.id = q.ns_id
{join}
{joins}
WHERE p.node_id IN ({_numbers(numbers)})
ORDER BY p.node_id, p.qname_id, p.list_index, p.locale_id"""


def content_columns(absent: Collection[str], data: str) -> tuple[str, str]:
    """Columns URL, size, mimetype, encoding, locale and whether encrypted of the content data of a number,
    and the joins they need. All are empty where the number is NULL or the tables are absent.
    """
    if {*CONTENT} & {*absent}:
        return "'', '', '', '', '', false", ""
    joins = [
        f"LEFT JOIN alf_content_data cd ON cd.id = {data}",
        "LEFT JOIN alf_content_url cu ON cu.id = cd.content_url_id",
    ]
    names = []
    for name, column in (
        ("mimetype", "mimetype_str"),
        ("encoding", "encoding_str"),
        ("locale", "locale_str"),
    ):
        if f"alf_{name}" in absent:
            names.append("''")
        else:
            names.append(f"coalesce(c_{name}.{column}, '')")
            joins.append(f"LEFT JOIN alf_{name} c_{name} ON c_{name}.id = cd.content_{name}_id")
    encrypted = "false"
    if ENCRYPTION_TABLE not in absent:
        encrypted = "ce.id IS NOT NULL"
        joins.append(f"LEFT JOIN {ENCRYPTION_TABLE} ce ON ce.content_url_id = cu.id")
    columns = ["coalesce(cu.content_url, '')", "coalesce(cu.content_size::text, '')", *names, encrypted]
    return ", ".join(columns), "\n".join(joins)


def read_aspects(
    database: Database, numbers: Sequence[int], absent: Collection[str]
) -> dict[int, tuple[str, ...]]:
    """The aspects of each node by their prefixed names, in order."""
    if {*NAMES, "alf_node_aspects"} & {*absent}:
        return {}
    found: dict[int, list[str]] = {}
    for number, uri, name in database.stream(aspects_query(numbers), STREAM_SECONDS):
        found.setdefault(int(number), []).append(prefixed(uri, name))
    return {number: tuple(sorted(names)) for number, names in found.items()}


def aspects_query(numbers: Sequence[int]) -> str:
    return (
        "SELECT a.node_id, ns.uri, q.local_name FROM alf_node_aspects a "
        "JOIN alf_qname q ON q.id = a.qname_id JOIN alf_namespace ns ON ns.id = q.ns_id "
        f"WHERE a.node_id IN ({_numbers(numbers)})"
    )


def read_permissions(
    database: Database, numbers: Sequence[int], absent: Collection[str]
) -> dict[int, tuple[bool, tuple[Permission, ...]]]:
    """Whether each node inherits, and what is granted or denied on it: its own first, then what is inherited.

    Nodes without an access control list are left out. What Alfresco still has to pass down to a node after a
    change further up (sys:pendingFixAcl) is not in the tables yet.
    """
    if {*PERMISSIONS} & {*absent}:
        return {}
    found: dict[int, tuple[bool, set[Permission]]] = {}
    for line in database.stream(permissions_query(numbers), STREAM_SECONDS):
        number, inherits, authority, role, allowed, inherited = line
        _, granted = found.setdefault(int(number), (inherits == "t", set()))
        if role:
            granted.add(Permission(authority, role, allowed == "t", inherited == "t"))
    return {number: (inherits, tuple(sorted(each, key=_order))) for number, (inherits, each) in found.items()}


def permissions_query(numbers: Sequence[int]) -> str:
    """The entries of the nodes' lists. Position 0 is the node's own, higher ones come from further up; a
    shared list (type 2) is all inherited (AclDAOImpl).
    """
    return f"""
SELECT n.id, l.inherits, coalesce(au.authority, ''), coalesce(pe.name, ''), coalesce(e.allowed, false),
  coalesce(m.pos > 0 OR l.type = 2, false)
FROM alf_node n
JOIN alf_access_control_list l ON l.id = n.acl_id
LEFT JOIN alf_acl_member m ON m.acl_id = l.id
LEFT JOIN alf_access_control_entry e ON e.id = m.ace_id
LEFT JOIN alf_permission pe ON pe.id = e.permission_id
LEFT JOIN alf_authority au ON au.id = e.authority_id
WHERE n.id IN ({_numbers(numbers)})"""


def read_versions(
    database: Database, uuids: Sequence[str], absent: Collection[str]
) -> dict[str, tuple[Version, ...]]:
    """The versions of each document by its node id, oldest first. `number` is the version node's.

    Also of documents in the trashcan, whose history stays that of the node in its old place.
    """
    if {*VERSIONS} & {*absent}:
        return {}
    found: dict[str, list[Version]] = {}
    for line in database.stream(versions_query(uuids, absent), STREAM_SECONDS):
        reference, number, label, comment, modifier, modified, url, size, mimetype, encoding, _, coded = line
        content = ContentFile(url, int(size), mimetype, encoding, coded == "t") if url else None
        version = Version(label, int(number), comment, modifier, parse_time(modified), content)
        found.setdefault(reference.rpartition("/")[2], []).append(version)
    return {uuid: tuple(versions) for uuid, versions in found.items()}


def versions_query(uuids: Sequence[str], absent: Collection[str]) -> str:
    """Version nodes by the reference to the node they are of, which an index serves from 5.0.

    Who changed it is kept in frozen properties by older releases, in the version node itself by newer ones.
    """
    references = ", ".join(quoted_literal(f"workspace://SpacesStore/{uuid}") for uuid in uuids)
    columns, joins = content_columns(absent, "c.long_value")

    def frozen(alias: str, name: str) -> str:
        return (
            f"LEFT JOIN alf_node_properties {alias} ON {alias}.node_id = n.id "
            f"AND {alias}.qname_id = {qname(name, VERSION_MODEL)}"
        )

    return f"""
SELECT r.string_value, n.id, coalesce(label.string_value, ''), coalesce(comment.string_value, ''),
  coalesce(modifier.string_value, n.audit_modifier, ''),
  coalesce(modified.string_value, n.audit_modified, ''),
  {columns}
FROM alf_node_properties r
JOIN alf_node n ON n.id = r.node_id
{frozen("label", "versionLabel")}
{frozen("comment", "versionDescription")}
{frozen("modifier", "frozenModifier")}
{frozen("modified", "frozenModified")}
LEFT JOIN alf_node_properties c ON c.node_id = n.id AND c.qname_id = {qname("content")}
  AND c.actual_type_n IN (3, 21)
{joins}
WHERE r.qname_id = {qname("frozenNodeRef", VERSION_MODEL)} AND r.string_value IN ({references})
ORDER BY n.id"""


def _row(line: Sequence[str]) -> Row:
    _, uri, name, actual, persisted, position, locale, value, url, size, mimetype, encoding, language, _ = (
        line
    )
    content = {"url": url, "size": size, "mimetype": mimetype, "encoding": encoding}
    return Row(
        name=prefixed(uri, name),
        actual=int(actual),
        persisted=int(persisted),
        position=int(position),
        locale="" if locale == DEFAULT_LOCALE else locale.rstrip("_"),
        value=value,
        content=content | {"locale": language.rstrip("_")} if url else None,
    )


def _is_content(alias: str) -> str:
    """Whether a property's long_value is the number of content data (content-common-SqlMap.xml)."""
    of_content = f"{alias}.actual_type_n = 3 AND {alias}.qname_id = {qname('content')}"
    return f"({alias}.actual_type_n = 21 OR {of_content})"


def _order(permission: Permission) -> tuple[bool, str, str, bool]:
    return permission.inherited, permission.authority, permission.role, permission.allowed


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(str(int(value)) for value in values)
