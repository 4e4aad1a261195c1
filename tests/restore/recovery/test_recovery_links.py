"""PostgreSQL's account can exchange all in its data directory: root works there with its rights."""

from pathlib import Path

import pytest

from alfresco_backup.backup.make import base_backup
from alfresco_backup.errors import BackupError
from alfresco_backup.host.service_control import _give_log
from alfresco_backup.postgres.conf_file import AUTO_CONF
from alfresco_backup.restore.journal.journal import restoring_name
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.recovery.recovery_files import apply_files, prepare_recovery, read_text
from alfresco_backup.restore.recovery.recovery_settings import RecoveryFiles
from alfresco_backup.restore.recovery.saved_wal import save_wal
from tasks.restore.database import extract, set_aside
from tasks.restore.recovery import Follower
from tests.restore.recovery.test_restore_recovery import begun
from tests.restore.recovery.test_restore_versions import nothing
from tests.support.common import run_on, temporary_demo_host
from tests.support.planting import SECRET, RootsOwn, as_root, given, holds_secret, other_account, planted
from tests.support.restoring import undo_latest

pytestmark = as_root
POSTGRES = other_account()


@pytest.fixture
def roots(reachable_path: Path) -> RootsOwn:
    return RootsOwn(reachable_path / "roots")


@pytest.fixture
def data(reachable_path: Path) -> Path:
    folder = reachable_path / "data"
    folder.mkdir(mode=0o700)
    return given(folder, POSTGRES)


def owners(root: Path) -> set[int]:
    return {path.lstat().st_uid for path in (root, *root.rglob("*"))}


def test_settings_are_written_by_the_account_and_read_with_its_rights(data: Path, roots: RootsOwn) -> None:
    planted(data / AUTO_CONF, roots.file, POSTGRES)
    planted(data / f"{AUTO_CONF}.partial", roots.file, POSTGRES)
    with pytest.raises(PermissionError):
        read_text(data / AUTO_CONF, POSTGRES)
    apply_files(RecoveryFiles(("recovery.conf",), {AUTO_CONF: "port = 5432\n"}), data, POSTGRES)
    assert (data / AUTO_CONF).read_text() == "port = 5432\n"
    assert {path.owner() for path in data.rglob("*")} == {"nobody"}
    planted(data / "conf", roots.folder, POSTGRES)
    with pytest.raises(PermissionError):
        apply_files(RecoveryFiles(("conf/secret",), {"conf/new": "port = 5432\n"}), data, POSTGRES)
    roots.require_unchanged()


def test_the_log_of_a_recovery_is_read_with_the_rights_of_its_server(data: Path, roots: RootsOwn) -> None:
    follower = Follower(data / "recovery.log", POSTGRES)
    planted(data / "recovery.log", roots.file, POSTGRES)
    with pytest.raises(PermissionError):
        follower.new_lines()


@pytest.mark.parametrize("hard", [False, True], ids=["link", "hard link"])
def test_the_log_of_a_server_is_neither_written_nor_given_away_through_a_link(
    data: Path, roots: RootsOwn, reachable_path: Path, hard: bool
) -> None:
    open_to_all = reachable_path / "open"
    open_to_all.mkdir()
    for folder in (data, open_to_all):
        if hard:
            (folder / "server.log").hardlink_to(roots.file)
        else:
            planted(folder / "server.log", roots.file, POSTGRES)
        with pytest.raises(OSError):
            _give_log(folder / "server.log", POSTGRES)
        (folder / "server.log").unlink()
    assert roots.file.stat().st_uid == 0 and roots.file.read_text() == SECRET
    if not hard:
        roots.require_unchanged()


@pytest.mark.slow
def test_links_in_the_data_directory_bring_no_file_of_roots_into_a_restore(roots: RootsOwn) -> None:
    with temporary_demo_host(documents=5) as demo:
        account = demo.cluster.account or POSTGRES
        base_backup(run_on(demo), nothing)
        demo.writer.close()
        restoration = begun(demo)
        saved, history = restoration.database.saved_wal, "0000000A.history"
        wal = restoration.host.installation.data_directory / "pg_wal"
        planted(wal / history, roots.file, account)
        for name in (f".{history}.tmp", f"{history}.partial"):
            planted(saved / name, roots.file, account)
        with restoration.step(Step.SAVE_WAL):
            save_wal(restoration)
        assert holds_secret(saved) == []
        assert not (saved / history).exists()
        assert owners(saved) == {account.uid}
        list(set_aside(restoration))
        extract(restoration, nothing)
        new = restoring_name(restoration.database.data_directory, restoration.plan.restore_id)
        planted(new / AUTO_CONF, roots.file, account)
        with pytest.raises((PermissionError, BackupError)):
            prepare_recovery(restoration)
        (new / AUTO_CONF).unlink()
        planted(new / f"{AUTO_CONF}.partial", roots.file, account)
        prepare_recovery(restoration)
        assert holds_secret(restoration.database.data_directory) == []
        assert owners(restoration.database.data_directory) == {account.uid}
        roots.require_unchanged()
        undo_latest(demo)
        assert demo.read_state().difference(demo.writer.state) == []
