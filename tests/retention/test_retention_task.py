"""Retention carried out on real folders: what goes, what stays, and what a kill leaves."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository, metadata_of
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.retention.inventory import read_inventory
from tests.support.catalogues import NOW, age
from tests.support.places import directory_in
from tests.support.repository_on_disk import DiskRepository, listing

NOBODY = 65534


@pytest.fixture
def disk(tmp_path: Path) -> DiskRepository:
    """Four sets, the two older ones to go, with a day that changed each time, left-overs and WAL."""
    disk = DiskRepository(tmp_path / "backup")
    disk.run("20d")
    disk.run("10d", copied=("2026/1/2",))
    disk.run("8d", copied=("2026/1/2",))
    disk.run("1d", copied=("2026/11/20",))
    disk.wal("20d", "15d", "10d", "8d", "7d", "1d", "1h")
    partial = disk.repository.base("20261105T000000Z.partial")
    partial.mkdir()
    (partial / "base.tar.zst").write_bytes(b"half")
    return disk


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_retention_removes_old_sets_with_their_wal_and_nothing_else(disk):
    repository = disk.repository
    before = listing(repository.root)
    result = carry_out(make_retention_plan(disk.settings(), now=NOW))
    after = listing(repository.root)
    assert names(repository.postgres) == ["base-20261114T120000Z", "base-20261121T120000Z"]
    assert names(repository.configurations) == [
        "configuration-20261114T120000Z",
        "configuration-20261114T120000Z.json",
        "configuration-20261121T120000Z",
        "configuration-20261121T120000Z.json",
    ]
    assert names(repository.contentstore.root) == [
        "contentstore-20261114T120000Z",
        "contentstore-20261114T120000Z.json",
        "contentstore-20261121T120000Z",
        "contentstore-20261121T120000Z.json",
        "days",
        "latest",
    ]
    assert len(names(repository.wal)) == 4
    assert {name: what for name, what in before.items() if name in after} == after
    assert result.counts == {
        "partial": 1,
        "snapshot": 2,
        "configuration": 2,
        "days": 2,
        "base": 2,
        "wal": 3,
    }
    assert result.freed.bytes > 0
    assert "Retention removed 1 leftover, 2 snapshots" in result.summary()


def test_day_trees_that_kept_snapshots_use_stay_and_the_others_go(disk):
    carry_out(make_retention_plan(disk.settings(), now=NOW))
    days = disk.repository.contentstore.days
    held = sorted(str(path.relative_to(days)) for path in days.glob("*/*/*/*"))
    assert held == [
        "20261102T120000Z/2026/1/1",
        "20261102T120000Z/2026/11/20",
        "20261114T120000Z/2026/1/2",
        "20261121T120000Z/2026/11/20",
    ]
    for snapshot in read_catalogue(disk.repository, now=NOW).snapshots:
        links = [path for path in snapshot.path.rglob("*") if path.is_symlink()]
        assert len(links) == 3
        assert all(path.is_dir() for path in links)


def test_a_second_retention_finds_nothing_to_do(disk):
    carry_out(make_retention_plan(disk.settings(), now=NOW))
    plan = make_retention_plan(disk.settings(), now=NOW)
    assert plan.removals == ()
    before = listing(disk.repository.root)
    assert carry_out(plan).summary() == "Retention removed nothing."
    assert listing(disk.repository.root) == before


def test_planning_changes_nothing(disk):
    before = listing(disk.repository.root)
    make_retention_plan(disk.settings(), now=NOW)
    assert listing(disk.repository.root) == before


def kill_after(operations: int, work) -> int:
    """Run `work` in a child that is killed before its n-th deletion or rename; its exit status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = operations

    def count(event: str, _: object) -> None:
        nonlocal left
        if event in {"os.remove", "os.rmdir", "os.rename"}:
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(count)
    try:
        work()
    finally:
        os._exit(0)


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_no_half_backup_and_repeating_completes_it(disk, tmp_path):
    expected = tmp_path / "expected"
    shutil.copytree(disk.repository.root, expected, symlinks=True)
    carry_out(make_retention_plan(DiskRepository(expected).settings(), now=NOW))
    wanted = listing(expected)
    operations = 0
    while True:
        copy = DiskRepository(tmp_path / f"killed-{operations}")
        shutil.copytree(disk.repository.root, copy.repository.root, symlinks=True, dirs_exist_ok=True)
        plan = make_retention_plan(copy.settings(), now=NOW)
        status = kill_after(operations, lambda plan=plan: carry_out(plan))
        assert_nothing_is_half(copy.repository)
        repeated = plan if operations % 2 else make_retention_plan(copy.settings(), now=NOW)
        carry_out(repeated)
        carry_out(make_retention_plan(copy.settings(), now=NOW))
        assert listing(copy.repository.root) == wanted, operations
        shutil.rmtree(copy.repository.root)
        if os.WIFEXITED(status):
            break
        operations += 1
    assert operations > 40


def assert_nothing_is_half(repository: Repository) -> None:
    """What is listed is whole: files, links that lead somewhere, and the WAL a base starts with."""
    catalogue = read_catalogue(repository, now=NOW)
    assert catalogue.problems == ()
    assert {"20261114T120000Z", "20261121T120000Z"} <= {item.stamp for item in catalogue.complete_sets}
    for base in catalogue.bases:
        assert all((base.path / file.name).stat().st_size == file.bytes for file in base.files)
        assert (repository.wal / base.start_wal).exists()
    for snapshot in catalogue.snapshots:
        assert len(snapshot.days) == 3
        assert all((snapshot.path / day).is_dir() for day in snapshot.days)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_snapshots_that_cannot_be_listed_do_not_count_as_none(disk):
    store = disk.repository.contentstore.root
    store.chmod(0o300)
    try:
        with pytest.raises(PermissionError):
            read_inventory(disk.repository)
    finally:
        store.chmod(0o755)


def test_links_that_lead_out_of_the_repository_are_never_followed(disk, tmp_path):
    outside = tmp_path / "outside"
    (outside / "1/2").mkdir(parents=True)
    (outside / "1/2/document.bin").write_bytes(b"precious")
    old = disk.repository.contentstore.snapshot("20261102T120000Z")
    (old / "elsewhere").symlink_to(outside)
    (disk.repository.base("20261102T120000Z") / "link").symlink_to(outside / "1/2/document.bin")
    (disk.repository.base("20261105T000000Z.partial") / "folder").symlink_to(outside)
    configuration = disk.repository.configuration("20261102T120000Z")
    (configuration / "shared").symlink_to(outside)
    (disk.repository.contentstore.days / "20261112T120000Z/2026/1/2/10/30/out").symlink_to(outside)
    carry_out(make_retention_plan(disk.settings(), now=NOW))
    assert not old.exists()
    assert not configuration.exists()
    assert listing(outside) == {"1": "folder", "1/2": "folder", "1/2/document.bin": "8 bytes"}


def test_a_folder_of_days_replaced_by_a_link_is_named_and_bases_and_wal_stay(disk, tmp_path):
    plan = make_retention_plan(disk.settings(), now=NOW)
    removed = next(item.path for item in plan.removals if item.kind == "days")
    outside = tmp_path / "outside"
    shutil.copytree(disk.repository.contentstore.days, outside)
    year = disk.repository.contentstore.days / "20261102T120000Z"
    shutil.rmtree(year)
    year.symlink_to(outside / "20261102T120000Z")
    before = listing(outside)
    with pytest.raises(BackupError, match="1 things could not be removed"):
        carry_out(plan)
    assert removed.is_relative_to(year)
    assert listing(outside) == before
    assert disk.repository.base("20261102T120000Z").exists()
    assert len(names(disk.repository.wal)) == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_a_backup_made_as_root_left_is_told_with_the_command_that_gives_it_back():
    with directory_in("/tmp") as folder:
        disk = DiskRepository(folder / "backup")
        for when in ("20d", "8d", "1d"):
            disk.run(when)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        old = disk.repository.contentstore.snapshot("20261102T120000Z")
        os.chown(old, 0, 0)
        plan = make_retention_plan(disk.settings(), now=NOW)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(BackupError, match=f"{old}: Permission denied") as refused:
                carry_out(plan)
        finally:
            os.seteuid(0)
        subprocess.run(["sh", "-c", refused.value.hint], check=True, env={}, cwd="/")
        os.seteuid(NOBODY)
        try:
            carry_out(plan)
        finally:
            os.seteuid(0)
        assert not old.exists()


def test_a_base_that_is_a_link_is_reported_and_left_alone(disk, tmp_path):
    elsewhere = tmp_path / "base-20261001T000000Z"
    shutil.copytree(disk.repository.base("20261102T120000Z"), elsewhere)
    link = disk.repository.postgres / elsewhere.name
    link.symlink_to(elsewhere)
    plan = make_retention_plan(disk.settings(), now=NOW)
    assert [item.reason for item in plan.items if item.path == link] == ["a folder is expected"]
    carry_out(plan)
    assert link.is_symlink()
    assert names(elsewhere) == ["backup.json", "backup_manifest", "base.tar.zst", "pg_wal.tar.zst"]


def test_hard_links_shared_with_a_kept_day_keep_content_and_mode(disk):
    days = disk.repository.contentstore.days
    old = days / "20261112T120000Z/2026/1/2/10/30/shared.bin"
    old.write_bytes(b"shared")
    old.chmod(0o440)
    new = days / "20261114T120000Z/2026/1/2/10/30/shared.bin"
    new.hardlink_to(old)
    carry_out(make_retention_plan(disk.settings(), now=NOW))
    assert not old.exists()
    assert new.read_bytes() == b"shared"
    assert new.stat().st_mode & 0o777 == 0o440
    assert new.stat().st_nlink == 1


def test_folders_without_permissions_are_removed_too(disk):
    tree = disk.repository.configuration("20261102T120000Z") / "keystore"
    tree.chmod(0o000)
    day = disk.repository.contentstore.days / "20261112T120000Z/2026/1/2"
    (day / "10").chmod(0o555)
    carry_out(make_retention_plan(disk.settings(), now=NOW))
    assert not tree.exists()
    assert not day.exists()


def test_a_plan_is_refused_when_the_newest_set_is_gone(disk):
    plan = make_retention_plan(disk.settings(), now=NOW)
    shutil.rmtree(disk.repository.base("20261121T120000Z"))
    before = listing(disk.repository.root)
    with pytest.raises(
        Refused, match="base-20261121T120000Z, which the plan keeps, is no complete backup any more"
    ):
        carry_out(plan)
    assert listing(disk.repository.root) == before


def test_a_plan_is_refused_when_a_kept_base_lost_a_file(disk):
    plan = make_retention_plan(disk.settings(), now=NOW)
    (disk.repository.base("20261114T120000Z") / "base.tar.zst").write_bytes(b"")
    with pytest.raises(Refused, match="base-20261114T120000Z"):
        carry_out(plan)
    assert disk.repository.base("20261102T120000Z").exists()


def test_a_plan_is_refused_when_a_backup_was_made_since(disk):
    plan = make_retention_plan(disk.settings(), now=NOW)
    disk.run("5m", copied=("2026/1/1",))
    with pytest.raises(Refused, match="20261122T115500Z appeared after the plan was made"):
        carry_out(plan)
    assert disk.repository.base("20261102T120000Z").exists()


def test_restores_and_unknown_entries_are_never_touched(disk):
    root = disk.repository.root
    for name in ("restores/demo/20200101T000000Z", "set-aside", "lost+found"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_text("kept")
    disk.date(root / "restores/demo/20200101T000000Z/file", NOW - age("900d"))
    (disk.repository.postgres / "notes.txt").write_text("by hand")
    plan = make_retention_plan(disk.settings(), now=NOW)
    carry_out(plan)
    assert (root / "restores/demo/20200101T000000Z/file").exists()
    assert (root / "set-aside/file").exists()
    assert (disk.repository.postgres / "notes.txt").exists()
    assert [item.path.name for item in plan.items if item.kind == "problem"] == ["notes.txt"]


def test_old_logs_go(disk):
    old, new = disk.repository.logs / "backup-old.log", disk.repository.logs / "backup-new.log"
    for path, when in ((old, "91d"), (new, "1d")):
        path.write_text("output")
        disk.date(path, NOW - age(when))
    carry_out(make_retention_plan(disk.settings(), now=NOW))
    assert names(disk.repository.logs) == ["backup-new.log"]


def test_the_running_runs_left_overs_stay(disk):
    partial = disk.repository.base("20261105T000000Z.partial")
    carry_out(make_retention_plan(disk.settings(), "20261105T000000Z", now=NOW))
    assert partial.exists()
    carry_out(make_retention_plan(disk.settings(), "20261122T115900Z", now=NOW))
    assert not partial.exists()


@pytest.mark.parametrize("name", ["pg_wal", "postgres", "configuration", "contentstore", "stores"])
def test_a_repository_that_cannot_be_listed_is_not_thinned(disk, name):
    """A link that leads to itself cannot be listed by anybody, not even by root."""
    folder = disk.repository.root / name
    if folder.exists():
        folder.rename(disk.repository.root / "moved")
    folder.symlink_to(name)
    with pytest.raises(BackupError, match="retention cannot list the whole repository"):
        make_retention_plan(disk.settings(), now=NOW)


def test_an_empty_repository_is_no_obstacle(tmp_path):
    disk = DiskRepository(tmp_path / "backup")
    shutil.rmtree(disk.repository.root)
    disk.repository.root.mkdir()
    plan = make_retention_plan(disk.settings(), now=NOW)
    assert carry_out(plan).counts == {}
    assert list(disk.repository.root.iterdir()) == []


def test_settings_decide_window_and_redundancy(disk):
    generous = make_retention_plan(disk.settings(retention_days=30), now=NOW)
    assert [item.kind for item in generous.removals] == ["partial"]
    many = make_retention_plan(disk.settings(minimum_redundancy=4), now=NOW)
    assert [item.kind for item in many.removals] == ["partial"]


def test_metadata_that_lost_its_tree_is_swept(disk):
    orphan = metadata_of(disk.repository.contentstore.snapshot("20261001T000000Z"))
    orphan.write_text("{}")
    carry_out(make_retention_plan(disk.settings(), now=NOW))
    assert not orphan.exists()
