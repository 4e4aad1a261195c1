"""What a backup shows in Prefect is what `python -m alfresco_backup status` shows."""

from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from alfresco_backup.host.host import load_host
from alfresco_backup.repository.pins import pin_set
from alfresco_backup.status.as_text import status_rows
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import utc_now
from tasks.runs.fleet import publish_state, read_keys
from tasks.runs.history import publish_catalogue
from tests.support.restorable_repositories import env_of, restorable_repository


@pytest.mark.usefixtures("prefect_server")
def test_a_server_without_a_deployment_of_the_host_is_not_told_of_its_state(tmp_path: Path) -> None:
    publish_state(load_host(env_of(tmp_path / "backup", tmp_path)), "backup")
    with get_client(sync_client=True) as client:
        assert read_keys(client, ["host-status-demo"]) == []


@pytest.mark.usefixtures("prefect_server")
def test_the_artifacts_of_a_backup_are_the_status(tmp_path: Path):
    disk = restorable_repository(tmp_path / "backup", utc_now(), ("2d", "1d", "3h"))
    host = load_host(env_of(disk.repository.root, tmp_path))
    oldest, *_, newest = read_status(host.settings, disk.now).sets[::-1]
    pin_set(disk.repository, oldest.item.stamp, "before the upgrade", disk.now)

    @flow
    def publish() -> None:
        publish_catalogue(host, newest.item.stamp)

    publish()
    with get_client(sync_client=True) as client:
        key = ArtifactFilterKey(any_=["backup-sets-demo", "backup-status-demo"])
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
    newest_of = {item.key: item for item in sorted(found, key=lambda item: str(item.created))}
    table, text = newest_of["backup-sets-demo"], newest_of["backup-status-demo"]
    report = read_status(host.settings, utc_now())
    expected = str(status_rows(report)).replace("'", '"')
    assert table.data.replace("'", '"') == expected
    assert '"pinned": "before the upgrade (since ' in expected
    assert table.description == f"demo: 3 complete sets in {disk.repository.root}; {report.headline}"
    assert f"**{report.headline}**" in text.data and "pinned: before the upgrade" in text.data
