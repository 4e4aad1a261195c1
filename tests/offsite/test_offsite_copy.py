"""A second copy in a folder of another place: sent, listed, sent again."""

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from alfresco_backup.errors import HostNotReady
from alfresco_backup.host.host import load_host
from alfresco_backup.offsite.engine import FarSideAway
from alfresco_backup.offsite.locks import action_lock
from alfresco_backup.offsite.state import read_state
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.times import for_people
from flows.backup import backup
from flows.offsite import offsite_copy, offsite_wal
from tasks.runs.history import of_host
from tests.support.common import temporary_demo_host
from tests.support.far_sides import verb

PASSWORD = "correct horse battery"


def goes_away(*_: object) -> str:
    raise FarSideAway("gone", "ping nas")


def test_sets_and_wal_are_sent_once_and_listed(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_demo_host(documents=40) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        with host.env_file.open("a") as file:
            file.write(f"OFFSITE_REPOSITORY={tmp_path}/far\nOFFSITE_PASSWORD='{PASSWORD}'\n")
        backup()
        assert verb(host, "offsite", "init")["made"] is True
        again = verb(host, "offsite", "init")
        assert again["made"] is False
        assert "RECOVERY SHEET" in str(again["text"]) and PASSWORD not in str(again)
        with monkeypatch.context() as patch, pytest.raises(FarSideAway):
            patch.setattr("flows.offsite.show_sets", goes_away)
            offsite_copy()
        begun = read_state(load_host().repository)
        assert begun and len(begun.whole) == 1, "a set that has arrived is noted at once"
        assert begun.newest_complete == begun.whole[0] and begun.run("copy").error == "gone"
        assert offsite_copy() == "0 backup IDs sent; 1 of 1 sets are whole off-site"
        host.writer.work(5)
        backup(components=["contentstore"])
        assert offsite_copy() == "1 backup IDs sent; 2 of 2 sets are whole off-site"
        sent = offsite_wal()
        loaded = load_host()
        state = read_state(loaded.repository)
        [base] = read_catalogue(loaded.repository).bases
        assert state and (state.newest_complete, len(state.whole), state.sets) == (base.stamp, 2, 2)
        assert state.wal_until and state.wal_until >= base.stopped_at
        assert (
            sent == f"the WAL archive is off-site; commits up to {for_people(state.wal_until)} are safe there"
        )
        assert state.run("copy").sent_bytes > 0 and state.run("wal").sentence == sent
        with get_client(sync_client=True) as client:
            key = ArtifactFilterKey(any_=[of_host("offsite-sets", loaded.name)])
            tables = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
        newest = max(tables, key=lambda item: str(item.created))
        assert base.stamp in str(newest.data) and str(newest.description).endswith(
            "1 backup IDs sent; 2 of 2 sets are whole off-site"
        )
        logs = {path.name.rpartition("-")[0] for path in loaded.repository.logs.glob("offsite-*.log")}
        assert logs == {"offsite-copy", "offsite-wal"}
        with action_lock(loaded, "copy"), action_lock(loaded, "wal"):
            assert "skipped: another `offsite copy` of " in str(offsite_copy())
            assert "skipped: another `offsite wal` of " in str(offsite_wal())
        after = read_state(loaded.repository)
        assert after == state
        listed = verb(host, "offsite", "list")
        assert len(listed["sets"]) == 2 and listed["wal"]  # type: ignore[arg-type]


def test_where_the_wal_archive_is_not_there_nothing_is_sent_as_it(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_demo_host(documents=40) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        with host.env_file.open("a") as file:
            file.write(f"OFFSITE_REPOSITORY={tmp_path}/far\nOFFSITE_PASSWORD='{PASSWORD}'\n")
        verb(host, "offsite", "init")
        host.wal_archive.rename(host.wal_archive.with_name("away"))
        with pytest.raises(HostNotReady, match=f"there is no WAL archive at {host.wal_archive}"):
            offsite_wal()
        assert verb(host, "offsite", "list")["wal"] is None
