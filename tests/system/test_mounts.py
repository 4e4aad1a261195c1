"""Bind mounts: folders of the same file system that nothing can be renamed out of."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import alfresco_backup.restore.content.fill
import alfresco_backup.system.mounts
import tasks.backup.contentstore
from alfresco_backup.contentstore.links import snapshot_stamps
from alfresco_backup.errors import BackupError, BackupUnsound
from alfresco_backup.restore.content.fill import Fill
from alfresco_backup.restore.content.fill_differences import Differences
from alfresco_backup.restore.content.owners import StoreFolders
from alfresco_backup.restore.recovery.obstacles import _disks_not_mounted, _why_not_movable
from alfresco_backup.restore.undo.undo_actions import remove_tree
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.mounts import is_mount_point, mounts_below, not_mounted
from tests.restore.content.test_restore_fill import Filling, read
from tests.support.restore_worlds import World, base, wal_map
from tests.support.restoring import details
from tests.support.stores import SampleStore

Bind = Callable[[Path, Path], None]
NAME = "2023/11/14/9/5/a.bin"


def without_inodes(store: Path) -> dict[str, list[object]]:
    """Everything in a store but the inodes: what comes back over the edge of a mount comes as a copy."""
    inodes = {path.lstat().st_ino for path in store.rglob("*")}
    return {name: [part for part in detail if part not in inodes] for name, detail in details(store).items()}


def test_a_bind_mount_is_a_mount_point_and_cannot_be_set_aside(tmp_path: Path, bind: Bind) -> None:
    place = tmp_path / "a place\twith blanks"
    bind(tmp_path / "folder", place)
    link = tmp_path / "link"
    link.symlink_to(place)
    paths = (place, tmp_path / "folder", link, tmp_path / "missing")
    assert [is_mount_point(path) for path in paths] == [True, False, False, False]
    [said] = _why_not_movable(place, tmp_path / "aside")
    assert said.sentence.startswith(f"{place} is a mount point and cannot be renamed")
    assert [mounts_below(path) for path in (tmp_path / "folder", place)] == [(), ()]
    assert mounts_below(tmp_path) == (place,)


def test_a_disk_of_fstab_that_is_not_mounted_where_something_is_restored_is_an_obstacle(
    tmp_path: Path, bind: Bind, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "a store"
    bind(tmp_path / "disk", store / "2023")
    escaped = str(store).replace(" ", "\\040")
    lines = ("# comment", f"LABEL=a {escaped}/2023 xfs", f"LABEL=b {escaped}/2024 xfs defaults 0 2")
    others = ("LABEL=c none swap sw", f"LABEL=d {tmp_path}/elsewhere ext4", "LABEL=e / ext4")
    fstab = tmp_path / "fstab"
    fstab.write_text("".join(f"{line}\n" for line in (*lines, *others)))
    monkeypatch.setattr(alfresco_backup.system.mounts, "FSTAB", fstab)
    plan = World([base(3)], wal_map((1, 1, 50))).plan("full")
    plan = replace(plan, content=(replace(plan.content[0], path=store),))
    (said,) = _disks_not_mounted(plan)
    assert said.sentence.startswith(f"{store}/2024 is in /etc/fstab and not mounted")
    assert said.fix.splitlines()[0] == f"mount '{store}/2024'"
    assert not_mounted(store / "2024/11/22") == (f"{store}/2024",)
    assert not_mounted(store / "2023") == ()


def test_a_mounted_disk_of_fstab_is_not_looked_at_as_its_server_may_be_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, asked = "/a dead share", []

    def looked_at(path: str | Path) -> str:
        asked.append(str(path))
        return str(path)

    fstab = tmp_path / "fstab"
    fstab.write_text(f"nas:/x /a\\040dead\\040share nfs\nLABEL=a / ext4\nLABEL=b {tmp_path}/2024 xfs\n")
    monkeypatch.setattr(alfresco_backup.system.mounts, "FSTAB", fstab)
    monkeypatch.setattr(alfresco_backup.system.mounts, "mount_points", lambda: frozenset({"/", dead}))
    monkeypatch.setattr("alfresco_backup.system.mounts.os.path.realpath", looked_at)
    assert not_mounted(tmp_path) == (f"{tmp_path}/2024",)
    assert asked == [str(tmp_path), f"{tmp_path}/2024"]


def test_what_a_fill_replaces_on_a_bind_mount_within_the_store_is_kept_there_first(
    tmp_path: Path, bind: Bind
) -> None:
    filling = Filling(tmp_path)
    bind(tmp_path / "volume", filling.live / "volume2")
    name = f"volume2/{NAME}"
    filling.sample.write(name, "all of it")
    snapshot = filling.sample.snapshot()
    filling.sample.write(name, "all")
    before = without_inodes(filling.live)
    assert StoreFolders(filling.live, lambda _: Account(0, 0)).place(str(Path(name).parent)) == "volume2"
    filling.fill(snapshot.path)
    assert read(filling.live / name) == "all of it"
    assert read(filling.last.kept / name) == "all"
    filling.undo()
    assert without_inodes(filling.live) == before


def test_a_bind_mount_as_backup_dir_takes_what_a_fill_replaces_and_gives_it_back(
    tmp_path: Path, bind: Bind
) -> None:
    filling = Filling(tmp_path)
    filling.sample.write(NAME, "all of it")
    snapshot = filling.sample.snapshot()
    filling.sample.write(NAME, "all")
    before = without_inodes(filling.live)
    bind(tmp_path / "disk", tmp_path / "mounted")
    filling.restore = tmp_path / "mounted/restores/demo/20261122T020000Z"
    filling.fill(snapshot.path)
    assert read(filling.live / NAME) == "all of it"
    assert read(filling.last.kept / NAME) == "all"
    filling.undo()
    assert without_inodes(filling.live) == before


def unmounts(place: Path, work: Callable[..., object]) -> Callable[..., object]:
    """The work, after which that place is no longer mounted."""

    def work_and_unmount(*arguments: object, **options: object) -> object:
        done = work(*arguments, **options)
        subprocess.run(["umount", place], check=True)
        return done

    return work_and_unmount


def test_what_a_restore_set_aside_is_not_removed_while_something_is_mounted_in_it(
    tmp_path: Path, bind: Bind
) -> None:
    aside, volume = tmp_path / "store.before-restore", tmp_path / "volume"
    bind(volume, aside / "2023/11")
    (volume / "a.bin").write_text("in use")
    (aside / "b.bin").write_text("set aside")
    before = details(tmp_path)
    for tree in (aside, aside / "2023/11"):
        said = rf"{aside}/2023/11 is mounted in {tree}, which is to be removed: .*; nothing was removed"
        with pytest.raises(BackupError, match=said):
            remove_tree(tree)
    assert details(tmp_path) == before
    link = tmp_path / "link"
    link.symlink_to(aside)
    remove_tree(link)
    assert details(tmp_path) == before
    subprocess.run(["umount", aside / "2023/11"], check=True)
    remove_tree(aside)
    assert not aside.exists() and read(volume / "a.bin") == "in use"


@pytest.mark.parametrize("place", ["2023/11", "2023/11/14"])
@pytest.mark.parametrize("moment", ["_require_content", "scan_store"])
def test_a_month_or_day_that_is_unmounted_during_a_snapshot_is_not_taken_for_deleted(
    tmp_path: Path, bind: Bind, monkeypatch: pytest.MonkeyPatch, place: str, moment: str
) -> None:
    sample = SampleStore(tmp_path)
    bind(tmp_path / "another disk", sample.live / place)
    sample.write(NAME, "kept")
    first = sample.snapshot()
    sample.write("2024/1/2/3/4/b.bin", "another")
    function = getattr(tasks.backup.contentstore, moment)
    monkeypatch.setattr(tasks.backup.contentstore, moment, unmounts(sample.live / place, function))
    with pytest.raises(BackupUnsound, match=f"{place} in .* was unmounted meanwhile"):
        sample.snapshot()
    assert snapshot_stamps(sample.repository) == [first.stamp]
    assert read(first.path / NAME) == "kept"


@pytest.mark.parametrize("place", ["2023/11", "2023/11/14"])
def test_a_month_or_day_that_is_unmounted_during_a_fill_is_not_filled_where_it_was(
    tmp_path: Path, bind: Bind, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    filling = Filling(tmp_path)
    bind(tmp_path / "another disk", filling.live / place)
    filling.sample.write(NAME, "kept")
    filling.sample.write("2024/1/2/3/4/b.bin", "lost")
    snapshot = filling.sample.snapshot()
    (filling.live / "2024/1/2/3/4/b.bin").unlink()
    first = unmounts(filling.live / place, lambda: None)
    compare = alfresco_backup.restore.content.fill.find_differences

    def compare_without(fill: Fill) -> Differences:
        first()
        return compare(fill)

    monkeypatch.setattr(alfresco_backup.restore.content.fill, "find_differences", compare_without)
    with pytest.raises(BackupUnsound, match=f"{place} in .* was unmounted meanwhile"):
        filling.fill(snapshot.path)
    assert not (filling.live / NAME).exists()
    assert not (filling.live / "2024/1/2/3/4/b.bin").exists()
