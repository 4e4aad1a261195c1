"""Whom restored content belongs to where the store's own folder is root's: Alfresco has to read it."""

import os
import pwd
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.host.host import load_host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.records import MAIN_STORE, Snapshot
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.restore.journal.journal_record import read_journal
from alfresco_backup.restore.planning.choose_content import set_aside_path
from alfresco_backup.restore.planning.plan import ContentSource, StorePlan
from alfresco_backup.restore.planning.request import Strategy
from alfresco_backup.restore.recovery.observe import inspect_host
from alfresco_backup.restore.recovery.restoration import Restoration, restored_owner
from alfresco_backup.system.accounts import Account
from tasks.restore.content import restore_store, set_aside_stores
from tasks.restore.undo import undo
from tests.support.restore_worlds import STAMP, World, base, snapshot, wal_map
from tests.support.restoring import details, differences
from tests.support.stores import SampleStore

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
ALFRESCO = 12345
NAME = "2023/11/14/9/5/a.bin"
PATHS = (".", "2023", "2023/11/14/9/5", NAME)


class Backed:
    """A store of Alfresco's account, closed to others, with a snapshot; and a host of root's around it."""

    def __init__(self, root: Path) -> None:
        self.sample = SampleStore(root)
        self.live = self.sample.live
        self.sample.write(NAME)
        for path in (self.live, *self.live.rglob("*")):
            os.chown(path, ALFRESCO, ALFRESCO)
            path.chmod(0o750 if path.is_dir() else 0o640)
        self.snapshot: Snapshot = self.sample.snapshot()
        env = root / "env"
        env.touch(0o600)
        places = f"BACKUP_DIR={root}/backup\nALF_BASE_DIR={root}\nCONTENTSTORE_DIR={self.live}\n"
        env.write_text(f"PGHOST=localhost\nPGUSER=alfresco\nALF_HOST_NAME=demo\n{places}")
        self.host = load_host(env)

    def new_disk(self) -> None:
        """The store as a file system that was just made and mounted."""
        shutil.rmtree(self.live)
        (self.live / "lost+found").mkdir(parents=True, mode=0o700)
        self.live.chmod(0o755)

    def restore(self, strategy: Strategy = "fill") -> None:
        away = set_aside_path(self.live, STAMP) if strategy == "replace" else None
        store = StorePlan(MAIN_STORE, self.live, strategy, (ContentSource("set", self.snapshot),), away)
        plan = World(snapshots=[snapshot(10)], full_sets=False).plan("contentstore")
        folder = self.host.repository.restores("demo") / STAMP
        folder.mkdir(parents=True)
        journal = Journal.begin(folder, STAMP, "demo", {})
        plan = replace(plan, content=(store,))
        restoration = Restoration(self.host, plan, folder, journal, Account(0, 0), folder / "log")
        set_aside_stores(restoration)
        restore_store(restoration, store, lambda done, total: None)

    def undo(self) -> None:
        folder = self.host.repository.restores("demo") / STAMP
        undo(self.host, read_journal(folder / "journal.jsonl"), str)

    def owners(self) -> dict[str, tuple[int, int, int]]:
        found = {name: (self.live / name).stat() for name in PATHS}
        return {name: (item.st_uid, item.st_gid, item.st_mode & 0o7777) for name, item in found.items()}

    def became_roots(self) -> list[bool]:
        facts = inspect_host(self.host, read_catalogue(self.host.repository))
        return [store.became_roots for store in facts.stores]


def marks(folder: Path) -> tuple[int, ...]:
    status = folder.stat()
    return (status.st_uid, status.st_gid, status.st_mode, status.st_mtime_ns)


FOLDER, FILE = (ALFRESCO, ALFRESCO, 0o750), (ALFRESCO, ALFRESCO, 0o640)


def test_an_empty_disk_of_roots_is_filled_for_the_account_that_the_backup_recorded(tmp_path: Path) -> None:
    backed = Backed(tmp_path)
    backed.new_disk()
    before = (details(backed.live), marks(backed.live))
    assert backed.became_roots() == [False]
    backed.restore()
    assert backed.owners() == {name: FILE if name == NAME else FOLDER for name in PATHS}
    assert (backed.live / "lost+found").stat().st_uid == 0
    backed.undo()
    assert differences(before[0], details(backed.live)) == []
    assert marks(backed.live) == before[1]


def test_in_a_store_of_roots_that_is_in_use_files_get_their_owners_and_the_plan_warns(tmp_path: Path) -> None:
    backed = Backed(tmp_path)
    backed.new_disk()
    (backed.live / "volume").mkdir()
    assert backed.became_roots() == [True]
    backed.restore()
    assert backed.owners() == {
        name: (0, 0, 0o755) if name == "." else FILE if name == NAME else FOLDER for name in PATHS
    }


@pytest.mark.parametrize("strategy", ["fill", "replace"])
def test_a_store_of_volumes_whose_own_folder_is_roots_stays_so(tmp_path: Path, strategy: Strategy) -> None:
    backed = Backed(tmp_path)
    os.chown(backed.live, 0, 0)
    backed.snapshot = backed.sample.snapshot()
    assert backed.became_roots() == [False]
    shutil.rmtree(backed.live / "2023")
    backed.restore(strategy)
    assert backed.owners() == {
        name: (0, 0, 0o750) if name == "." else FILE if name == NAME else FOLDER for name in PATHS
    }


def test_an_account_without_a_name_restores_for_itself(tmp_path: Path) -> None:
    """As in containers, or while the directory service is away."""
    host, plan = Backed(tmp_path).host, World(snapshots=[snapshot(10)], full_sets=False).plan("contentstore")
    nameless = next(uid for uid in range(60000, 65000) if uid not in {item.pw_uid for item in pwd.getpwall()})
    os.seteuid(nameless)
    try:
        owner = restored_owner(host, plan)
    finally:
        os.seteuid(0)
    assert owner == Account(nameless, os.getegid(), "")


@pytest.mark.parametrize(("recorded", "owner"), [("nobody",) * 2, ("", "postgres"), ("gone", "postgres")])
def test_a_data_directory_that_is_gone_with_its_folder_belongs_to_the_account_that_the_set_names(
    tmp_path: Path, recorded: str, owner: str
) -> None:
    host, made = Backed(tmp_path).host, base(1)
    plan = World(bases=[made], wal=wal_map((1, 1, 9)), full_sets=False).plan("postgres", backup=made.stamp)
    assert plan.database is not None
    there = replace(made, path=tmp_path, account=recorded)
    database = replace(plan.database, base=there, data_directory=Path("/alf_data/postgresql"))
    assert restored_owner(host, replace(plan, database=database)).name == owner
