"""A full restore while the WAL archive is empty: it was set aside, or is a new one."""

import shutil

import pytest

from alfresco_backup.postgres.wal_files import MARKER, is_segment_name
from alfresco_backup.restore.journal.journal_record import RestoreState
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.places import give_to
from flows.backup import backup
from flows.restore_full import restore_full
from tests.support.common import temporary_demo_host, wait_until
from tests.support.restoring import loaded, restores_of

EXECUTE = {"mode": "execute", "confirm": "demo"}


def test_a_set_is_restored_with_its_own_wal_and_the_server_archives_into_the_empty_archive(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the `mv … && mkdir` that a refusal for another cluster's archive names."""
    with temporary_demo_host(documents=30) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        backup()
        in_set = host.writer.state.copy()
        host.writer.add()
        host.writer.close()
        archive = host.wal_archive
        host.wipe()
        shutil.move(archive, archive.with_name("pg_wal-of-another"))
        archive.mkdir()
        give_to(archive, host.cluster.account)
        assert f"The WAL archive {archive} is empty" in restore_full()
        restore_full(**EXECUTE)
        assert restores_of(host)[-1].state is RestoreState.COMPLETED
        assert host.read_state().difference(in_set) == []
        host.cluster.sql(f"SELECT {loaded(host).server.switch_wal}()")
        wait_until(
            lambda: any(is_segment_name(path.stem) for path in archive.iterdir()), "a segment is archived"
        )
        assert (archive / MARKER).is_file()
        assert "restorable from" in backup()
