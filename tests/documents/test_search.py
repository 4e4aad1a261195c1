"""A search over one connection: what is typed is text; an absent table and what the server says are told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.documents.criteria import Criteria
from alfresco_backup.documents.nodes import Node
from alfresco_backup.documents.search import OPTIONAL_TABLES, by_uuid, search, with_all_below
from alfresco_backup.errors import ToolFailed
from demo.cluster import default_bindir
from demo.library import Library
from tests.support.common import temporary_cluster
from tests.support.libraries import DATABASE, SCHEMA, database_of, make_library

TYPED = (
    "it's :numbers",
    ":'more' \\gset",
    '\\q :"more"',
    "'); DROP TABLE alf_node; --",
    "two lines\n\\! false\n",
    "$$; SELECT 1; $$ -- ",
    ":numbers",
    "ends in \\",
)


@pytest.fixture(scope="module")
def library(slow: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with temporary_cluster(default_bindir()) as cluster:
        made = make_library(cluster, tmp_path_factory.mktemp("store"))
        yield made
        made.close()


def paths(found: tuple[Node, ...]) -> list[str]:
    return [node.path for node in found]


def test_what_is_typed_is_looked_for_as_it_stands(library: Library) -> None:
    database = database_of(library.cluster, library.database)
    folder = library.make_folder(library.make_site("typed"), TYPED[0])
    for name in TYPED:
        library.add(folder, name, size=1)
    inside = f"/Company Home/Sites/typed/documentLibrary/{TYPED[0]}"
    for name in TYPED[1:]:
        assert paths(search(database, Criteria(name=name)).nodes) == [f"{inside}/{name}"], name
        assert paths(search(database, Criteria(path=f"{inside}/{name}")).nodes) == [f"{inside}/{name}"], name
        assert search(database, Criteria(creator=name)).nodes == ()
    assert len(search(database, Criteria(path=inside)).nodes) == len(TYPED) + 1


def test_at_most_the_limit_is_listed_and_more_is_said(library: Library) -> None:
    database = database_of(library.cluster, library.database)
    folder = library.make_folder(library.make_site("many"), "folder")
    for number in range(3):
        library.add(folder, f"counted {number}.txt", size=1)
    for limit, listed, more in ((2, 2, True), (3, 3, False), (4, 3, False)):
        found = search(database, Criteria(name="counted*", limit=limit))
        assert (len(found.nodes), found.more, found.absent) == (listed, more, ()), limit
    nothing = search(database, Criteria(name="counted", limit=1))
    assert (nothing.nodes, nothing.more) == ((), False)


def test_capitals_of_all_letters_do_not_matter_in_any_locale(library: Library, tmp_path: Path) -> None:
    """In C, where PostgreSQL knows those of a to z only; composed and decomposed letters are the same."""
    cluster = library.cluster
    cluster.sql("CREATE DATABASE plain TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
    cluster.sql_file(SCHEMA, "plain")
    made = Library(cluster, tmp_path, database="plain")
    names = ("\u00dcbersicht.pdf", "U\u0308bersicht (2).PDF", "\u00fcbersicht 3.pdf", "\u00d6sterreich.pdf")
    for name in names:
        made.add(made.company_home, name, size=1)
    made.close()
    database = database_of(cluster, "plain")

    def found(pattern: str) -> set[str]:
        return {node.name for node in search(database, Criteria(name=pattern)).nodes}

    try:
        for pattern in ("\u00fcbersicht*.PDF", "\u00dcBERSICHT*", "u\u0308bersicht*"):
            assert found(pattern) == {*names[:3]}, pattern
        assert found("\u00dcbersicht (?).pdf") == {names[1]}
        assert found("*\u00f6*") == {names[3]}
        assert found("\u00fcbersicht.pd") == set()
        assert found("\u00fcbersicht?pdf") == {names[0]}
        assert found("*.pdf") == {*names}
    finally:
        cluster.sql("DROP DATABASE plain")


@pytest.mark.parametrize("table", OPTIONAL_TABLES)
def test_without_a_table_the_rest_is_found_and_the_table_named(library: Library, table: str) -> None:
    node = library.add(library.make_folder(library.make_site(f"without {table}"), "f"), "one.txt", size=1)
    library.close()
    library.cluster.sql(f"CREATE DATABASE reduced TEMPLATE {DATABASE}")
    library.cluster.sql(f"DROP TABLE {table} CASCADE", "reduced")
    try:
        found = search(database_of(library.cluster, "reduced"), Criteria(nodes=(node,)))
    finally:
        library.cluster.sql("DROP DATABASE reduced")
    assert found.absent == (table,)
    assert [one.name for one in found.nodes] == ["one.txt"]


def test_what_the_server_says_is_told(library: Library) -> None:
    with pytest.raises(ToolFailed, match=r"(?s)psql ended with exit code 2; .*does not exist") as failed:
        search(database_of(library.cluster, "nowhere"), Criteria(name="a"))
    assert "PGDATABASE" in failed.value.hint
    library.close()
    library.cluster.sql(f"CREATE DATABASE reduced TEMPLATE {DATABASE}")
    library.cluster.sql("DROP TABLE alf_child_assoc CASCADE", "reduced")
    try:
        with pytest.raises(ToolFailed, match=r'(?s)exit code 3; .*"alf_child_assoc" does not exist'):
            search(database_of(library.cluster, "reduced"), Criteria(name="a"))
    finally:
        library.cluster.sql("DROP DATABASE reduced")


def test_what_alfresco_leaves_of_a_deleted_node_is_no_node(library: Library) -> None:
    """A node of type sys:deleted under the same id: in the live store, and after a purge in the trashcan."""
    database = database_of(library.cluster, library.database)
    folder = library.make_folder(library.make_site("traces"), "folder")
    node = library.add(folder, "one.txt", size=1)
    library.delete(node)
    traces = "SELECT count(*) FROM alf_node n JOIN alf_qname q ON q.id = n.type_qname_id "
    traces += f"WHERE q.local_name = 'deleted' AND n.uuid = '{node}'"
    assert database.value(traces) == "1"
    assert by_uuid(database, [node])[node].in_trashcan
    found, count = with_all_below(database, [node], 10)
    assert (count, [one.in_trashcan for one in found.nodes]) == (1, [True])
    library.purge(node)
    assert database.value(traces) == "2"
    assert by_uuid(database, [node]) == {}
    found, count = with_all_below(database, [node], 10)
    assert (count, found.nodes) == (0, ())
