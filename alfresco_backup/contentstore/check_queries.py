"""What the content check asks the database. Runs on PostgreSQL 9.4 and later, Alfresco 4.2 and later."""

from collections.abc import Sequence
from dataclasses import dataclass

ENCRYPTION_TABLE = "alf_content_url_encryption"
CHILD_TABLE = "alf_child_assoc"
DEEPEST_PATH = 100
NO_URL = "empty"


@dataclass(frozen=True)
class NodeOfContent:
    """A node that a content URL belongs to. `number` is empty when no node refers to the content."""

    url_id: str
    node: str
    number: str
    nodes: int
    name: str


def table_exists(name: str) -> str:
    """`t` when the table is there. to_regclass is known from 9.4."""
    return f"SELECT to_regclass('{name}') IS NOT NULL"


# reltuples is -1 before the first ANALYZE of 14 and later.
ESTIMATED_ROWS = "SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = 'alf_content_url'::regclass"


def live_urls(with_encryption: bool) -> str:
    """Number, URL, recorded size and whether encrypted, of every URL that content data refers to.

    In the order of the table, about that of the files on disk, since both are made one after the other.
    """
    join = f"LEFT JOIN {ENCRYPTION_TABLE} e ON e.content_url_id = u.id" if with_encryption else ""
    encrypted = "e.id IS NOT NULL" if with_encryption else "false"
    return (
        f"SELECT u.id, u.content_url, u.content_size, {encrypted} FROM alf_content_url u {join} "
        "WHERE EXISTS (SELECT 1 FROM alf_content_data d WHERE d.content_url_id = u.id)"
    )


def url_places() -> str:
    """Protocol, first folder ("" for none) and number of all live URLs. Reads the whole table once."""
    rest = "split_part(u.content_url, '://', 2)"
    first = f"CASE WHEN position('/' IN {rest}) > 1 THEN split_part({rest}, '/', 1) ELSE '' END"
    protocol = (
        f"CASE WHEN u.content_url LIKE '%://%' THEN split_part(u.content_url, '://', 1) ELSE '{NO_URL}' END"
    )
    return (
        f"SELECT {protocol}, {first}, count(*) FROM alf_content_url u "
        "WHERE EXISTS (SELECT 1 FROM alf_content_data d WHERE d.content_url_id = u.id) GROUP BY 1, 2"
    )


def nodes_of(url_ids: Sequence[str], *, any_property: bool = False) -> str:
    """The nodes of content URLs: URL, reference, number, how many share it, name. One row a URL still live.

    By `cm:content` alone an index serves; `any_property` may read the whole table of properties, for the few
    documents that hang on another property. Nodes of the workspace come before those in the trashcan.
    """
    property_is_content = "" if any_property else f"AND p.qname_id = {qname('content')}"
    return f"""
SELECT DISTINCT ON (u.id) u.id, coalesce(s.protocol || '://' || s.identifier || '/' || n.uuid, ''),
  coalesce(n.id::text, ''), count(n.id) OVER (PARTITION BY u.id), coalesce(name.string_value, '')
FROM alf_content_url u
JOIN alf_content_data d ON d.content_url_id = u.id
LEFT JOIN alf_node_properties p
  ON p.long_value = d.id AND p.actual_type_n IN (3, 21) {property_is_content}
LEFT JOIN alf_node n ON n.id = p.node_id
LEFT JOIN alf_store s ON s.id = n.store_id
LEFT JOIN alf_node_properties name ON name.node_id = n.id AND name.qname_id = {qname("name")}
WHERE u.id IN ({_numbers(url_ids)})
ORDER BY u.id, (s.protocol = 'workspace') DESC NULLS LAST, n.id"""


def paths_of(nodes: Sequence[str]) -> str:
    """Node and path of nodes, by the names of their primary parents. Needs the table alf_child_assoc."""
    return paths_of_listed(_numbers(nodes))


def paths_of_listed(numbers: str) -> str:
    """The same of nodes by their numbers with commas between them."""
    name = "coalesce(name.string_value, c.qname_localname)::text"
    join = (
        "LEFT JOIN alf_node_properties name "
        f"ON name.node_id = c.child_node_id AND name.qname_id = {qname('name')}"
    )
    return f"""
WITH RECURSIVE climb (leaf, parent, path, depth) AS (
  SELECT c.child_node_id, c.parent_node_id, '/' || {name}, 1
  FROM alf_child_assoc c {join} WHERE c.is_primary AND c.child_node_id IN ({numbers})
  UNION ALL
  SELECT climb.leaf, c.parent_node_id, '/' || {name} || climb.path, climb.depth + 1
  FROM climb JOIN alf_child_assoc c ON c.child_node_id = climb.parent AND c.is_primary {join}
  WHERE climb.depth < {DEEPEST_PATH}
)
SELECT DISTINCT ON (leaf) leaf, path FROM climb ORDER BY leaf, depth DESC"""


def qname(local_name: str, model: str = "content/1.0") -> str:
    """The number of a name of one of Alfresco's models, as a subquery."""
    return (
        "(SELECT q.id FROM alf_qname q JOIN alf_namespace ns ON ns.id = q.ns_id "
        f"WHERE ns.uri = 'http://www.alfresco.org/model/{model}' AND q.local_name = '{local_name}')"
    )


def _numbers(values: Sequence[str]) -> str:
    return ", ".join(str(int(value)) for value in values)
