"""Reading the repository: what is listed, what is not, and why."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import BASE_METADATA, Repository, metadata_of
from alfresco_backup.repository.records import BaseBackup, Configuration, Snapshot
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.repository.sets_table import backup_set_rows
from alfresco_backup.system.files import read_json, write_json
from tests.support.catalogues import NOW, REPOSITORY, Parts, a_base, a_configuration, a_snapshot, age
from tests.support.repository_on_disk import DiskRepository


@pytest.fixture
def disk(tmp_path: Path) -> DiskRepository:
    disk = DiskRepository(tmp_path / "backup")
    disk.run("2d")
    disk.run("1d")
    return disk


def read(disk: DiskRepository) -> Catalogue:
    return read_catalogue(disk.repository, now=NOW)


def reasons(catalogue: Catalogue) -> dict[str, str]:
    return {problem.path.name: problem.reason for problem in catalogue.problems}


def test_an_empty_and_a_missing_repository_are_empty_catalogues(tmp_path):
    assert read_catalogue(Repository(tmp_path)) == Catalogue()
    assert read_catalogue(Repository(tmp_path / "nothing")) == Catalogue()
    assert Catalogue().newest_stamp is None


def test_sets_are_listed_oldest_first_with_all_their_parts(disk):
    catalogue = read(disk)
    assert [item.stamp for item in catalogue.sets] == ["20261120T120000Z", "20261121T120000Z"]
    assert catalogue.complete_sets == catalogue.sets
    assert catalogue.newest_stamp == "20261121T120000Z"
    newest = catalogue.sets[-1]
    assert newest.base.path == disk.repository.base(newest.stamp)
    assert newest.snapshots["contentstore"].path == disk.repository.contentstore.snapshot(newest.stamp)
    assert newest.configuration.path == disk.repository.configuration(newest.stamp)
    assert catalogue.problems == ()
    assert catalogue.partials == ()


def test_metadata_comes_back_as_it_was_written(tmp_path):
    base, snapshot, configuration = a_base(NOW), a_snapshot(NOW), a_configuration(NOW)
    write_json(tmp_path / "part.json", base.to_metadata())
    assert BaseBackup.from_metadata(read_json(tmp_path / "part.json"), base.path) == base
    write_json(tmp_path / "part.json", snapshot.to_metadata())
    assert Snapshot.from_metadata(read_json(tmp_path / "part.json"), snapshot.path) == snapshot
    write_json(tmp_path / "part.json", configuration.to_metadata())
    again = Configuration.from_metadata(read_json(tmp_path / "part.json"), configuration.path)
    assert again == configuration
    assert again.digests == configuration.digests


def test_the_days_of_a_snapshot_are_read_when_asked_for(disk):
    snapshot = read(disk).snapshots[-1]
    assert snapshot.days["2026/1/2"].version == "20261120T120000Z"
    assert sorted(snapshot.days) == ["2026/1/1", "2026/1/2", "2026/11/20"]
    assert snapshot.loose == {}
    again = Snapshot.from_metadata(snapshot.to_metadata(), snapshot.path)
    assert again.days == snapshot.days


def test_odd_names_survive_in_metadata(tmp_path):
    """A name that is no UTF-8, as listed by Python, and one with a newline."""
    odd = "2026/1/" + b"\xff\n".decode("utf-8", "surrogateescape")
    configuration = Configuration(
        "20261122T120000Z", tmp_path, NOW, NOW, 1, 1, digests={f"keystore/{odd}": "0" * 64}
    )
    write_json(tmp_path / "odd.json", configuration.to_metadata())
    again = Configuration.from_metadata(read_json(tmp_path / "odd.json"), tmp_path)
    assert again.digests == {f"keystore/{odd}": "0" * 64}


def test_a_field_a_newer_program_added_is_ignored_but_a_newer_schema_is_not(disk):
    file = disk.repository.base("20261121T120000Z") / BASE_METADATA
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "colour": "blue"}))
    assert read(disk).problems == ()
    file.write_text(json.dumps({**document, "schema": 99}))
    catalogue = read(disk)
    assert "schema 99, this program reads up to 1" in reasons(catalogue)["base-20261121T120000Z"]
    assert [item.stamp for item in catalogue.complete_sets] == ["20261120T120000Z"]


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("start_lsn", "0/zz", "start_lsn: '0/zz' is not understood"),
        ("timeline", "1", 'timeline: a whole number is expected, not "1"'),
        ("timeline", True, "timeline: a whole number is expected, not true"),
        ("stopped_at", "2026-11-22T12:00:00", "stopped_at: a time with its offset is expected"),
        ("started_at", "yesterday", "started_at: 'yesterday' is not understood"),
        ("files", {}, "files: a list is expected, not {}"),
        ("files", [1], "an object is expected, not 1"),
        ("host", None, "host: text is expected, not null"),
        ("stamp", "20261120T120000Z", "its name says 20261121T120000Z, its metadata 20261120T120000Z"),
        ("files", [], "its metadata names no files"),
    ],
)
def test_one_wrong_field_makes_a_problem_that_names_it(disk, field, value, complaint):
    file = disk.repository.base("20261121T120000Z") / BASE_METADATA
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    catalogue = read(disk)
    assert complaint in reasons(catalogue)["base-20261121T120000Z"]
    assert [base.stamp for base in catalogue.bases] == ["20261120T120000Z"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "backup.json is damaged"),
        ('{"schema": 1, "stamp": "2026', "backup.json is damaged"),
        ("[]", "is no metadata: an object with a schema number is expected"),
        ('{"schema": "one"}', "is no metadata"),
        ("[" * 100_000, ""),
        ("\xff\xfe", ""),
        ("{}", "stamp is missing"),
    ],
)
def test_damaged_metadata_never_breaks_the_listing(disk, content, complaint):
    file = disk.repository.base("20261121T120000Z") / BASE_METADATA
    file.write_bytes(content.encode("latin-1"))
    catalogue = read(disk)
    assert complaint in reasons(catalogue)["base-20261121T120000Z"]
    assert [item.stamp for item in catalogue.complete_sets] == ["20261120T120000Z"]


def test_a_missing_metadata_file_or_part_is_named(disk):
    (disk.repository.base("20261121T120000Z") / BASE_METADATA).unlink()
    (disk.repository.base("20261120T120000Z") / "base.tar.zst").unlink()
    metadata_of(disk.repository.contentstore.snapshot("20261121T120000Z")).unlink()
    found = reasons(read(disk))
    assert found["base-20261121T120000Z"] == "its metadata backup.json is missing"
    assert found["base-20261120T120000Z"].startswith("cannot be read: No such file or directory")
    assert (
        found["contentstore-20261121T120000Z"] == "its metadata contentstore-20261121T120000Z.json is missing"
    )


def test_a_file_of_another_size_than_recorded_is_a_problem(disk):
    (disk.repository.base("20261121T120000Z") / "base.tar.zst").write_bytes(b"short")
    assert reasons(read(disk)) == {
        "base-20261121T120000Z": "base.tar.zst has 5 bytes, its metadata says 2000"
    }


def test_foreign_entries_are_problems_and_lost_and_found_is_not(disk):
    repository = disk.repository
    (repository.postgres / "base-yesterday").mkdir()
    (repository.postgres / "base-20261399T120000Z").mkdir()
    (repository.postgres / "base-20261101T000000Z").write_text("a file")
    (repository.postgres / "lost+found").mkdir()
    (repository.contentstore.root / "readme.txt").write_text("hello")
    (repository.contentstore.root / ".nfs0001").write_text("")
    (repository.configurations / "base-20261121T120000Z").mkdir()
    found = reasons(read(disk))
    assert found["base-yesterday"] == "not the name of a backup"
    assert "20261399T120000Z" in found["base-20261399T120000Z"]
    assert found["base-20261101T000000Z"] == "a folder is expected"
    assert found["readme.txt"] == "not the name of a backup"
    assert found["base-20261121T120000Z"] == "not the name of a backup"
    assert len(found) == 5


@pytest.mark.parametrize("name", ["postgres", "configuration", "contentstore/days", "stores"])
def test_a_folder_that_cannot_be_listed_is_a_problem_and_the_rest_is_listed(disk, name):
    """A link that leads to itself cannot be listed by anybody, not even by root."""
    folder = disk.repository.root / name
    if folder.exists():
        folder.rename(disk.repository.root / "moved")
    folder.symlink_to(folder.name)
    catalogue = read(disk)
    assert [problem.path for problem in catalogue.problems] == [folder]
    assert catalogue.problems[0].reason.startswith("cannot be read: Too many levels of symbolic links")
    assert len(catalogue.snapshots) == 2


def test_partials_and_metadata_without_a_tree_are_left_overs_and_no_backups(disk):
    repository = disk.repository
    left = [
        repository.base("20261122T110000Z.partial"),
        repository.contentstore.snapshot("20261122T110000Z.partial"),
        repository.contentstore.days / "20261122T110000Z.partial",
        repository.configuration("20261122T110000Z.partial"),
    ]
    for path in left:
        path.mkdir()
    orphan = metadata_of(repository.contentstore.snapshot("20261122T110000Z"))
    orphan.write_text("{}")
    catalogue = read(disk)
    assert set(catalogue.partials) == {*left, orphan}
    assert [item.stamp for item in catalogue.sets] == ["20261120T120000Z", "20261121T120000Z"]
    assert catalogue.problems == ()


def test_a_set_without_one_of_its_parts_is_not_complete(disk):
    disk.base(NOW - age("5h"))
    disk.snapshot(NOW - age("4h"))
    disk.configuration(NOW - age("3h"))
    catalogue = read(disk)
    assert [item.complete for item in catalogue.sets] == [True, True, False, False, False]


def test_further_stores_belong_to_the_set_but_do_not_complete_it(disk):
    base = disk.base(NOW - age("5h"))
    disk.configuration(NOW - age("4h"), base.stamp)
    disk.snapshot(NOW - age("4h"), base.stamp, store="deleted")
    catalogue = read(disk)
    assert list(catalogue.sets[-1].snapshots) == ["deleted"]
    assert not catalogue.sets[-1].complete
    assert len(catalogue.snapshots_of("deleted")) == 1
    assert len(catalogue.snapshots_of("contentstore")) == 2


def test_a_snapshot_in_another_stores_place_is_a_problem(disk):
    snapshot = disk.snapshot(NOW - age("4h"), store="deleted")
    file = metadata_of(snapshot.path)
    file.write_text(file.read_text().replace('"deleted"', '"contentstore"'))
    assert (
        "its metadata is of store 'contentstore', its folder of store 'deleted'"
        in reasons(read(disk)).values()
    )


def test_what_is_dated_in_the_future_is_listed_and_flagged(disk):
    disk.run("-3d")
    catalogue = read(disk)
    assert len(catalogue.sets) == 3
    assert len(catalogue.problems) == 3
    assert all("dated in the future: 20261125T120000Z" in problem.reason for problem in catalogue.problems)
    assert catalogue.newest_stamp == "20261125T120000Z"


def test_order_is_by_time_even_where_names_say_otherwise():
    parts = Parts()
    parts.add_set(NOW - age("3d"))
    parts.add_set(NOW - age("2d"), legacy=True)
    parts.add_set(NOW - age("1d"))
    catalogue = parts.catalogue()
    assert [item.legacy for item in catalogue.sets] == [False, True, False]
    assert catalogue.newest_stamp == parts.bases[2].stamp


def test_a_predecessors_base_takes_the_next_snapshot_within_a_day():
    parts = Parts()
    parts.add_set(NOW - age("5d"), ["base"], legacy=True)
    parts.add_set(NOW - age("3d"), ["base"], legacy=True)
    parts.snapshots += [
        a_snapshot(NOW - age("6d"), legacy=True),
        a_snapshot(NOW - age("3d") + timedelta(minutes=20), legacy=True),
        a_snapshot(NOW - age("2d12h"), legacy=True),
        a_snapshot(NOW - age("2d6h")),
    ]
    sets = parts.catalogue().sets
    paired = [item for item in sets if item.base and item.snapshots]
    assert [item.base.stamp for item in paired] == [parts.bases[1].stamp]
    assert paired[0].snapshots["contentstore"] == parts.snapshots[2]
    assert [bool(item.base) for item in sets] == [False, True, True, False, False]


def test_two_of_the_predecessors_bases_may_share_a_snapshot():
    parts = Parts()
    parts.add_set(NOW - age("3d"), ["base"], legacy=True)
    parts.add_set(NOW - age("2d20h"), ["base"], legacy=True)
    parts.snapshots.append(a_snapshot(NOW - age("2d12h"), legacy=True))
    sets = parts.catalogue().sets
    assert [item.complete for item in sets] == [True, True]


def test_the_table_of_the_sets_reads_well(disk):
    disk.base(NOW - age("5h"))
    disk.snapshot(NOW - age("4h"))
    (disk.repository.postgres / "base-yesterday").mkdir()
    rows = backup_set_rows(read(disk))
    assert [row["set"] for row in rows] == [
        "20261122T080000Z",
        "20261122T070000Z",
        "20261121T120000Z",
        "20261120T120000Z",
        "base-yesterday",
    ]
    assert [row["state"] for row in rows] == [
        "content only",
        "incomplete: no contentstore and no configuration",
        "complete",
        "complete",
        "not the name of a backup",
    ]
    assert rows[2]["parts"] == "database, contentstore, configuration"
    assert rows[2]["size"] == "13.4 MiB"
    assert rows[2]["new data"] == "70.7 KiB"


def test_the_table_says_of_the_predecessors_sets_what_is_not_known():
    parts = Parts()
    parts.add_set(NOW - age("3d"), legacy=True)
    parts.add_set(NOW - age("1d"), ["base"], legacy=True)
    rows = backup_set_rows(parts.catalogue())
    assert [row["state"] for row in rows] == [
        "incomplete: no contentstore (predecessor's)",
        "complete (predecessor's)",
    ]
    assert rows[1]["size"] == "unknown"
    assert REPOSITORY.root.name == "backup"
