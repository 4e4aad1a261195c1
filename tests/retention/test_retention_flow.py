"""Flow `retention` on a real Prefect: plan mode shows, execute mode removes."""

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.commands import retention_command
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.times import utc_now
from flows.retention import retention
from tests.support.repository_on_disk import DiskRepository, listing

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskRepository:
    """Three sets, the oldest to go; the settings file names the repository."""
    disk = DiskRepository(tmp_path / "backup", utc_now())
    disk.run("20d")
    disk.run("8d")
    disk.run("1d")
    home = tmp_path / "alfresco"
    (home / "alf_data/postgresql").mkdir(parents=True)
    env = tmp_path / "host.env"
    env.write_text(
        f"PGHOST=localhost\nPGUSER=alfresco\nBACKUP_DIR={disk.repository.root}\n"
        f"ALF_BASE_DIR={home}\nALF_HOST_NAME=demo\nRETENTION_DAYS=7\n"
    )
    env.chmod(0o600)
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(env))
    return disk


def test_plan_mode_shows_what_execute_mode_then_removes(disk, prefect_server):
    before = listing(disk.repository.root)
    said = retention()
    assert listing(disk.repository.root) == before
    assert said.startswith("To remove: 1 snapshot, 1 configuration, 1 base backup")
    assert said.endswith(f"\n\nTo remove it: {retention_command('demo')}")
    with get_client(sync_client=True) as client:
        key = ArtifactFilterKey(any_=["retention-plan-demo"])
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
    artifact = max(found, key=lambda item: str(item.created))  # other tests publish plans too
    assert said.startswith(artifact.description)
    assert '"verdict": "remove"' in str(artifact.data)
    done = retention(mode="execute")
    assert done.startswith("Retention removed 1 snapshot, 1 configuration, 1 base backup")
    assert [item.complete for item in read_catalogue(disk.repository).sets] == [True, True]
