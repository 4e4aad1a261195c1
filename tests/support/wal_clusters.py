"""A real WAL archive: small segments, two base backups, a recovery to an earlier moment, two timelines."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from alfresco_backup.postgres.backup_label import parse_backup_label
from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.system.processes import Command, run
from demo.cluster import Cluster, default_bindir, stated_version
from demo.places import give_to, server_account
from tests.support.common import wait_until
from tests.support.places import reachable_directory
from tests.support.wal_commands import give_all, install_commands, own_directory
from tests.support.wal_files import base_backup

SEGMENT_SIZE = 1 << 20
LIMIT_SECONDS = 600.0
CLOCK = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')"


@dataclass(frozen=True)
class ArchivedLife:
    """What a cluster left: its archive and base backups, and what happened when."""

    root: Path
    archive: Path
    owner: str
    bases: tuple[BaseBackup, ...]
    directories: tuple[Path, ...]
    target: datetime
    promoted_after: datetime
    ended: datetime


def new_cluster(root: Path, name: str, archive: Path, *options: str) -> Cluster:
    """A cluster with 1 MiB segments that archives by archive-wal, not started."""
    if stated_version(default_bindir()) < 110000:
        pytest.skip("before 11 the size of segments is fixed when PostgreSQL is built")
    place = own_directory(root / name)
    cluster = Cluster(
        default_bindir(), place / "data", durable=False, initdb_options=("--wal-segsize=1",)
    ).create()
    cluster.configure(
        wal_level="replica", archive_mode="on", archive_command=archive_command(root, archive, *options)
    )
    return cluster


def archive_command(root: Path, archive: Path, *options: str) -> str:
    return " ".join([f'"{root}/wal/archive-wal"', *options, '"%p" "%f"', f'"{archive}"'])


def now(cluster: Cluster) -> datetime:
    """The server's clock."""
    return datetime.fromisoformat(cluster.sql(f"SELECT {CLOCK}")[0][0])


def say(cluster: Cluster, *words: str) -> None:
    """Commit each word into a segment of its own, and wait until the last is archived."""
    cluster.sql("CREATE TABLE IF NOT EXISTS said (id serial, word text)")
    last = ""
    for word in words:
        cluster.sql(f"INSERT INTO said (word) VALUES ('{word}')")
        last = cluster.switch_segment()
    if last:
        wait_archived(cluster, last)


def wait_archived(cluster: Cluster, name: str) -> None:
    question = f"SELECT last_archived_wal >= '{name}' FROM pg_stat_archiver"
    wait_until(lambda: cluster.sql(question) == [("t",)], f"{name} is archived")


def said(cluster: Cluster) -> list[str]:
    return [word for (word,) in cluster.sql("SELECT word FROM said ORDER BY id")]


def take_base(cluster: Cluster, directory: Path, archive: Path, stamp: str) -> BaseBackup:
    """A base backup into a plain folder, with its record made from the archived `.backup` file."""
    own_directory(directory).chmod(0o700)
    program = str(cluster.bindir / "pg_basebackup")
    argv = (program, "-D", str(directory), "-X", "none", "-c", "fast", "--no-sync", "-U", cluster.superuser)
    run(Command(argv, LIMIT_SECONDS, cluster.environment(), cluster.account))
    stopped_at = now(cluster)
    label = parse_backup_label(max(archive.glob("*.backup")).read_text())
    owner = cluster.system_identifier
    timeline = int(label.start_wal[:8], 16)
    return base_backup(
        Lsn.parse(label.start_lsn),
        Lsn.parse(label.stop_lsn),
        timeline,
        stopped_at=stopped_at,
        segment_size=SEGMENT_SIZE,
        owner=owner,
        stamp=stamp,
    )


def recovering_copy(
    base: Path, directory: Path, restore_command: str, archive_command: str, **settings: object
) -> Cluster:
    """A copy of a base backup that recovers when it is started (PostgreSQL 12 and later), not started."""
    own_directory(directory.parent)
    shutil.copytree(base, directory, symlinks=True)
    (directory / "recovery.signal").touch()
    give_all(directory)
    cluster = Cluster(default_bindir(), directory, durable=False)
    cluster.configure(
        port=cluster.port,
        unix_socket_directories=str(cluster.socket_directory),
        restore_command=restore_command,
        archive_command=archive_command,
        recovery_target_action="promote",
        **settings,
    )
    return cluster


def wait_promoted(cluster: Cluster) -> None:
    wait_until(lambda: cluster.sql("SELECT pg_is_in_recovery()") == [("f",)], "recovery has ended")


@contextmanager
def archived_life() -> Iterator[ArchivedLife]:
    """Two base backups, a life to `ended`, a recovery of the second base to `target`, and a second life.

    Timeline 1 is archived plain, timeline 2 compressed.
    """
    with reachable_directory() as root, ExitStack() as stack:
        install_commands(root / "wal")
        archive = own_directory(root / "archive")
        first = new_cluster(root, "first", archive)
        stack.callback(first.destroy)
        first.start()
        say(first, "a")
        bases = [take_base(first, root / "base1", archive, "20261122T010000Z")]
        say(first, "b", "c", "d")
        bases.append(take_base(first, root / "base2", archive, "20261122T020000Z"))
        say(first, "e", "f")
        target = now(first)
        say(first, "g", "h")
        owner = first.system_identifier
        first.stop()
        restore = f'"{root}/wal/restore-wal" "%f" "%p" "{archive}"'
        again = archive_command(root, archive, "--zstd")
        second = recovering_copy(
            root / "base2", root / "second" / "data", restore, again, recovery_target_time=target.isoformat()
        )
        stack.callback(second.destroy)
        second.start()
        wait_promoted(second)
        promoted_after = now(second)
        assert said(second) == ["a", "b", "c", "d", "e", "f"]
        say(second, "i", "j", "k")
        ended = now(second)
        second.stop()
        yield ArchivedLife(
            root,
            archive,
            owner,
            tuple(bases),
            (root / "base1", root / "base2"),
            target,
            promoted_after,
            ended,
        )


def copy_of(archive: Path, directory: Path) -> Path:
    """A copy of an archive with its times, to be damaged."""
    shutil.copytree(archive, directory)
    give_to(directory, server_account())
    return directory
