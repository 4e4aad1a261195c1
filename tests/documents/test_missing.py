"""What is gone, changed or moved since a time; where what is in the trashcan was."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alfresco_backup.documents import missing
from alfresco_backup.documents.criteria import Criteria
from alfresco_backup.documents.missing import beside, search_missing
from alfresco_backup.documents.search import (
    GONE_FOLDER,
    by_uuid,
    only_asking,
    search,
    search_both,
    search_trashcan,
)
from alfresco_backup.errors import ToolFailed
from alfresco_backup.postgres import database
from alfresco_backup.postgres.database import Database, quoted_literal
from alfresco_backup.postgres.programs import Programs
from demo.cluster import Cluster, client_bindir, default_bindir
from demo.library import Library
from tests.support.common import temporary_cluster

SCHEMA = Path(__file__).parents[2] / "demo/schema.sql"
MISSING = Criteria(missing=True)


class Two:
    """A library, and a copy of its database as it was before the last work."""

    def __init__(self, cluster: Cluster, store: Path) -> None:
        self.cluster = cluster
        cluster.sql("CREATE DATABASE library")
        cluster.sql_file(SCHEMA, "library")
        self.library = Library(cluster, store, database="library")
        self.then = self.database("before")
        self.now = only_asking(self.database("library"))

    def database(self, name: str) -> Database:
        programs = Programs(client_bindir(self.cluster.bindir), self.cluster.version)
        return Database(programs, self.cluster.environment() | {"PGDATABASE": name})

    def remember(self) -> None:
        self.library.close()
        self.cluster.sql("DROP DATABASE IF EXISTS before")
        self.cluster.sql("CREATE DATABASE before TEMPLATE library")

    @staticmethod
    def pause() -> datetime:
        """A time between two deletions, which are dated to the millisecond."""
        time.sleep(0.01)
        moment = datetime.now(UTC)
        time.sleep(0.01)
        return moment

    def missing(self, criteria: Criteria = MISSING) -> list[tuple[str, str]]:
        found, became = search_missing(self.then, self.now, criteria)
        return list(zip([node.path for node in found.nodes], became, strict=True))

    def trashcan(self, criteria: Criteria) -> list[str]:
        return [node.path for node in search_trashcan(self.now, criteria).nodes]


@pytest.fixture(scope="module")
def two(slow: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with temporary_cluster(default_bindir()) as cluster:
        made = Two(cluster, tmp_path_factory.mktemp("store"))
        yield made
        made.library.close()


@pytest.fixture(params=[missing.BATCH, 3], ids=["few", "many"])
def streamed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a batch of 3 the same search goes through the two streams."""
    monkeypatch.setattr(missing, "BATCH", request.param)


def test_what_is_gone_changed_or_moved_is_missing_and_nothing_else(two: Two, streamed: None) -> None:
    library = two.library
    top = library.make_folder(library.company_home, f"f {len(library.commits)}")
    nodes = {
        name: library.add(top, f"{name}.txt")
        for name in ("stays", "changed", "gone", "moved", "renamed", "bin", "back", "typed")
    }
    inner = library.make_folder(top, "inner")
    old = library.make_folder(top, "old")
    deep = library.make_folder(old, "deep")
    library.add(deep, "below.txt")
    dead = library.make_folder(top, "dead")
    library.add(dead, "dead.txt")
    two.remember()
    library.overwrite(nodes["changed"])
    library.delete(nodes["gone"])
    library.purge(nodes["gone"])
    library.move(nodes["moved"], inner)
    library.rename(nodes["renamed"], "another.txt")
    library.delete(nodes["bin"])
    library.delete(nodes["back"])
    library.undelete(nodes["back"])
    library.set_properties(nodes["typed"], {"cm:title": ("text", "x")})
    library.rename(old, "new")
    library.delete(dead)
    home = f"/Company Home/{library.items[top].name}"
    found = two.missing(Criteria(path=home, missing=True))
    assert dict(found) == {
        f"{home}/changed.txt": "changed",
        f"{home}/typed.txt": "changed",
        f"{home}/gone.txt": "gone",
        f"{home}/moved.txt": "moved",
        f"{home}/renamed.txt": "moved",
        f"{home}/bin.txt": "in the trashcan",
        f"{home}/old": "moved",
        f"{home}/old/deep": "moved",
        f"{home}/old/deep/below.txt": "moved",
        f"{home}/dead": "in the trashcan",
        f"{home}/dead/dead.txt": "in the trashcan",
    }
    assert [became for _, became in found[-5:]] == ["moved"] * 5


def test_the_limit_counts_what_is_missing_only(two: Two, streamed: None) -> None:
    library = two.library
    top = library.make_folder(library.company_home, f"limit {len(library.commits)}")
    nodes = [library.add(top, f"{number:02}.txt") for number in range(12)]
    two.remember()
    for node in sorted(nodes)[-4:]:
        library.delete(node)
    path = f"/Company Home/{library.items[top].name}"
    found, became = search_missing(two.then, two.now, Criteria(path=path, missing=True, limit=4))
    assert {node.uuid for node in found.nodes} == set(sorted(nodes)[-4:])
    assert became == ["in the trashcan"] * 4
    assert not found.more
    found, _ = search_missing(two.then, two.now, Criteria(path=path, missing=True, limit=3))
    assert (len(found.nodes), found.more) == (3, True)


def test_a_moved_folder_crowds_out_nothing_that_was_deleted(two: Two, streamed: None) -> None:
    library = two.library
    top = library.make_folder(library.company_home, f"crowd {len(library.commits)}")
    folder = library.make_folder(top, "projects")
    for number in range(9):
        library.add(folder, f"{number}.txt")
    lost = library.add(folder, "lost.txt")
    two.remember()
    library.rename(top, f"renamed {len(library.commits)}")
    library.delete(lost)
    found, became = search_missing(two.then, two.now, Criteria(name="*.txt", missing=True, limit=2))
    assert (found.nodes[0].name, became[0]) == ("lost.txt", "in the trashcan")
    assert became[1] == "moved"
    assert found.more


def test_what_is_as_it_was_in_another_folder_of_the_same_name_hides_nothing(two: Two, streamed: None) -> None:
    """More such documents than the limit, among which those that are gone are looked for."""
    library = two.library
    top = library.make_folder(library.company_home, f"same {len(library.commits)}")
    folder = library.make_folder(top, "projects")
    stay = [library.add(folder, f"{number}.txt") for number in range(30)]
    gone = [library.add(folder, f"gone {number}.txt") for number in range(3)]
    two.remember()
    library.rename(folder, "former projects")
    again = library.make_folder(top, "projects")
    for node in gone:
        library.delete(node)
    for node in stay:  # Alfresco changes the modifier of neither
        library.move(node, again)
    for uuid, modifier, modified in two.then.query(
        "SELECT uuid, audit_modifier, audit_modified FROM alf_node"
    ):
        new = f"audit_modifier = {quoted_literal(modifier)}, audit_modified = '{modified}'"
        two.cluster.sql(
            f"UPDATE alf_node SET {new} WHERE uuid = '{uuid}' AND uuid IN ({quoted(stay)})", "library"
        )
    path = f"/Company Home/{library.items[top].name}/projects"
    for limit, more in ((2, True), (3, True), (4, False)):
        criteria = Criteria(path=path, missing=True, limit=limit)
        found, became = search_missing(two.then, two.now, criteria)
        assert {node.uuid for node in found.nodes} <= {folder, *gone}
        assert (len(found.nodes), found.more) == (limit, more), became


def test_what_came_back_within_a_moved_folder_crowds_out_nothing_that_stays_moved(
    two: Two, streamed: None
) -> None:
    """A folder goes, a new one of its name is made, and the larger part is moved into that."""
    library = two.library
    top = library.make_folder(library.company_home, f"back {len(library.commits)}")
    folder = library.make_folder(top, "projects")
    back, away = (library.make_folder(folder, name) for name in ("back", "away"))
    stay = [library.add(back, f"{number}.txt") for number in range(40)]
    moved = [library.add(away, f"{number}.txt") for number in range(6)]
    two.remember()
    library.rename(folder, "projects-old")
    again = library.make_folder(top, "projects")
    library.move(back, again)
    path = f"/Company Home/{library.items[top].name}/projects"
    for limit, more in ((5, True), (6, False), (7, False)):
        criteria = Criteria(path=path, name="*.txt", missing=True, limit=limit)
        found, became = search_missing(two.then, two.now, criteria)
        assert {node.uuid for node in found.nodes} <= {*moved} - {*stay}
        assert (len(found.nodes), found.more) == (min(limit, 6), more), became


def quoted(uuids: list[str]) -> str:
    return ", ".join(f"'{uuid}'" for uuid in uuids)


def test_what_is_below_each_of_very_many_moved_folders_is_listed(
    two: Two, streamed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their numbers are longer than an argument of a program may be."""
    monkeypatch.setattr(database, "LONGEST_ARGUMENT", 1500)
    library = two.library
    top = library.make_folder(library.company_home, f"very many {len(library.commits)}")
    folders = [library.make_folder(top, f"{number}") for number in range(40)]
    documents = [library.add(folder, "below.txt") for folder in folders]
    two.remember()
    for folder in folders:
        library.rename(folder, f"new {library.items[folder].name}")
    path = f"/Company Home/{library.items[top].name}"
    found, became = search_missing(two.then, two.now, Criteria(path=path, missing=True))
    assert {node.uuid for node in found.nodes} == {*folders, *documents}
    assert became == ["moved"] * 80 and not found.more


def test_two_streams_are_compared_by_node_id() -> None:
    then = [["a", "1"], ["b", "2"], ["d", "3"]]
    now = [["B", "0"], ["b", "live"], ["b", "trash"], ["c", "x"], ["e", "y"]]
    assert [after and after[1] for _, after in beside(then, now)] == [None, "live", None]


def test_what_is_in_the_trashcan_is_found_by_the_path_it_had(two: Two) -> None:
    library = two.library
    site = library.make_site("legal")
    folder = library.make_folder(site, "contracts")
    one = library.add(folder, "one.txt")
    library.add(folder, "two.txt")
    library.delete(one)
    home = "/Company Home/Sites/legal/documentLibrary"
    assert two.trashcan(Criteria(site="legal")) == [f"{home}/contracts/one.txt"]
    assert two.trashcan(Criteria(path=f"{home}/contracts/one.txt")) == [f"{home}/contracts/one.txt"]
    assert two.trashcan(Criteria(path=f"{home}/contr")) == []
    assert two.trashcan(Criteria(site="sales")) == []
    library.delete(folder)
    listed = [f"{home}/contracts", f"{home}/contracts/one.txt", f"{home}/contracts/two.txt"]
    assert two.trashcan(Criteria(path=f"{home}/contracts")) == listed
    nodes = by_uuid(two.now, [one])
    assert (nodes[one].path, nodes[one].in_trashcan) == (f"{home}/contracts/one.txt", True)
    found = search_trashcan(two.now, Criteria(site="legal", limit=2))
    assert (len(found.nodes), found.more) == (2, True)
    library.purge(folder)
    assert two.trashcan(Criteria(nodes=(one,))) == [f"{GONE_FOLDER}/one.txt"]
    hidden = search_both(two.now, Criteria(site="legal", nodes=(one,)))
    assert (hidden.nodes, hidden.unplaced) == ((), 1)
    assert search_both(two.now, Criteria(nodes=(one,))).unplaced == 0
    assert search(two.now, Criteria(site="legal")).nodes


def test_a_site_is_found_whatever_language_alfresco_was_first_started_in(two: Two) -> None:
    library = two.library
    site = library.make_site("vertrieb")
    stays, goes = library.add(site, "bleibt.txt"), library.add(site, "geht.txt")
    library.add(library.make_site("vertrieb2"), "andere.txt")
    english = {library.sites: "Sites", library.company_home: "Company Home"}
    for node, name in zip(english, ("Seiten", "Firmen-Home"), strict=True):
        library.rename(node, name)
    two.remember()
    try:
        library.delete(goes)
        home = "/Firmen-Home/Seiten/vertrieb/documentLibrary"
        found = {node.path for node in search(two.now, Criteria(site="vertrieb", name="*.txt")).nodes}
        assert found == {f"{home}/bleibt.txt"}
        assert two.trashcan(Criteria(site="vertrieb")) == [f"{home}/geht.txt"]
        missing = two.missing(Criteria(site="vertrieb", missing=True))
        assert missing == [(f"{home}/geht.txt", "in the trashcan")]
        assert by_uuid(two.now, [stays])[stays].path == f"{home}/bleibt.txt"
    finally:
        for node, name in english.items():
            library.rename(node, name)


def test_what_was_in_a_deleted_folder_was_deleted_with_it(two: Two) -> None:
    """Alfresco dates the folder alone. What was deleted before, out of it, keeps its own date."""
    library = two.library
    library.delete(library.add(library.company_home, f"budget {len(library.commits)}.xlsx"))
    folder = library.make_folder(library.company_home, f"2026 {len(library.commits)}")
    inner = library.make_folder(folder, "inner")
    budgets = {library.add(parent, "budget.xlsx") for parent in (folder, inner)}
    before = library.add(inner, "budget before.xlsx")
    library.delete(before)
    since = two.pause()
    library.delete(folder)
    asked = Criteria(name="budget*", deleted_since=since)
    assert {node.uuid for node in search_trashcan(two.now, asked).nodes} == budgets
    path = f"/Company Home/{library.items[folder].name}"
    below = {node.uuid for node in search_trashcan(two.now, Criteria(path=path, deleted_since=since)).nodes}
    assert below == {folder, inner, *budgets}
    two.cluster.sql(f"UPDATE alf_node SET version = version WHERE uuid = '{folder}'", "library")
    try:
        for plan in ("enable_indexscan", "enable_bitmapscan", "enable_seqscan"):  # it chooses the order
            two.cluster.sql(f"ALTER DATABASE library SET {plan} = off")
            (first,) = search_trashcan(two.now, Criteria(path=path, deleted_since=since, limit=1)).nodes
            assert first.uuid == folder
    finally:
        two.cluster.sql("ALTER DATABASE library RESET ALL")
    assert search_trashcan(two.now, Criteria(name="budget*", deleted_since=two.pause())).nodes == ()


def test_the_live_database_is_only_asked_and_not_for_long(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolFailed, match="read-only transaction"):
        two.now.query("CREATE TABLE x (a int)")
    assert two.now.value("SHOW statement_timeout") == "10min"
    monkeypatch.setattr("alfresco_backup.documents.search.LIVE_SECONDS", 1)
    began = time.monotonic()
    with pytest.raises(ToolFailed, match="statement timeout"):
        list(only_asking(two.then).stream("SELECT pg_sleep(300)", 300))
    assert time.monotonic() - began < 200
