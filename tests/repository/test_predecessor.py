"""The predecessor's backups, made by a real pg_basebackup the way the predecessor called it."""

import gzip
import io
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository, metadata_of
from alfresco_backup.repository.predecessor import read_predecessor_base, server_time
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.system.processes import Command, run
from alfresco_backup.times import LEGACY_FORMAT, parse_stamp, utc_now
from demo.cluster import Cluster, default_bindir, stated_version
from demo.places import give_to
from tests.support.common import wait_until
from tests.support.places import reachable_directory
from tests.support.repository_on_disk import DiskRepository, listing

LIMIT = 120.0


@dataclass(frozen=True)
class Made:
    """Two of the predecessor's bases: one with its WAL in it, one that has it in the archive only."""

    repository: Repository
    streamed: str
    bare: str
    system_identifier: str
    database_bytes: int


@pytest.fixture(scope="module")
def made(slow: None) -> Iterator[Made]:
    with reachable_directory() as root:
        repository = Repository(root / "backup")
        for folder in (repository.root, repository.postgres, repository.wal):
            folder.mkdir()
        cluster = Cluster(default_bindir(), root / "cluster/data", durable=False).create()
        for folder in (repository.postgres, repository.wal):
            give_to(folder, cluster.account)
        copy = f'test ! -f "{repository.wal}/%f" && cp "%p" "{repository.wal}/%f"'
        level = cluster.facts.recommended_wal_level
        cluster.configure(wal_level=level, archive_mode="on", archive_command=copy, max_wal_senders=4)
        cluster.start()
        try:
            cluster.sql("CREATE TABLE filler AS SELECT md5(n::text) FROM generate_series(1, 60000) n")
            streamed = take_base(cluster, repository, *(() if wal_has_its_own_tar() else ("-X", "fetch")))
            bare = take_base(cluster, repository, *cluster.facts.without_wal)
            wait_until(lambda: len(list(repository.wal.glob("*.backup"))) == 2, "both ends are archived")
            identifier = cluster.system_identifier
            (size,) = cluster.sql("SELECT sum(pg_database_size(oid)) FROM pg_database")[0]
        finally:
            cluster.stop("immediate")
        yield Made(repository, streamed, bare, identifier, int(size))


def wal_has_its_own_tar() -> bool:
    """Whether pg_basebackup streams WAL unless told otherwise: from 10."""
    return stated_version(default_bindir()) >= 100000


def take_base(cluster: Cluster, repository: Repository, *options: str) -> str:
    """The predecessor's own command; the stamp is local time."""
    newest = max((path.name for path in repository.postgres.iterdir()), default="")
    names = []

    def later() -> bool:
        names.append(f"base-{datetime.now().astimezone().strftime(LEGACY_FORMAT)}")
        return names[-1] > newest

    wait_until(later, "a second has passed")
    target = repository.postgres / names[-1]
    command = (str(cluster.bindir / "pg_basebackup"), "-D", str(target), "-Ft", "-z", "-P", "-c", "fast")
    run(Command((*command, *options), LIMIT, cluster.environment(), cluster.account))
    return names[-1].removeprefix("base-")


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Repository:
    """A copy that a test may damage."""
    shutil.copytree(made.repository.root, tmp_path / "backup")
    return Repository(tmp_path / "backup")


def rewrite(base: Path, keep) -> None:
    """Write base.tar.gz anew with only the members that `keep` says; a valid tar.gz it remains."""
    whole = base / "base.tar.gz"
    part = base / "part"
    with tarfile.open(whole) as source, tarfile.open(part, "w:gz", compresslevel=1) as target:
        for member in source:
            if keep(member.name):
                target.addfile(member, source.extractfile(member) if member.isfile() else None)
    part.replace(whole)


def problem_of(catalogue: Catalogue, stamp: str) -> str:
    return next(problem.reason for problem in catalogue.problems if problem.path.name == f"base-{stamp}")


def test_a_base_is_listed_with_what_a_restore_needs(made):
    catalogue = read_catalogue(made.repository)
    assert catalogue.problems == ()
    base = next(base for base in catalogue.bases if base.stamp == made.streamed)
    label = backup_label(base.path)
    history = next(made.repository.wal.glob(f"{base.start_wal}.*.backup")).read_text()
    assert base.legacy
    assert base.postgresql_version == default_version()
    assert base.system_identifier == made.system_identifier
    assert base.timeline == 1
    assert base.segment_size == 16 << 20
    assert f"START WAL LOCATION: {base.start_lsn} (file {base.start_wal})" in label
    assert f"STOP WAL LOCATION: {base.stop_lsn} (file {base.stop_wal})" in history
    assert 0.8 < base.database_bytes / made.database_bytes < 1.2
    tars = [(file.name, file.holds) for file in base.files if file.name.endswith(".tar.gz")]
    wal = [("pg_wal.tar.gz", "wal")] if wal_has_its_own_tar() else []
    assert tars == [("base.tar.gz", "data"), *wal]
    begun = parse_stamp(made.streamed)
    assert begun - timedelta(seconds=1) <= base.started_at <= base.stopped_at <= utc_now()
    assert base.started_at.tzinfo == UTC


def default_version() -> int:
    return facts_of(stated_version(default_bindir())).major


def backup_label(base: Path) -> str:
    with tarfile.open(base / "base.tar.gz") as tar:
        return tar.extractfile("backup_label").read().decode()


def test_a_base_without_its_wal_takes_its_end_from_the_archive(made):
    base = read_predecessor_base(made.bare, made.repository.base(made.bare), made.repository.wal)
    assert base.stop_lsn > base.start_lsn
    assert "wal" not in {file.holds for file in base.files}


def test_without_the_archives_word_the_base_ends_with_the_last_segment_it_holds(copy, made):
    for history in copy.wal.glob("*.backup"):
        history.unlink()
    catalogue = read_catalogue(copy)
    (base,) = catalogue.bases
    assert base.stamp == made.streamed
    assert int(base.stop_lsn) % (16 << 20) == 0
    assert base.stop_wal >= base.start_wal
    assert "it contains no WAL, and" in problem_of(catalogue, made.bare)
    assert "which says where it ends, is not in the archive" in problem_of(catalogue, made.bare)


def test_a_large_valid_tar_without_pg_control_is_a_problem_and_no_backup(copy, made):
    """What PostgreSQL 9.4 leaves when it cannot read a file, and the predecessor calls success."""
    base = copy.base(made.streamed)
    rewrite(base, lambda name: name != "global/pg_control")
    assert (base / "base.tar.gz").stat().st_size > 1 << 20
    run(Command(("gzip", "-t", str(base / "base.tar.gz")), LIMIT))
    catalogue = read_catalogue(copy)
    assert problem_of(catalogue, made.streamed) == "it cannot be restored: it lacks global/pg_control"
    assert [item.stamp for item in catalogue.bases] == [made.bare]


def test_a_tar_without_backup_label_is_no_backup(copy, made):
    rewrite(copy.base(made.streamed), lambda name: name != "backup_label")
    reason = problem_of(read_catalogue(copy), made.streamed)
    assert reason == "it cannot be restored: it lacks backup_label"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.9999])
def test_a_tar_that_was_cut_short_is_damaged(copy, made, share):
    tar = copy.base(made.streamed) / "base.tar.gz"
    os.truncate(tar, int(tar.stat().st_size * share))
    assert "base.tar.gz is damaged" in problem_of(read_catalogue(copy), made.streamed)


def test_a_flipped_byte_is_found_by_the_checksum(copy, made):
    tar = copy.base(made.streamed) / "base.tar.gz"
    content = bytearray(tar.read_bytes())
    content[-6] ^= 0xFF
    tar.write_bytes(content)
    assert "base.tar.gz is damaged" in problem_of(read_catalogue(copy), made.streamed)


def test_damaged_wal_in_the_base_is_found_as_well(copy, made):
    if not wal_has_its_own_tar():
        pytest.skip("before 10 the WAL is in the main tar")
    tar = copy.base(made.streamed) / "pg_wal.tar.gz"
    os.truncate(tar, tar.stat().st_size // 2)
    assert "pg_wal.tar.gz is damaged" in problem_of(read_catalogue(copy), made.streamed)


def test_a_folder_without_a_tar_is_no_backup(copy, made):
    (copy.base(made.streamed) / "base.tar.gz").unlink()
    assert problem_of(read_catalogue(copy), made.streamed) == "there is no base.tar.gz"


def test_a_lost_tablespace_makes_the_base_useless(copy, made):
    base = copy.base(made.streamed)
    add_member(base, "tablespace_map", b"16385 /srv/space\n")
    reason = problem_of(read_catalogue(copy), made.streamed)
    assert reason == "it cannot be restored: it lacks 16385.tar.gz"
    with tarfile.open(base / "16385.tar.gz", "w:gz"):
        pass
    (found,) = [item for item in read_catalogue(copy).bases if item.stamp == made.streamed]
    assert [(space.oid, space.location) for space in found.tablespaces] == [(16385, "/srv/space")]
    assert "16385" in {file.holds for file in found.files}


def add_member(base: Path, name: str, content: bytes) -> None:
    whole = base / "base.tar.gz"
    plain = gzip.decompress(whole.read_bytes())
    stream = io.BytesIO(plain)
    with tarfile.open(fileobj=stream, mode="a") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    whole.write_bytes(gzip.compress(stream.getvalue(), 1))


def test_tars_are_read_once_and_again_only_when_they_change(copy, made):
    """Shown by what is remembered: a wrong version put there is believed until the tar's time changes."""
    memory = metadata_of(copy.base(made.streamed))
    read_catalogue(copy)
    text = memory.read_text()
    memory.write_text(text.replace(f'"version": "{default_version() // 10000}"', '"version": "9.4"'))
    assert {base.postgresql_version for base in read_catalogue(copy).bases} == {90400, default_version()}
    os.utime(copy.base(made.streamed) / "base.tar.gz", (1, 1))
    assert {base.postgresql_version for base in read_catalogue(copy).bases} == {default_version()}
    assert memory.read_text() != text


def test_the_predecessors_folders_are_never_written_to(copy, made):
    metadata_of(copy.base(made.streamed)).unlink()
    before = listing(copy.base(made.streamed))
    changed = copy.base(made.streamed).stat().st_mtime_ns
    read_catalogue(copy)
    assert listing(copy.base(made.streamed)) == before
    assert copy.base(made.streamed).stat().st_mtime_ns == changed
    assert metadata_of(copy.base(made.streamed)).exists()


def test_large_tars_nobody_has_read_are_not_read_in_passing(copy, made):
    for stamp in (made.streamed, made.bare):
        metadata_of(copy.base(stamp)).unlink(missing_ok=True)
    catalogue = read_catalogue(copy, limit_bytes=1 << 20)
    assert catalogue.bases == ()
    assert "that was not read yet" in problem_of(catalogue, made.streamed)
    assert len(read_catalogue(copy, limit_bytes=None).bases) == 2
    assert len(read_catalogue(copy, limit_bytes=1 << 20).bases) == 2


def test_a_damaged_memory_is_made_anew(copy, made):
    metadata_of(copy.base(made.streamed)).write_text('{"schema": 1, "tars": [')
    assert len(read_catalogue(copy).bases) == 2


def a_tree(repository: Repository, stamp: str) -> Path:
    tree = repository.contentstore.snapshot(stamp)
    (tree / "2026/1/2/3/4").mkdir(parents=True)
    (tree / "2026/1/2/3/4/document.bin").write_bytes(b"document")
    return tree


def stamp_after(stamp: str, **later: int) -> str:
    return (parse_stamp(stamp) + timedelta(**later)).strftime(LEGACY_FORMAT)


def test_base_and_next_tree_make_a_complete_set(copy, made):
    tree = a_tree(copy, stamp_after(made.bare, minutes=5))
    catalogue = read_catalogue(copy)
    (complete, other) = catalogue.complete_sets
    assert {complete.stamp, other.stamp} == {made.streamed, made.bare}
    assert complete.snapshots["contentstore"].path == tree
    snapshot = complete.snapshots["contentstore"]
    assert snapshot.legacy
    assert snapshot.started_at == parse_stamp(made.bare) + timedelta(minutes=5)


def test_a_tree_newer_than_last_was_left_by_a_failed_run(copy, made):
    good, failed = (a_tree(copy, stamp_after(made.bare, minutes=minutes)) for minutes in (5, 90))
    (copy.contentstore.root / "last").symlink_to(good)
    catalogue = read_catalogue(copy)
    assert [snapshot.path for snapshot in catalogue.snapshots] == [good]
    (problem,) = [problem for problem in catalogue.problems if problem.path == failed]
    assert problem.reason.startswith("the run that made it failed: last points to the older")


def test_an_empty_tree_is_a_problem(copy, made):
    a_tree(copy, stamp_after(made.bare, minutes=5))
    empty = copy.contentstore.snapshot(stamp_after(made.bare, minutes=9))
    empty.mkdir()
    catalogue = read_catalogue(copy, now=parse_stamp(made.bare) + timedelta(hours=1))
    assert [problem.path for problem in catalogue.problems] == [empty]


def test_the_end_of_a_tree_is_believed_only_within_a_week_of_its_start(copy):
    tree = a_tree(copy, "2020-01-02_03-04-05")
    (snapshot,) = read_catalogue(copy).snapshots
    assert snapshot.finished_at == snapshot.started_at == parse_stamp("2020-01-02_03-04-05")
    stamp = datetime.now().astimezone().strftime(LEGACY_FORMAT)
    tree.rename(tree.with_name(f"contentstore-{stamp}"))
    (snapshot,) = read_catalogue(copy).snapshots
    assert snapshot.started_at <= snapshot.finished_at < snapshot.started_at + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("zone", "text", "moment"),
    [
        ("UTC", "2026-11-22 03:00:00 UTC", "2026-11-22T03:00:00+00:00"),
        ("UTC", "2026-11-22 03:00:00 GMT", "2026-11-22T03:00:00+00:00"),
        ("Europe/Berlin", "2026-11-22 03:00:00 CET", "2026-11-22T02:00:00+00:00"),
        ("Europe/Berlin", "2026-07-22 03:00:00 CEST", "2026-07-22T01:00:00+00:00"),
        ("Europe/Berlin", "2026-10-25 02:30:00 CEST", "2026-10-25T00:30:00+00:00"),
        ("Europe/Berlin", "2026-10-25 02:30:00 CET", "2026-10-25T01:30:00+00:00"),
        ("Europe/Berlin", "2026-11-22 03:00:00 +03", "2026-11-22T00:00:00+00:00"),
        ("UTC", "2026-11-22 03:00:00 -0330", "2026-11-22T06:30:00+00:00"),
        ("Europe/Berlin", "2026-11-22 03:00:00 IST", None),
    ],
)
def test_times_of_the_server_are_read_with_their_zone(monkeypatch, zone, text, moment):
    """A zone that is not this machine's is not guessed: the folder's own time counts then."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        found = server_time(f"START TIME: {text}\n", "START")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == (datetime.fromisoformat(moment) if moment else None)


def test_retention_removes_the_predecessors_backups_with_what_was_remembered_of_them(copy, made):
    """Seen from a year later, with a newer set of our own made in the meantime."""
    a_tree(copy, stamp_after(made.bare, minutes=5))
    later = parse_stamp(made.bare) + timedelta(days=365)
    disk = DiskRepository(copy.root)
    for days in (8, 1):
        base = disk.base(later - timedelta(days=days), cluster=made.system_identifier)
        disk.snapshot(base.stopped_at + timedelta(seconds=1), base.stamp)
        disk.configuration(base.stopped_at + timedelta(seconds=2), base.stamp)
    carry_out(make_retention_plan(disk.settings(), now=later.astimezone(UTC)))
    assert sorted(path.name[:7] for path in copy.postgres.iterdir()) == ["base-20", "base-20"]
    assert not list(copy.postgres.glob("*.json"))
    assert [item.complete for item in read_catalogue(copy, now=later).sets] == [True, True]
    assert len(list(copy.contentstore.root.glob("contentstore-????????T??????Z"))) == 2
    assert not list(copy.contentstore.root.glob("contentstore-*_*"))
