"""Recovery that does not go by itself: start commands that fail, Alfresco that something starts meanwhile."""

import io
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.backup.make import base_backup
from alfresco_backup.errors import BackupError, Refused, ToolFailed
from alfresco_backup.host.service_control import look_at
from alfresco_backup.host.services import endpoint_of
from alfresco_backup.restore.journal.journal_record import list_restores
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.planning.request import RestoreRequest
from alfresco_backup.restore.recovery.recovery_files import prepare_recovery
from alfresco_backup.restore.recovery.recovery_settings import RESTRICTED_FILES
from alfresco_backup.restore.recovery.restoration import Restoration, open_restoration
from alfresco_backup.restore.recovery.saved_wal import save_wal
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_full import restore_full
from flows.restore_pitr import restore_pitr
from tasks.restore.database import extract, set_aside, stop
from tasks.restore.finish import set_aside_indexes
from tasks.restore.opening import _restricted_database, give_normal_access
from tasks.restore.plan import make_plan
from tasks.restore.recovery import reach, recover
from tasks.restore.undo_outcome import require_usable
from tests.restore.recovery.test_restore_versions import (
    EXECUTE,
    MICROSECOND,
    host_of,
    move_configuration,
    nothing,
)
from tests.support.common import full_disk, run_on, temporary_demo_host
from tests.support.restoring import loaded, undo_latest

pytestmark = pytest.mark.slow


def test_a_start_command_that_waits_and_fails_at_the_end_of_the_wal_does_not_end_the_restore(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 13 on PostgreSQL stops when the WAL ends before the moment, which here is the state asked for."""
    with host_of(None, monkeypatch) as host:
        move_configuration(host)
        host.cluster.sql("ALTER SYSTEM SET autovacuum = off")  # its commits may come after the moment
        host.cluster.sql("SELECT pg_reload_conf()")
        backup()
        host.writer.add()
        host.writer.close()
        moment = host.writer.commits[-1].committed_at + MICROSECOND
        text = restore_pitr(target_time=moment, **EXECUTE)
        assert "nothing was committed between it and the target time" in text
        assert host.read_state().difference(host.writer.state) == []
        assert host.answer()


def test_a_start_command_that_starts_nothing_ends_the_restore_with_its_words(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_of(None, monkeypatch) as host:
        move_configuration(host)
        backup()
        host.writer.close()
        script = host.home / "start-postgresql"
        works = script.read_text()
        script.write_text("#!/bin/sh\necho no such cluster; exit 3\n")
        with pytest.raises(ToolFailed, match="exit code 3; it said:\nno such cluster"):
            restore_full(**EXECUTE)
        script.write_text(works)
        undo_latest(host)
        assert host.read_state().difference(host.writer.state) == []


def ready_to_recover(demo: DemoHost) -> Restoration:
    """A restore of the database to its latest state, up to before the first start of PostgreSQL."""
    restoration = ready_to_extract(demo)
    extract(restoration, nothing)
    prepare_recovery(restoration)
    return restoration


def ready_to_extract(demo: DemoHost) -> Restoration:
    """The same up to before the extraction."""
    restoration = begun(demo)
    with restoration.step(Step.SAVE_WAL):
        save_wal(restoration)
    list(set_aside(restoration))
    return restoration


def begun(demo: DemoHost) -> Restoration:
    """The same up to where both services are down."""
    host = loaded(demo)
    request = RestoreRequest("postgres", target_time="latest", mode="execute", confirm="demo")
    restoration = open_restoration(host, make_plan(host, request))
    for service in ("alfresco", "postgresql"):
        stop(restoration, service)
    return restoration


def test_an_extraction_that_fails_does_not_wait_for_the_checksum_of_the_whole_tar() -> None:
    """Of a database of a terabyte that is the better part of an hour, in which Ctrl-C would seem lost."""
    with temporary_demo_host(documents=30) as demo:
        base_backup(run_on(demo), nothing)
        demo.writer.close()
        restoration = ready_to_extract(demo)
        tar = restoration.database.base.path / "base.tar.zst"
        tar.unlink()
        tar.symlink_to("/dev/zero")  # no tar, and no end
        with pytest.raises(ToolFailed, match="zstd"):
            extract(restoration, nothing)
        undo_latest(demo)
        assert demo.read_state().difference(demo.writer.state) == []


def test_the_reason_why_a_file_could_not_be_written_is_not_lost_among_the_progress_of_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """tar goes on to the end of the archive after a failure, and says every so often how far it is."""
    monkeypatch.setattr("tasks.restore.database.CHECKPOINT_RECORDS", 1)
    with temporary_demo_host(documents=30) as demo:
        base_backup(run_on(demo), nothing)
        demo.writer.close()
        restoration = ready_to_extract(demo)
        plain = tmp_path / "base.tar"
        with tarfile.open(plain, "w") as tar:
            tar.addfile(tarfile.TarInfo("PG_VERSION"))
            tar.addfile(tarfile.TarInfo("PG_VERSION/below-a-file"))
            rest = tarfile.TarInfo("rest")
            rest.size = 1 << 20
            tar.addfile(rest, io.BytesIO(bytes(rest.size)))
        subprocess.run(
            ["zstd", "-q", "-f", plain, "-o", restoration.database.base.path / "base.tar.zst"], check=True
        )
        with pytest.raises(ToolFailed, match="PG_VERSION/below-a-file: Cannot open: Not a directory"):
            extract(restoration, nothing)
        undo_latest(demo)


def test_nobody_is_let_into_a_recovered_database_before_the_restore_has_judged_it() -> None:
    with temporary_demo_host(documents=30) as demo:
        base_backup(run_on(demo), nothing)
        demo.writer.add()
        demo.writer.close()
        usual = demo.cluster.sql("SHOW hba_file")
        restoration = ready_to_recover(demo)
        database = restoration.host.database
        reached = reach(restoration, nothing)
        assert reached.timeline == 2
        assert endpoint_of("postgresql", restoration.host.settings).answers()
        with pytest.raises(ToolFailed, match=r"pg_hba\.conf rejects connection"):
            database.value("SELECT 1")
        inside = _restricted_database(restoration)
        assert inside.query("SELECT current_user, pg_is_in_recovery()") == [("alfresco", "f")]
        elsewhere = replace(inside, environment={**inside.environment, "PGDATABASE": "postgres"})
        with pytest.raises(ToolFailed, match=r"pg_hba\.conf rejects connection"):
            elsewhere.value("SELECT 1")
        record = list_restores(restoration.host.repository.restores("demo"))[-1]
        with pytest.raises(Refused, match=r"pg_hba\.conf rejects connection") as refused:
            require_usable(restoration.host, record)
        assert (
            "until the recovery is ended as docs/explanation/restores.md describes" in refused.value.message
        )
        give_normal_access(restoration)
        assert database.value("SELECT pg_is_in_recovery()") == "f"
        assert demo.cluster.sql("SHOW hba_file") == usual
        assert not any((demo.cluster.directory / name).exists() for name in RESTRICTED_FILES)
        assert demo.read_state().difference(demo.writer.state) == []


@pytest.mark.parametrize("ends", ["opened", "undone"])
def test_a_server_that_the_restore_started_is_stopped_without_asking_a_unit_that_does_not_know_it(
    ends: str,
) -> None:
    """`systemctl stop` of a unit that is not active ends well and stops nothing."""
    with temporary_demo_host(documents=30) as demo:
        base_backup(run_on(demo), nothing)
        demo.writer.close()
        restoration = ready_to_recover(demo)
        reach(restoration, nothing)
        asked, unit = demo.home / "asked", demo.home / "systemctl"
        unit.write_text(f"#!/bin/sh\ntouch '{asked}'\n")
        unit.chmod(0o755)
        with demo.env_file.open("a") as stream:
            stream.write(f"PG_STOP_COMMAND={unit} stop postgresql\n")
        if ends == "opened":
            give_normal_access(replace(restoration, host=loaded(demo)))
        else:
            undo_latest(demo)
        assert not asked.exists()
        assert demo.read_state().difference(demo.writer.state) == []


def test_wal_that_a_full_disk_could_not_take_is_gone_after_the_undo() -> None:
    with temporary_demo_host(documents=30) as demo:
        base_backup(run_on(demo), nothing)
        demo.writer.close()
        restoration = begun(demo)
        saved = restoration.database.saved_wal
        said = "save-wal: .*File too large"
        step = restoration.step(Step.SAVE_WAL)
        with full_disk(1 << 16), pytest.raises(BackupError, match=said) as failure, step:
            save_wal(restoration)
        assert f" undo --backup {restoration.plan.restore_id}" in failure.value.hint
        assert (
            list(saved.iterdir()) == []
        )  # not a part of a segment, which would keep the journal from its end
        save_wal(restoration)
        assert len(list(saved.iterdir())) > 0
        undo_latest(demo)
        assert not saved.exists()
        assert demo.read_state().difference(demo.writer.state) == []


def test_alfresco_that_something_starts_meanwhile_meets_no_open_database_and_keeps_its_indexes() -> None:
    """As systemd and monit do, while a large backup is extracted."""
    with temporary_demo_host(documents=30) as demo:
        base_backup(run_on(demo), nothing)
        demo.writer.add()
        demo.writer.close()
        lived, host = demo.writer.state, loaded(demo)
        restoration = ready_to_recover(demo)
        assert restoration.plan.indexes
        pid_file: Path = host.installation.tomcat_pid_file
        with subprocess.Popen(["sleep", "600"]) as started:
            pid_file.write_text(f"{started.pid}\n")
            said = rf"Alfresco \(Tomcat\) was stopped and is up again.*process {started.pid} "
            try:
                with pytest.raises(BackupError, match=said):
                    recover(restoration, nothing)
                assert look_at(host, "postgresql").down
                with pytest.raises(BackupError, match=said):
                    give_normal_access(restoration)
                with pytest.raises(BackupError, match=said) as failure:
                    set_aside_indexes.fn(restoration)
            finally:
                started.kill()
                pid_file.unlink()
        assert "until the restore is over" in failure.value.hint
        assert f" undo --backup {restoration.plan.restore_id}" in failure.value.hint
        assert not any(move.target.exists() for move in restoration.plan.indexes)
        undo_latest(demo)
        assert demo.read_state().difference(lived) == []
