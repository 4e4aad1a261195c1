"""What existed at a time and is gone, in the trashcan, changed or moved in the live database now.

Many nodes are compared by two streams in the order of their node ids; memory does not grow with their count.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing

from alfresco_backup.contentstore.check_queries import DEEPEST_PATH, qname
from alfresco_backup.documents.criteria import Criteria
from alfresco_backup.documents.nodes import LIVE_STORE, TRASHCAN, Node
from alfresco_backup.documents.queries import absent_tables
from alfresco_backup.documents.results import Now, judge_now
from alfresco_backup.documents.search import (
    BATCH,
    OPTIONAL_TABLES,
    SEARCH_SECONDS,
    Found,
    by_uuid,
    read_nodes,
    store_number,
    wanted,
)
from alfresco_backup.postgres.database import Database

UUID, NUMBER, TRASH, PARENT, NAME = range(5)
Row = Sequence[str]


def search_missing(then: Database, now: Database, criteria: Criteria) -> tuple[Found, list[Now]]:
    """What fits and is not as it was, with what became of it; at most `limit`, what was moved last.

    A deleted folder brings all that was below it, since Alfresco deletes that, too. Of a folder that was
    moved or renamed all that was below it is listed as moved: its path, which is what people look for, is
    another one. It comes after all else, so that it crowds out nothing that was deleted.
    """
    absent, sql = absent_tables(then, OPTIONAL_TABLES), wanted(criteria)
    numbers = [row[0] for row in then.stream(f"{sql} LIMIT {BATCH + 1}", SEARCH_SECONDS)]
    if len(numbers) > BATCH:
        other = _differing(then, now, sql, absent, criteria.limit + 1)
    else:
        other = _judged(then, now, numbers, absent)
    other.sort(key=lambda pair: (pair[1] == "moved", pair[0].path))
    listed = other[: criteria.limit]
    found = Found(tuple(node for node, _ in listed), len(other) > criteria.limit, absent)
    return found, [became for _, became in listed]


def _judged(
    then: Database, now: Database, numbers: Sequence[str], absent: Sequence[str]
) -> list[tuple[Node, Now]]:
    """Those of the nodes that are not as they were."""
    nodes = list(read_nodes(then, numbers, absent))
    since = by_uuid(now, [node.uuid for node in nodes])
    judged = ((node, judge_now(node, since.get(node.uuid))) for node in nodes)
    return [(node, became) for node, became in judged if became != "as then"]


def _differing(
    then: Database, now: Database, sql: str, absent: Sequence[str], enough: int
) -> list[tuple[Node, Now]]:
    """At least `enough` nodes that are not as they were, all of them where there are fewer.

    The streams tell which may be: one in another folder of the same name is as it was, and so is what is
    below a moved folder and came back to its path within another one. What is below moved folders comes last.
    """
    displaced = _displaced(then, now)
    below = f"n.id IN ({_below(displaced)})" if displaced else "false"
    at_once = max(enough, BATCH)
    found: list[tuple[Node, Now]] = []
    moved: list[tuple[Node, Now]] = []
    own: list[str] = []
    carried: list[str] = []
    with closing(_compared(then, now, f"n.id IN ({sql})", "true", below)) as pairs:
        for before, after in pairs:
            same = after is not None and after[TRASH] == "f" and before[PARENT:-1] == after[PARENT:-1]
            if not same:
                own.append(before[NUMBER])
            elif before[-1] == "t" and len(moved) < enough:
                carried.append(before[NUMBER])
            if len(own) == at_once:
                found += _judged(then, now, own, absent)
                own.clear()
            if len(carried) == at_once:
                moved += _judged(then, now, carried, absent)
                carried.clear()
            if len(found) >= enough:
                return found
    found += _judged(then, now, own, absent) + moved
    return found if len(found) >= enough else found + _judged(then, now, carried, absent)


def _displaced(then: Database, now: Database) -> list[str]:
    """The numbers of the folders that have another name or folder now."""
    folder = (
        "n.id IN (SELECT c.parent_node_id FROM alf_child_assoc c WHERE c.is_primary "
        f"AND c.type_qname_id = {qname('contains')})"
    )
    found: dict[str, Row] = {}
    for before, after in _compared(then, now, folder, folder, "false"):
        if after is not None and before[PARENT : NAME + 1] != after[PARENT : NAME + 1]:
            found[before[UUID]] = before
    tops = [row for row in found.values() if row[PARENT] not in found]
    return [row[NUMBER] for row in tops]


def _compared(
    then: Database, now: Database, of_then: str, of_now: str, below: str
) -> Generator[tuple[Row, Row | None], None, None]:
    """Each node of then that fits, and what it is now; None where it is gone."""
    stores = f"n.store_id IN ({store_number(LIVE_STORE)}, {store_number(TRASHCAN)})"
    live = f"n.store_id = {store_number(LIVE_STORE)}"
    with (
        closing(then.stream(_rows(f"{live} AND {of_then}", below), SEARCH_SECONDS)) as before,
        closing(now.stream(_rows(f"{stores} AND {of_now}", "false"), SEARCH_SECONDS)) as after,
    ):
        yield from beside(before, after)


def beside(then: Iterable[Row], now: Iterable[Row]) -> Iterator[tuple[Row, Row | None]]:
    """Each row of then with the first of now that has its node id. Both are in the order of node ids."""
    rest = iter(now)
    current = next(rest, None)
    for row in then:
        while current is not None and current[UUID] < row[UUID]:
            current = next(rest, None)
        yield row, current if current is not None and current[UUID] == row[UUID] else None


def _rows(where: str, below: str) -> str:
    """Node id, number, trashcan, folder, name, content URL, modified, and `below`; the live one first."""
    return f"""
SELECT n.uuid, n.id, n.store_id = {store_number(TRASHCAN)} AS trash, pn.uuid AS parent, p.string_value,
  u.content_url, n.audit_modified, {below}
FROM alf_node n
LEFT JOIN alf_child_assoc a ON a.child_node_id = n.id AND a.is_primary
LEFT JOIN alf_node pn ON pn.id = a.parent_node_id
LEFT JOIN alf_node_properties p ON p.node_id = n.id AND p.qname_id = {qname("name")}
LEFT JOIN alf_node_properties c ON c.node_id = n.id AND c.qname_id = {qname("content")}
  AND c.actual_type_n IN (3, 21)
LEFT JOIN alf_content_data d ON d.id = c.long_value
LEFT JOIN alf_content_url u ON u.id = d.content_url_id
WHERE {where}
ORDER BY n.uuid COLLATE "C", trash"""


def _below(tops: Sequence[str]) -> str:
    listed = ", ".join(str(int(each)) for each in tops)
    return (
        "WITH RECURSIVE below (id, depth) AS (SELECT c.child_node_id, 1 FROM alf_child_assoc c "
        f"WHERE c.is_primary AND c.parent_node_id IN ({listed}) UNION ALL "
        "SELECT c.child_node_id, below.depth + 1 FROM below JOIN alf_child_assoc c "
        f"ON c.parent_node_id = below.id AND c.is_primary WHERE below.depth < {DEEPEST_PATH}) "
        "SELECT id FROM below"
    )
