"""A timeline's history that is missing or damaged in the archive stops a restore before it begins."""

import subprocess

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from flows.backup import backup
from flows.restore_postgres import restore_postgres
from tests.support.common import temporary_demo_host
from tests.support.damaged_wal import finish_segment

EXECUTE = {"mode": "execute", "confirm": "demo", "start_alfresco": False}


@pytest.mark.slow
def test_a_restore_without_the_history_is_refused_and_its_fix_puts_it_back(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_demo_host(documents=20) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        backup()
        restore_postgres(**EXECUTE)  # begins timeline 2
        host.writer.add(2)
        backup()
        target = host.writer.add(3).committed_at
        finish_segment(host)
        expected = host.writer.state_at(target)
        host.writer.close()
        host.stop()
        host.cluster.directory.rename(host.cluster.directory.with_name("lost"))
        history = host.wal_archive / "00000002.history"
        for fault in (history.unlink, lambda: history.write_bytes(b"\0" * 40)):
            content, status = history.read_bytes(), history.stat()
            fault()
            with pytest.raises(
                Refused, match=r"00000002\.history is (missing|damaged) in the WAL archive"
            ) as told:
                restore_postgres(target_time=target, **EXECUTE)
            subprocess.run(["sh", "-c", told.value.hint], check=True, cwd="/")
            assert history.read_bytes() == content
            assert history.stat().st_uid == status.st_uid
        restore_postgres(target_time=target, **EXECUTE)
        assert host.read_state().difference(expected) == []
