"""Recovery by each version of PostgreSQL on this machine, tablespaces, and the predecessor's backups."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.catalogue import read_catalogue
from alfresco_backup.recovery_settings import AUTO_CONF, BEGIN, RECOVERY_FILES
from alfresco_backup.settings import ENV_FILE_VARIABLE
from alfresco_backup.stamps import LEGACY_FORMAT
from demo.cluster import available_bindirs, stated_version
from demo.host import DemoHost
from demo.places import give_to
from flows.backup import backup
from flows.restore_full import restore_full
from flows.restore_pitr import restore_pitr
from flows.restore_postgres import restore_postgres
from flows.undo_restore import undo_restore
from tests.restoring import loaded
from tests.support import every_version, temporary_demo_host

EXECUTE = {"mode": "execute", "confirm": "demo"}
MICROSECOND = timedelta(microseconds=1)
COUNT = "SELECT count(*) FROM elsewhere"


@contextmanager
def host_of(bindir: Path | None, patch: pytest.MonkeyPatch) -> Iterator[DemoHost]:
    with temporary_demo_host(bindir, documents=40) as host:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        yield host


def add_tablespace(host: DemoHost, name: str = "elsewhere") -> Path:
    """A table in a tablespace beside the data directory; returns the place."""
    place = host.home / "alf_data" / f"tablespace {name}"
    place.mkdir()
    give_to(place, host.cluster.account)
    host.cluster.sql(f"CREATE TABLESPACE {name} LOCATION '{place}'")
    host.cluster.sql(f"CREATE TABLE {name} (n int) TABLESPACE {name}")
    host.cluster.sql(f"INSERT INTO {name} SELECT generate_series(1, 1000)")
    return place


def assert_settled(host: DemoHost) -> None:
    """The server runs as always: nothing of the recovery is left in its directory or its settings."""
    left = [name for name in RECOVERY_FILES if (host.cluster.directory / name).exists()]
    assert left == []
    assert BEGIN not in (host.cluster.directory / AUTO_CONF).read_text()
    asked = host.cluster.sql("SELECT pg_is_in_recovery(), current_setting('hot_standby')")
    assert asked == [("f", "on" if host.cluster.version >= 100000 else "off")]


@every_version
def test_each_version_recovers_to_a_moment_with_its_tablespace(
    bindir: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_of(bindir, monkeypatch) as host:
        place = add_tablespace(host)
        backup()
        host.writer.add()
        host.writer.add()
        host.cluster.sql("INSERT INTO elsewhere VALUES (1001)")
        host.writer.close()
        first = host.writer.commits[0].committed_at
        restore_postgres(target_time=first, start_alfresco=False, **EXECUTE)
        assert host.read_state().difference(host.writer.state_at(first)) == []
        assert host.cluster.sql(COUNT) == [("1000",)]
        assert len(list(place.parent.glob(f"{place.name}.before-restore-*"))) == 1
        assert_settled(host)


def test_a_tablespace_is_put_back_and_the_restored_server_is_backed_up_and_restored_again(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_of(None, monkeypatch) as host:
        place = add_tablespace(host)
        backup()
        host.cluster.sql("INSERT INTO elsewhere VALUES (1001)")
        add_tablespace(host, "later")
        restore_full(start_alfresco=False, **EXECUTE)
        assert host.cluster.sql(COUNT) == [("1000",)]
        undo_restore(**EXECUTE)
        assert host.cluster.sql(COUNT) == [("1001",)]
        restore_postgres(target_time="latest", start_alfresco=False, **EXECUTE)
        assert host.cluster.sql(COUNT) == [("1001",)]
        assert host.cluster.sql("SELECT count(*) FROM later") == [("1000",)]
        host.cluster.sql("DELETE FROM elsewhere WHERE n > 10")
        assert "restorable from" in backup()
        host.cluster.sql("DROP TABLE elsewhere")
        restore_full(start_alfresco=False, **EXECUTE)
        assert host.cluster.sql(COUNT) == [("10",)]
        assert len(list(place.parent.glob(f"{place.name}.before-restore-*"))) == 2
        assert_settled(host)


def test_a_moment_after_the_last_commit_is_the_end_of_the_wal_also_before_13(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 13 PostgreSQL opens silently when the WAL ends before the target; here that is the state."""
    old = [path for path in available_bindirs() if 100000 <= stated_version(path) < 130000]
    if not old:
        pytest.skip("no PostgreSQL before 13 here")
    with host_of(old[0], monkeypatch) as host:
        backup()
        host.writer.add()
        host.writer.close()
        moment = host.writer.commits[-1].committed_at + MICROSECOND
        text = restore_pitr(target_time=moment, **EXECUTE)
        assert "nothing was committed between it and the moment asked for" in text
        assert host.read_state().difference(host.writer.state) == []


def predecessors_backup(host: DemoHost) -> str:
    """What the predecessor made: a gzipped tar with its WAL, and the whole store under a local time."""
    stamp = datetime.now().strftime(LEGACY_FORMAT)  # noqa: DTZ005 - the predecessor's names hold local time
    base = host.backup_dir / "postgres" / f"base-{stamp}"
    base.mkdir(parents=True)
    give_to(base, host.cluster.account)
    argv = [
        str(host.cluster.bindir / "pg_basebackup"),
        "-D",
        str(base),
        "-Ft",
        "-z",
        "-X",
        "fetch",
        "-c",
        "fast",
    ]
    environment = {**os.environ, **host.cluster.environment()}
    subprocess.run(argv, env=environment, check=True)
    tree = host.backup_dir / "contentstore" / f"contentstore-{stamp}"
    tree.parent.mkdir()
    subprocess.run(["cp", "-a", host.layout.contentstore, tree], check=True)
    (tree.parent / "last").symlink_to(tree)
    return stamp


def test_the_predecessors_backups_are_restored(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with host_of(None, monkeypatch) as host:
        stamp = predecessors_backup(host)
        in_set = host.writer.state.copy()
        host.writer.add(3)
        host.writer.close()
        for document in in_set.live_documents()[:5]:
            (host.layout.contentstore / document.path).unlink()
        assert read_catalogue(loaded(host).repository).sets[0].legacy
        text = restore_full(backup=stamp, **EXECUTE)
        assert "made by the predecessor" in restore_full(backup=stamp)
        assert host.read_state().difference(in_set) == []
        assert host.missing_documents(in_set) == []
        assert "5 files copied" in text
