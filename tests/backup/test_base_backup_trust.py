"""The folder of a base backup is PostgreSQL's account's while it is copied, then root's, who writes in it."""

from pathlib import Path

import pytest

from alfresco_backup.backup import make as steps
from alfresco_backup.errors import BackupUnsound
from alfresco_backup.host.host import Run
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import partial_of
from demo.host import DemoHost
from tests.support.common import run_on
from tests.support.planting import RootsOwn, as_root, run_as

pytestmark = as_root


def nothing(_done: float, _total: float) -> None:
    """Progress that is not shown."""


def plant_while_copied(run_: Run, name: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let PostgreSQL's account put a link beside what pg_basebackup has written."""
    copy, link = steps.copy_database, partial_of(run_.repository.base(run_.stamp)) / name

    def copy_and_plant(*arguments):  # type: ignore[no-untyped-def]
        damaged = copy(*arguments)
        planted = run_as(run_.host.account, "ln", "-s", target, link)
        assert planted.returncode == 0, planted.stderr
        return damaged

    monkeypatch.setattr(steps, "copy_database", copy_and_plant)
    return link


@pytest.mark.parametrize("name", ["pg_wal.tar.zst", "backup.json.partial", "pg_wal.gathered", "1.tar.zst"])
def test_a_link_that_postgresqls_account_planted_ends_the_backup_and_leads_root_nowhere(
    name: str, shared_demo_host: DemoHost, reachable_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots, run_ = RootsOwn(reachable_path / "roots"), run_on(shared_demo_host)
    target = roots.folder if name == "pg_wal.gathered" else roots.file
    link = plant_while_copied(run_, name, target, monkeypatch)
    with pytest.raises(BackupUnsound, match=f"{link} was made by another process of the account "):
        steps.base_backup(run_, nothing)
    roots.require_unchanged()
    assert run_.stamp not in {base.stamp for base in read_catalogue(run_.repository).bases}


def test_a_published_base_backup_belongs_to_root_and_names_the_servers_account(
    shared_demo_host: DemoHost,
) -> None:
    run_ = run_on(shared_demo_host)
    backup = steps.base_backup(run_, nothing)
    assert {path.owner() for path in (backup.path, *backup.path.iterdir())} == {"root"}
    assert {path.stat().st_mode & 0o077 for path in (backup.path, backup.path / "base.tar.zst")} == {0}
    assert backup.account == shared_demo_host.cluster.account.name
    assert read_catalogue(run_.repository).bases[-1] == backup
