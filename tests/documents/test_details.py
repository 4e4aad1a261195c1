"""What Alfresco's tables say of a document, value by value, against what a library remembers of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.documents.nodes import Node, NodeDetails
from alfresco_backup.documents.qnames import decoded, prefixed, prefixed_name
from alfresco_backup.documents.queries import ENCRYPTION_TABLE, TABLES, absent_tables, read_details
from alfresco_backup.documents.values import Row, value_of
from demo.cluster import default_bindir
from demo.documents import is_stored
from demo.library import Library, content_of
from tests.support.common import every_version, temporary_cluster
from tests.support.libraries import (
    DATABASE,
    WHOLE,
    check_details,
    check_searches,
    database_of,
    furnish,
    make_library,
    read,
)

ARRAY_LIST = (
    "aced0005737200136a6176612e7574696c2e41727261794c6973747881d21d99c7619d03000149000473697a657870{}77"
)
PARTS = ("properties", "aspects", "permissions", "inherits_permissions", "versions")
LOST = {
    "alf_namespace": "properties aspects versions",
    "alf_qname": "properties aspects versions",
    "alf_node_properties": "properties versions",
    "alf_node_aspects": "aspects",
    "alf_node": "permissions versions",
    "alf_locale": "properties",
    "alf_content_data": "properties versions",
    "alf_content_url": "properties versions",
    "alf_mimetype": "properties versions",
    "alf_encoding": "properties versions",
    ENCRYPTION_TABLE: "",
}
"""What an absent table takes away; the others are of permissions."""


@pytest.fixture(scope="module")
def library(slow: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with temporary_cluster(default_bindir()) as cluster:
        made = make_library(cluster, tmp_path_factory.mktemp("store"))
        furnish(made)
        yield made
        made.close()


def test_details_are_what_was_written(library: Library) -> None:
    assert len(library.state()) > 40
    check_details(library)


def test_searches_find_what_fits_and_nothing_else(library: Library) -> None:
    check_searches(library)


def test_files_hold_what_is_remembered(library: Library) -> None:
    contents = [(one, one.node.content) for one in library.state().values() if one.node.content]
    stored = [(one, content.url) for one, content in contents if is_stored(content.url)]
    assert len(stored) > 30
    for details, url in stored:
        path = library.store / url.removeprefix("store://")
        assert path.read_bytes() == content_of(details)


def test_a_node_that_is_gone_has_nothing(library: Library) -> None:
    gone = Node(number=1, uuid="no such node", name="x", path="/x", type="cm:content")
    assert read(library, [gone]) == [NodeDetails(gone)]


@pytest.mark.slow
@every_version
def test_every_version_of_the_server_gives_the_same(bindir: Path, tmp_path: Path) -> None:
    with temporary_cluster(bindir) as cluster:
        library = make_library(cluster, tmp_path)
        library.add_odd(library.make_folder(library.company_home, "odd"))
        remembered = list(library.state().values())
        assert read(library, [one.node for one in remembered]) == remembered
        check_searches(library)
        library.close()


def test_content_as_older_releases_recorded_it_is_content(library: Library) -> None:
    """As a plain number (type 3), which only its name tells from other numbers."""
    library.close()
    library.cluster.sql(f"CREATE DATABASE older TEMPLATE {DATABASE}")
    library.cluster.sql("UPDATE alf_node_properties SET actual_type_n = 3 WHERE actual_type_n = 21", "older")
    remembered = list(library.state().values())
    nodes = [one.node for one in remembered]
    assert list(read_details(database_of(library.cluster, "older"), nodes, with_versions=True)) == remembered


def test_a_table_that_is_absent_leaves_its_part_empty_with_one_warning(library: Library) -> None:
    library.close()
    node = next(one for one in library.state().values() if one.node.name == WHOLE)
    for table in TABLES:
        library.cluster.sql(f"CREATE DATABASE reduced TEMPLATE {DATABASE}")
        library.cluster.sql(f"DROP TABLE {table} CASCADE", "reduced")
        database = database_of(library.cluster, "reduced")
        assert absent_tables(database) == (table,)
        (found,) = read_details(database, [node.node], with_versions=True)
        library.cluster.sql("DROP DATABASE reduced")
        (warning,) = found.warnings
        assert warning.startswith(f"no table {table}: ")
        lost = {part for part in PARTS if getattr(found, part) != getattr(node, part)}
        assert (table, lost) == (table, set(LOST.get(table, "permissions").split()))


@pytest.mark.parametrize(
    ("actual", "persisted", "stored", "value"),
    [
        (5, 5, "7ff8000000000000", "NaN"),
        (5, 5, "fff0000000000000", "-Infinity"),
        (4, 4, "7f800000", "Infinity"),
        (4, 4, "3dcccccd", 0.1),
        (4, 4, "7f7fffff", 3.4028235e38),
        (4, 4, "00000001", 1e-45),
        (19, 0, "", []),
        (6, 0, "", None),
        (10, 6, "text of an old release", "text of an old release"),
        (11, 6, "contentUrl=store://a.bin|size=1", "contentUrl=store://a.bin|size=1"),
        (9, 9, ARRAY_LIST.format("00000000"), []),
        (
            9,
            9,
            ARRAY_LIST.format("00000001"),
            "rO0ABXNyABNqYXZhLnV0aWwuQXJyYXlMaXN0eIHSHZnHYZ0DAAFJAARzaXpleHAAAAABdw==",
        ),
        (6, 9, "aced00057c0000000000000002c3a9", "é"),
        (6, 9, "aced0005740006eda0bdedb880", "\U0001f600"),
        (6, 9, "aced0005740009", "rO0ABXQACQ=="),
        (6, 9, "", ""),
    ],
)
def test_values_are_told_by_their_types(actual: int, persisted: int, stored: str, value: object) -> None:
    assert value_of(Row("cm:x", actual, persisted, -1, "", stored)) == value


def test_names_of_alfrescos_models_have_its_prefixes() -> None:
    assert prefixed("http://www.alfresco.org/model/datalist/1.0", "task") == "dl:task"
    assert prefixed("http://example.com/own", "x:y") == "{http://example.com/own}x:y"
    assert prefixed_name("{http://www.alfresco.org/model/versionstore/2.0}version") == "ver2:version"
    assert prefixed_name("no name") == "no name"


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("Company_x0020_Home", "Company Home"),
        ("_x0031_0_x002e_pdf", "10.pdf"),
        ("_xd83d__xde00_", "\U0001f600"),
        ("_xd83d_", "_xd83d_"),
        ("_x005f_x0020_", "_x0020_"),
        ("_x20_", "_x20_"),
        ("plain", "plain"),
    ],
)
def test_names_are_decoded_from_iso_9075(stored: str, shown: str) -> None:
    assert decoded(stored) == shown
