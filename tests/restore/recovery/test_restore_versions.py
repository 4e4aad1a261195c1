"""Recovery by each version of PostgreSQL on this machine, tablespaces, and the predecessor's backups."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from alfresco_backup.backup.make import base_backup
from alfresco_backup.errors import RecoveryNotReached, Refused
from alfresco_backup.host.host import Run
from alfresco_backup.postgres.conf_file import AUTO_CONF
from alfresco_backup.postgres.wal_files import is_segment_name
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.planning.request import RestoreRequest
from alfresco_backup.restore.recovery.recovery_files import prepare_recovery
from alfresco_backup.restore.recovery.recovery_settings import BEGIN, RECOVERY_FILES
from alfresco_backup.restore.recovery.restoration import open_restoration
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.times import make_stamp, utc_now
from demo.cluster import available_bindirs, stated_version
from demo.host import DemoHost
from demo.places import give_to
from flows.backup import backup
from flows.restore_full import restore_full
from flows.restore_pitr import restore_pitr
from flows.restore_postgres import restore_postgres
from flows.undo_restore import undo_restore
from tasks.restore.database import extract, set_aside, stop
from tasks.restore.plan import make_plan
from tasks.restore.recovery import recover
from tests.support.common import every_version, temporary_demo_host, wait_until
from tests.support.restoring import loaded, predecessors_backup, restores_of, undo_latest

pytestmark = pytest.mark.slow

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
        (record,) = restores_of(host)
        steps = [item.step for item in record.steps]
        assert steps.index(Step.CHECK_CONTENT) < steps.index(Step.OPEN_DATABASE) == len(steps) - 1


def test_a_server_without_a_unix_socket_is_opened_before_its_content_is_checked(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_of(None, monkeypatch) as host:
        host.stop("postgresql")
        with (host.cluster.directory / "postgresql.conf").open("a") as conf:
            conf.write("unix_socket_directories = ''\n")
        host.start("postgresql")
        backup()
        host.writer.close()
        assert "all are there" in restore_full(start_alfresco=False, **EXECUTE)
        assert_settled(host)
        (record,) = restores_of(host)
        steps = [item.step for item in record.steps]
        assert steps.index(Step.OPEN_DATABASE) < steps.index(Step.CHECK_CONTENT)
        assert record.not_done == ()


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
        assert "nothing was committed between it and the target time" in text
        assert host.read_state().difference(host.writer.state) == []


@pytest.mark.parametrize("silent", [True, False], ids=["before 13", "from 13 on"])
def test_wal_that_ends_before_the_moment_is_an_error_and_the_host_can_be_put_back(
    silent: bool, tmp_path: Path
) -> None:
    """A segment that is lost after the plan was made. Before 13 PostgreSQL opens the database silently."""
    found = [path for path in available_bindirs() if (stated_version(path) < 130000) == silent]
    if not found:
        pytest.skip("no such PostgreSQL here")
    with temporary_demo_host(found[-1], documents=30) as demo:
        host = loaded(demo)
        host.repository.logs.mkdir()
        run = Run(host, make_stamp(utc_now()), host.repository.logs / "test.log")
        base_backup(run, nothing)
        for _ in range(3):
            demo.writer.add()
            switch = host.server.switch_wal
            demo.cluster.sql(f"SELECT {switch}()")
        demo.writer.close()
        lived, moment = demo.writer.state, demo.writer.commits[1].committed_at
        wait_until(lambda: len(segments_of(demo)) >= 4, "the last segment is archived")
        request = RestoreRequest("postgres", target_time=moment, mode="execute", confirm="demo")
        restoration = open_restoration(host, make_plan(host, request))
        for service in ("alfresco", "postgresql"):
            stop(restoration, service)
        for path in segments_of(demo)[-2:]:
            path.unlink()
        list(set_aside(restoration))
        extract(restoration, nothing)
        prepare_recovery(restoration)
        with pytest.raises(RecoveryNotReached, match="the target: the WAL ended at"):
            recover(restoration, nothing)
        undo_latest(demo)
        assert demo.read_state().difference(lived) == []


def nothing(_done: float, _total: float) -> None:
    """Progress nobody looks at."""


def segments_of(demo: DemoHost) -> list[Path]:
    return sorted(path for path in demo.wal_archive.iterdir() if is_segment_name(path.stem))


def move_configuration(host: DemoHost) -> None:
    """As Debian's packages have it: postgresql.conf outside the data directory, and a command of its own."""
    data, elsewhere = host.cluster.directory, host.home / "etc"
    elsewhere.mkdir()
    host.stop("postgresql")
    shutil.move(data / "postgresql.conf", elsewhere / "postgresql.conf")
    with (elsewhere / "postgresql.conf").open("a") as stream:
        stream.write(f"data_directory = '{data}'\n")
        stream.writelines(f"{name}_file = '{data}/pg_{name}.conf'\n" for name in ("hba", "ident"))
    for path in (elsewhere, elsewhere / "postgresql.conf"):
        give_to(path, host.cluster.account)
    account = host.cluster.account
    change = f"setpriv --reuid {account.uid} --regid {account.gid} --clear-groups " if account else ""
    script = host.home / "start-postgresql"
    start = f'"{host.cluster.bindir}/pg_ctl" start -w -s -D "{elsewhere}" -l "{host.cluster.log}"'
    script.write_text(f"#!/bin/sh\ncd / && exec {change}{start}\n")
    script.chmod(0o755)
    with host.env_file.open("a") as stream:
        stream.write(f"PG_START_COMMAND={script}\n")
    subprocess.run([script], check=True)


def require_start_command(host: DemoHost, patch: pytest.MonkeyPatch) -> None:
    """Without that command the plan says so, whatever lies in the data directory, or with none in place."""
    env, data = host.directory / "no command.env", host.cluster.directory
    env.touch(0o600)
    env.write_text(host.env_file.read_text().replace("PG_START_COMMAND=", "# PG_START_COMMAND="))
    complaint = "contains no postgresql.conf, which is outside the data directory"
    away, stray = data.with_name("away"), data / "postgresql.conf"
    with patch.context() as inner:
        inner.setenv(ENV_FILE_VARIABLE, str(env))
        assert complaint in restore_full()
        if not host.cluster.facts.has_manifest:  # then only a set that keeps the configuration tells more
            return
        stray.touch()
        assert complaint in restore_full()
        stray.unlink()
        host.stop()
        data.rename(away)
        with pytest.raises(Refused, match=complaint):
            restore_full(**EXECUTE)
        away.rename(data)
    assert complaint not in restore_full()
    subprocess.run([host.home / "start-postgresql"], check=True)
    host.start("tomcat")


def test_a_server_whose_configuration_lies_elsewhere_is_started_by_its_own_command(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_of(None, monkeypatch) as host:
        move_configuration(host)
        backup()
        require_start_command(host, monkeypatch)
        host.writer.add()
        host.writer.add()
        host.writer.close()
        moment = host.writer.commits[0].committed_at
        restore_pitr(target_time=moment, **EXECUTE)
        assert host.read_state().difference(host.writer.state_at(moment)) == []
        assert not (host.cluster.directory / "postgresql.conf").exists()
        assert host.answer()


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
