"""The WAL commands in the hands of real servers: archiving, recovery, recoveries that must not end early."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed
from alfresco_backup.repository.records import BaseBackup
from demo.cluster import Cluster
from tests.support.common import wait_until
from tests.support.places import reachable_directory
from tests.support.wal_clusters import (
    archive_command,
    new_cluster,
    recovering_copy,
    said,
    say,
    take_base,
    wait_archived,
    wait_promoted,
)
from tests.support.wal_commands import give_all, install_commands, own_directory


@dataclass(frozen=True)
class Source:
    """A stopped server's base backup and archive: words a and b archived, c in its pg_wal only."""

    root: Path
    archive: Path
    base: BaseBackup
    cluster: Cluster


@pytest.fixture(scope="module")
def source(slow: None) -> Iterator[Source]:
    with reachable_directory() as root, ExitStack() as stack:
        install_commands(root / "wal")
        archive = own_directory(root / "archive")
        cluster = new_cluster(root, "source", archive, "--zstd")
        stack.callback(cluster.destroy)
        cluster.start()
        say(cluster, "a")
        base = take_base(cluster, root / "base", archive, "20261122T010000Z")
        say(cluster, "b")
        cluster.sql("INSERT INTO said (word) VALUES ('c')")
        cluster.stop("immediate")  # a clean stop would archive the last segment
        yield Source(root, archive, base, cluster)


@pytest.fixture
def place(source: Source) -> Iterator[Path]:
    directory = own_directory(source.root / "place")
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


@pytest.fixture
def recovering(source: Source, place: Path, slow: None) -> Iterator[Cluster]:
    """A copy of the base that is to recover from `place/archive`, not started."""
    archive = shutil.copytree(source.archive, place / "archive")
    give_all(archive)
    command = f'"{source.root}/wal/restore-wal" "%f" "%p" "{archive}"'
    cluster = recovering_copy(source.root / "base", place / "copy" / "data", command, "false")
    yield cluster
    cluster.stop("immediate")


def assert_stopped_unpromoted(cluster: Cluster, words: str) -> None:
    """The server ended by itself, still in recovery, and its log says why."""
    with pytest.raises(ToolFailed, match="could not start server"):
        cluster.start()
    wait_until(lambda: not cluster.running, "the server is down")
    assert (cluster.directory / "recovery.signal").exists()
    assert not list((cluster.directory / "pg_wal").glob("*.history"))
    log = cluster.log.read_text()
    assert words in log
    assert "archive recovery complete" not in log


def test_a_recovery_reads_the_archive_to_its_end_and_promotes(recovering):
    recovering.start()
    wait_promoted(recovering)
    assert said(recovering) == ["a", "b"]


def test_a_recovery_goes_on_with_salvaged_segments(source, recovering, place):
    salvaged = shutil.copytree(source.cluster.directory / "pg_wal", place / "salvaged")
    give_all(salvaged)
    command = f'"{source.root}/wal/restore-wal" "%f" "%p" "{place}/archive" "{salvaged}"'
    recovering.configure(restore_command=command)
    recovering.start()
    wait_promoted(recovering)
    assert said(recovering) == ["a", "b", "c"]


def test_a_recovery_without_permission_on_the_archive_does_not_promote(recovering, place):
    (place / "archive").chmod(0o000)
    assert_stopped_unpromoted(recovering, "archive is not a readable WAL archive (not mounted? permissions?")
    (place / "archive").chmod(0o700)
    recovering.start()
    wait_promoted(recovering)
    assert said(recovering) == ["a", "b"]


def test_a_recovery_from_an_archive_that_is_not_mounted_does_not_promote(recovering, place):
    mounted = (place / "archive").rename(place / "elsewhere")
    own_directory(place / "archive")
    assert_stopped_unpromoted(recovering, "recovery must not take this for the end of WAL")
    (place / "archive").rmdir()
    mounted.rename(place / "archive")
    recovering.start()
    wait_promoted(recovering)
    assert said(recovering) == ["a", "b"]


def test_a_recovery_that_meets_a_damaged_segment_does_not_promote(source, recovering, place):
    newest = max((place / "archive").glob("*.zst"))
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-3])
    assert_stopped_unpromoted(recovering, f"{newest} cannot be read whole")
    newest.write_bytes(whole)
    recovering.start()
    wait_promoted(recovering)
    assert said(recovering) == ["a", "b"]


def test_a_recovery_from_another_clusters_archive_does_not_promote(source, recovering, place):
    (place / "archive" / "system-identifier").write_text("7000000000000000001\n")
    assert_stopped_unpromoted(
        recovering, f"is of the cluster {source.base.system_identifier}; the archive belongs to"
    )


def test_a_failing_archive_command_is_counted_and_nothing_is_lost(source, place):
    archive = own_directory(place / "archive")
    cluster = new_cluster(place, "server", archive)
    cluster.configure(archive_command=archive_command(source.root, archive))
    try:
        cluster.start()
        say(cluster, "a")
        cluster.sql("INSERT INTO said (word) VALUES ('b')")
        next_name = cluster.current_segment()
        foreign = archive / next_name
        foreign.write_bytes(b"somebody else's file")
        give_all(archive)
        cluster.switch_segment()
        counted = "SELECT failed_count > 0, last_failed_wal FROM pg_stat_archiver"
        wait_until(lambda: cluster.sql(counted) == [("t", next_name)], "the failure is counted")
        assert foreign.read_bytes() == b"somebody else's file"
        assert f"{foreign} exists with other content" in cluster.log.read_text()
        foreign.rename(place / "aside")
        cluster.reload()
        wait_archived(cluster, next_name)
        assert foreign.stat().st_size == 1 << 20
    finally:
        cluster.destroy()
