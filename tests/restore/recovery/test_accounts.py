"""Backups and restores of the demo host by root and by an ordinary user: every file keeps its owner."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError, HostNotReady
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from demo.host import DemoHost
from demo.places import cache_directory
from flows.backup import backup
from flows.restore_full import restore_full
from flows.undo_restore import undo_restore
from tests.support.common import temporary_demo_host
from tests.support.planting import RootsOwn, as_root, given, other_account, planted, run_as

pytestmark = pytest.mark.slow
EXECUTE = {"mode": "execute", "confirm": "demo"}


def owners(host: DemoHost) -> dict[str, set[int]]:
    """The owners of all in the store, the data directory, and the other data of Alfresco."""
    data = host.home / "alf_data"
    return {
        name: {path.lstat().st_uid for path in (data / name, *(data / name).rglob("*"))}
        for name in ("contentstore", "postgresql", "keystore")
    }


def test_backup_restore_and_undo_change_no_owner(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_demo_host(documents=40) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        store = host.home / "alf_data/contentstore"
        if os.geteuid() == 0:
            given(store, other_account())
        before = owners(host)
        if os.geteuid() == 0:
            assert before["contentstore"] == {other_account().uid}
            assert host.cluster.account and before["postgresql"] == {host.cluster.account.uid}
        assert "restorable from" in backup()
        host.writer.close()
        documents = sorted(store.rglob("*.bin"), key=lambda path: path.stat().st_mtime)[5:]
        for path in documents[::2]:
            path.unlink()
        documents[1].write_bytes(b"")
        assert "all are there" in restore_full(**EXECUTE)
        assert owners(host) == before
        assert host.read_state().difference(host.writer.state) == []
        with pytest.raises(BackupError, match=f"{len(documents[::2]) + 1} documents"):
            undo_restore(**EXECUTE)
        assert owners(host) == before
        restore_full(contentstore="replace", **EXECUTE)
        assert owners(host) == before
        assert "restorable from" in backup()
        assert owners(host) == before


@as_root
def test_an_ordinary_users_backup_restore_and_undo_change_no_owner_either(reachable_path: Path) -> None:
    user = other_account()
    if run_as(user, sys.executable, "-c", "import prefect, redis").returncode != 0:
        pytest.skip(f"the account {user.name} may not run {sys.executable}")
    home = reachable_path / "home"
    cache = home / ".cache/alfresco-backup"
    cache.mkdir(parents=True)
    for servers in filter(Path.is_dir, cache_directory().glob("*")):
        (cache / servers.name).symlink_to(servers)
    given(home, user)
    name = test_backup_restore_and_undo_change_no_owner.__name__
    test = f"{Path(__file__).relative_to(PROJECT_DIRECTORY)}::{name}"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    as_user = ("setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups", "--")
    argv = (
        *as_user,
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--no-header",
        test,
    )
    done = subprocess.run(
        argv, cwd=PROJECT_DIRECTORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@as_root
def test_a_repository_of_postgresqls_account_works_but_leads_root_nowhere(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch, reachable_path: Path
) -> None:
    roots = RootsOwn(reachable_path / "roots")
    with temporary_demo_host(documents=10) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        account = host.cluster.account
        assert account
        backup()
        given(host.backup_dir, account)
        for name in ("postgres", "contentstore", "configuration", "logs"):
            place = host.backup_dir / name
            kept = place.rename(place.with_name(f"{name}.kept"))
            planted(place, roots.folder, account)
            with pytest.raises(HostNotReady) as refusal:
                backup()
            assert f"chown -h root {place}" in f"{refusal.value.message}\n{refusal.value.hint}"
            roots.require_unchanged()
            place.unlink()
            kept.rename(place)
        planted(host.backup_dir / "contentstore/latest.partial", roots.file, account)
        assert "restorable from" in backup()
        roots.require_unchanged()
        newest = read_catalogue(Repository(host.backup_dir)).complete_sets[-1]
        assert newest.base and newest.base.path.owner() == "root"
        host.writer.close()
        assert "all are there" in restore_full(**EXECUTE)
        roots.require_unchanged()
        assert host.read_state().difference(host.writer.state) == []
