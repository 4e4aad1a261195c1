"""A BACKUP_DIR that belongs to another account: no link that it puts there leads root anywhere else."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard

from alfresco_backup.configure.changes import FolderChange
from alfresco_backup.configure.journal import Entry, begin_journal
from alfresco_backup.contentstore.check_findings import FindingsFile
from alfresco_backup.contentstore.reread import Reader, StoredContent, read_share, state_file
from alfresco_backup.errors import BackupError
from alfresco_backup.postgres.database import Database
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.preflight.files import check_file_system
from alfresco_backup.repository.pins import pin_file, pin_set, unpin_set
from alfresco_backup.restore.recovery.restoration import put_restore_wal
from alfresco_backup.retention.holds import Hold, write_hold
from alfresco_backup.retention.removal import remove_below, remove_empty_parents, remove_published
from alfresco_backup.system.folders import make_folder
from alfresco_backup.wal.verify import Verifier
from tasks.alerts.facts import tail_of
from tests.support.catalogues import NOW
from tests.support.planting import SECRET, RootsOwn, as_root, given, holds_secret, other_account, planted
from tests.support.repository_on_disk import DiskRepository

pytestmark = as_root
POSTGRES = other_account()
NOBODY_ASKED = Database(Programs(Path("/nowhere"), 150018), {})
HOLD = Hold("20261122T023000Z", "clock", "the clock is ahead", NOW)


@pytest.fixture
def disk(reachable_path: Path) -> DiskRepository:
    """A repository with one set, all of it of PostgreSQL's account, as the predecessor's often were."""
    made = DiskRepository(reachable_path / "backup")
    made.run("1d")
    given(made.repository.root, POSTGRES)
    return made


@pytest.fixture
def roots(reachable_path: Path) -> RootsOwn:
    return RootsOwn(reachable_path / "roots")


def refused(action: Callable[[], Any]) -> None:
    with pytest.raises((OSError, BackupError)):
        action()


def pin(disk: DiskRepository) -> None:
    pin_set(disk.repository, stamp_of(disk), "before the upgrade", NOW)


def stamp_of(disk: DiskRepository) -> str:
    return next(disk.repository.postgres.glob("base-*")).name.removeprefix("base-")


def test_pins_are_neither_written_nor_removed_behind_a_link(disk: DiskRepository, roots: RootsOwn) -> None:
    planted(disk.repository.pins, roots.folder, POSTGRES)
    refused(lambda: pin(disk))
    roots.require_unchanged()
    disk.repository.pins.unlink()
    pin(disk)
    kept = pin_file(disk.repository, stamp_of(disk)).read_bytes()
    (roots.folder / f"{stamp_of(disk)}.json").write_bytes(kept)
    before = roots.state()
    disk.repository.pins.rename(disk.repository.root / "own")
    planted(disk.repository.pins, roots.folder, POSTGRES)
    refused(lambda: unpin_set(disk.repository, stamp_of(disk)))
    assert roots.state() == before


@pytest.mark.parametrize("name", ["", f"{HOLD.run}.json", f"{HOLD.run}.json.partial"])
def test_a_hold_is_not_written_behind_a_link(disk: DiskRepository, roots: RootsOwn, name: str) -> None:
    place = disk.repository.holds / name
    if name:
        make_folder(disk.repository.holds, owner=POSTGRES)
    planted(place, roots.file if name else roots.folder, POSTGRES)
    if name:
        write_hold(disk.repository, HOLD)
        assert not place.is_symlink()
    else:
        refused(lambda: write_hold(disk.repository, HOLD))
    roots.require_unchanged()


def test_retention_removes_nothing_behind_a_link(disk: DiskRepository, roots: RootsOwn) -> None:
    (roots.folder / "tree/below").mkdir(parents=True)
    before = roots.state()
    folder = planted(disk.repository.root / "away", roots.folder, POSTGRES)
    refused(lambda: remove_published(folder / "tree"))
    refused(lambda: remove_below(folder, "tree"))
    remove_empty_parents(folder, "tree/below/file")
    assert roots.state() == before


def test_the_file_of_findings_overwrites_nothing_behind_a_link(disk: DiskRepository, roots: RootsOwn) -> None:
    file = disk.repository.logs / "content-check.csv"
    planted(file.with_name(f"{file.name}.partial"), roots.file, POSTGRES)
    with FindingsFile(file, NOBODY_ASKED):
        pass
    roots.require_unchanged()
    disk.repository.logs.rename(disk.repository.root / "own")
    planted(disk.repository.logs, roots.folder, POSTGRES)
    refused(FindingsFile(file, NOBODY_ASKED).__enter__)
    roots.require_unchanged()


def test_what_drills_have_read_is_not_noted_behind_a_link(disk: DiskRepository, roots: RootsOwn) -> None:
    store = disk.repository.store("contentstore")
    store.days.rename(disk.repository.root / "own")
    planted(store.days, roots.folder, POSTGRES)
    with ThreadPoolExecutor(1) as pool:
        refused(lambda: read_share(StoredContent(store, [], None), 1, Reader(pool), print))
    assert state_file(store).parent == store.days
    roots.require_unchanged()


def test_the_preflight_tries_nothing_where_a_link_leads(disk: DiskRepository, roots: RootsOwn) -> None:
    root = disk.repository.root
    root.rename(root.with_name("own"))
    planted(root, roots.folder, POSTGRES)
    server = SimpleNamespace(data_directory=Path("/"))
    host: Any = SimpleNamespace(repository=disk.repository, installation=server, account=POSTGRES)
    (finding,) = check_file_system(host)
    assert finding.level == "error" and "cannot be made and removed" in finding.sentence
    roots.require_unchanged()


def test_configure_keeps_no_journal_behind_a_link(disk: DiskRepository, roots: RootsOwn) -> None:
    planted(disk.repository.configures, roots.folder, POSTGRES)
    refused(lambda: begin_journal(disk.repository, "20261122T023000Z", []))
    roots.require_unchanged()


def test_configure_copies_no_file_over_what_a_link_leads_to(disk: DiskRepository, roots: RootsOwn) -> None:
    change = FolderChange("a folder", "", "made", "a test", str(disk.repository.root / "conf"), 0, 0, 0o755)
    journal = begin_journal(disk.repository, "20261122T023000Z", [change])
    entry: Entry = journal.entries[0]
    planted(journal.copy_of(entry), roots.file, POSTGRES)
    journal.keep(entry, b"the file before")
    assert journal.copy_of(entry).read_bytes() == b"the file before"
    roots.require_unchanged()


def test_restore_wal_is_put_in_the_place_of_a_link(disk: DiskRepository, roots: RootsOwn) -> None:
    program = planted(disk.repository.root / "restore-wal", roots.file, POSTGRES)
    assert put_restore_wal(disk.repository.root) == program
    assert (program.owner(), program.stat().st_mode & 0o777, program.is_symlink()) == ("root", 0o755, False)
    roots.require_unchanged()


def test_a_mail_quotes_no_log_that_is_a_link(disk: DiskRepository, roots: RootsOwn) -> None:
    log = planted(disk.repository.logs / "backup-20261122T023000Z.log", roots.file, POSTGRES)
    (line,) = tail_of(log)
    assert SECRET.strip() not in line
    assert line.startswith(f"{log} cannot be read: a link of the account nobody is on this path")


@pytest.mark.parametrize("ending", ["", ".zst"])
def test_no_segment_that_is_a_link_is_copied_to_be_verified(
    disk: DiskRepository, roots: RootsOwn, tmp_path: Path, ending: str
) -> None:
    """pg_waldump of an Alfresco home reads the copy as the account that owns the home."""
    (roots.folder / "secret.zst").write_bytes(zstandard.compress(SECRET.encode()))
    segment = f"{1:08X}{0:08X}{9:08X}{ending}"
    planted(disk.repository.wal / segment, roots.folder / f"secret{ending}", POSTGRES)
    contents: Any = SimpleNamespace(directory=disk.repository.wal, files=())
    with pytest.raises(OSError, match="a link of the account nobody is on this path"):
        Verifier(contents, lambda name, major: NOBODY_ASKED.programs)._plain(segment, tmp_path)
    assert list(tmp_path.iterdir()) == [] == holds_secret(tmp_path)
