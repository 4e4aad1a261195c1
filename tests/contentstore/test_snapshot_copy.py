"""What a snapshot holds, with real rsync on real files."""

import os
import subprocess
from pathlib import Path

import pytest

from alfresco_backup.contentstore.links import links_below, read_previous
from alfresco_backup.contentstore.plan import Mode
from alfresco_backup.errors import BackupUnsound, Refused
from alfresco_backup.repository.layout import metadata_of
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.system.files import read_json
from tests.support.stores import OLD, SampleStore, content, inodes, state

ODD = (
    b"sp ace",
    b"new\nline",
    b"\xff\xfe",
    b"back\\slash",
    b"\\#012",
    b"*?[a]",
    b"-dash",
    b"#hash",
    b";semicolon",
    b" space first",
    b"'quote\"",
    b"\xc3\xbc",
)


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    sample = SampleStore(tmp_path)
    sample.write("2022/1/2/3/4/a.bin", "first")
    sample.write("2022/1/2/3/5/b.bin", "second")
    sample.write("2022/1/3/3/4/c.bin", "third")
    sample.write("2023/12/31/23/59/d.bin", "fourth")
    return sample


def versions(snapshot: Snapshot) -> dict[str, str]:
    return {path: day.version for path, day in snapshot.days.items()}


def test_a_snapshot_holds_the_store_byte_for_byte(store: SampleStore) -> None:
    snapshot = store.snapshot()
    assert content(snapshot.path) == content(store.live)
    assert (snapshot.files, snapshot.bytes, snapshot.new_files, snapshot.vanished) == (4, 22, 4, 0)
    assert store.repository.latest.readlink() == Path(snapshot.path.name)


def test_a_day_entry_is_a_relative_link_to_the_version_of_that_day(store: SampleStore) -> None:
    snapshot = store.snapshot()
    link = snapshot.path / "2022/1/2"
    assert str(link.readlink()) == f"../../../days/{snapshot.stamp}/2022/1/2"
    assert not (snapshot.path / "2022/1").is_symlink()


def test_an_unchanged_store_makes_no_new_day_version(store: SampleStore) -> None:
    first, second = store.snapshot(), store.snapshot()
    assert versions(second) == versions(first)
    names = sorted(path.name for path in store.repository.days.iterdir())
    assert names == [first.stamp, f"{first.stamp}.checksums"]
    assert content(second.path) == content(store.live)
    assert (second.new_files, second.new_bytes, second.files) == (0, 0, 4)


def test_an_unchanged_hot_day_makes_no_new_version(store: SampleStore) -> None:
    store.write("2026/1/1/0/0/today.bin", when=None)
    first = store.snapshot(hot=48)
    assert versions(store.snapshot(hot=48)) == versions(first)


def test_only_the_changed_day_is_copied_and_only_its_new_file_takes_space(store: SampleStore) -> None:
    first = store.snapshot()
    store.write("2022/1/2/3/4/new.bin", "new")
    second = store.snapshot()
    assert versions(second) == {**versions(first), "2022/1/2": second.stamp}
    assert (second.new_files, second.new_bytes) == (1, 3)
    same = "2022/1/2/3/4/a.bin"
    assert (second.path / same).stat().st_ino == (first.path / same).stat().st_ino


def test_a_file_that_grows_in_the_hot_window_is_copied_again(store: SampleStore) -> None:
    file = store.write("2026/1/1/0/0/growing.bin", "", when=None)
    first = store.snapshot(hot=48)
    folder = file.parent.stat().st_mtime_ns
    file.write_text("the whole document")
    assert file.parent.stat().st_mtime_ns == folder
    second = store.snapshot(hot=48)
    assert (second.path / "2026/1/1/0/0/growing.bin").read_text() == "the whole document"
    assert (first.path / "2026/1/1/0/0/growing.bin").read_text() == ""


def test_a_directory_changed_in_the_clock_tick_of_the_scan_counts_as_changed(store: SampleStore) -> None:
    first = store.snapshot(tick=3600)
    assert {day.fingerprint for day in first.days.values()} == {None}
    second = store.snapshot()
    assert set(versions(second).values()) == {second.stamp}
    assert versions(store.snapshot()) == versions(second)


def test_a_moved_ctime_alone_counts_as_changed(store: SampleStore) -> None:
    first = store.snapshot()
    folder = store.live / "2022/1/2/3/4"
    (folder / "late.bin").write_text("copied into the store with its old times")
    os.utime(folder, (OLD, OLD))
    second = store.snapshot()
    assert versions(second) == {**versions(first), "2022/1/2": second.stamp}
    assert content(second.path) == content(store.live)


def test_odd_names_are_kept_in_days_folders_and_above_them(store: SampleStore) -> None:
    for odd in map(os.fsdecode, ODD):
        store.write("/".join([odd] * 5) + f"/file {odd}", when=None)
        store.write(f"{odd}/{odd}/file {odd}", when=None)
    first = store.snapshot()
    assert content(first.path) == content(store.live)
    second = store.snapshot("full")
    assert (versions(second), second.loose) == (versions(first), first.loose)
    changed = {"/".join([os.fsdecode(odd)] * 3) for odd in ODD}
    for day in changed:
        file = next((store.live / day).rglob("file*"))
        file.unlink()
        store.date(file.parent)
    third = store.snapshot("full")
    assert {path for path, version in versions(third).items() if version == third.stamp} == changed
    assert content(third.path) == content(store.live)


def test_metadata_holds_odd_names_and_reads_back_the_same(store: SampleStore) -> None:
    (store.live / "\udcff/1/2/3").mkdir(parents=True)
    snapshot = store.snapshot()
    previous = read_previous(store.repository)
    assert previous is not None
    assert previous.days == snapshot.days
    assert "\udcff/1/2" in previous.days
    assert read_json(metadata_of(snapshot.path))["schema"] == 1


def test_deleting_is_a_change_and_the_older_snapshot_keeps_the_file(store: SampleStore) -> None:
    first = store.snapshot()
    before = content(first.path)
    (store.live / "2022/1/2/3/4/a.bin").unlink()
    for path in (
        "2023/12/31/23/59/d.bin",
        "2023/12/31/23/59",
        "2023/12/31/23",
        "2023/12/31",
        "2023/12",
        "2023",
    ):
        place = store.live / path
        place.unlink() if place.is_file() else place.rmdir()
    second = store.snapshot()
    assert content(second.path) == content(store.live)
    assert content(first.path) == before
    assert (second.files, second.new_files) == (2, 0)


@pytest.mark.parametrize("mode", ["full", "checksum"])
def test_a_full_run_sees_new_and_deleted_files_too(store: SampleStore, mode: Mode) -> None:
    first = store.snapshot()
    (store.live / "2022/1/2/3/4/a.bin").unlink()
    (store.live / "2022/1/3/3/4/c.bin").rename(store.live / "2022/1/3/3/4/renamed.bin")
    store.write("2024/2/29/0/0/new.bin")
    second = store.snapshot(mode)
    assert content(second.path) == content(store.live)
    changed = dict.fromkeys(("2022/1/2", "2022/1/3", "2024/2/29"), second.stamp)
    assert versions(second) == {**versions(first), **changed}


def test_a_full_run_keeps_the_version_of_a_day_in_which_a_file_came_and_went(store: SampleStore) -> None:
    first = store.snapshot()
    store.write("2022/1/2/3/4/rolled-back.bin", when=None).unlink()
    full = store.snapshot("full")
    assert versions(full) == versions(first)
    assert versions(store.snapshot()) == versions(first)


def test_folders_in_a_backup_can_be_written_by_their_owner(store: SampleStore) -> None:
    folder = store.live / "2022/1/2/3/4"
    folder.chmod(0o555)
    kept = store.snapshot().path / "2022/1/2/3/4"
    folder.chmod(0o755)
    assert kept.stat().st_mode & 0o777 == 0o755


def test_volumes_buckets_and_links_to_other_disks_are_kept(store: SampleStore) -> None:
    store.write("volume-a/2024/5/6/7/8/0/bucket.bin")
    disk = store.root / "other disk"
    (disk / "2024/5/6/7/8/1").mkdir(parents=True)
    (disk / "2024/5/6/7/8/1/far.bin").write_text("far")
    (store.live / "volume-b").symlink_to(disk)
    moved = store.root / "moved day"
    (moved / "1/2").mkdir(parents=True)
    (moved / "1/2/day.bin").write_text("moved")
    (store.live / "2022/1/4").symlink_to(moved)
    first = store.snapshot()
    assert content(first.path) == content(store.live)
    (disk / "2024/5/6/7/8/1/more.bin").write_text("more")
    (moved / "1/2/more.bin").write_text("more")
    second = store.snapshot()
    assert content(second.path) == content(store.live)
    assert {path for path, version in versions(second).items() if version == second.stamp} == {
        "volume-b/2024/5",
        "2022/1/4",
    }


def test_loose_files_and_empty_folders_above_the_days_are_kept(store: SampleStore) -> None:
    loose = [store.write("top.txt"), store.write("2022/in-year.txt"), store.write("2022/1/in-month.txt")]
    (store.live / "2025/7").mkdir(parents=True)
    (store.live / "2024").mkdir()
    first = store.snapshot()
    assert content(first.path) == content(store.live)
    loose[0].write_text("changed in place")
    loose[1].unlink()
    second = store.snapshot()
    assert content(second.path) == content(store.live)
    assert {path: entry.version for path, entry in second.loose.items()} == {
        "top.txt": second.stamp,
        "2022/1/in-month.txt": first.stamp,
    }
    assert (first.path / "top.txt").read_text() == "content"


def test_no_inode_is_shared_with_the_live_store(store: SampleStore) -> None:
    store.write("loose.txt")
    store.snapshot()
    store.write("2022/1/2/3/4/new.bin")
    store.snapshot("full")
    assert not inodes(store.live) & inodes(store.repository.root)


def test_a_full_run_repairs_what_the_short_cut_cannot_see(store: SampleStore) -> None:
    first = store.snapshot()
    in_place = store.live / "2022/1/2/3/4/a.bin"
    folder = in_place.parent.stat()
    in_place.write_text("FIRST")
    assert in_place.parent.stat().st_mtime_ns == folder.st_mtime_ns
    (first.path / "2022/1/3/3/4/c.bin").unlink()
    quick = store.snapshot()
    assert versions(quick) == versions(first)
    full = store.snapshot("full")
    assert content(full.path) == content(store.live)
    assert versions(full) == {**versions(first), "2022/1/2": full.stamp, "2022/1/3": full.stamp}
    assert (first.path / "2022/1/2/3/4/a.bin").read_text() == "first"


def test_a_checksum_run_repairs_a_bit_that_flipped_in_an_old_version(store: SampleStore) -> None:
    first = store.snapshot()
    rotten = first.path / "2022/1/3/3/4/c.bin"
    times = rotten.stat()
    rotten.write_text("thirt")
    os.utime(rotten, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert versions(store.snapshot("full")) == versions(first)
    repaired = store.snapshot("checksum")
    assert versions(repaired) == {**versions(first), "2022/1/3": repaired.stamp}
    assert content(repaired.path) == content(store.live)


def test_full_and_checksum_runs_find_a_changed_loose_file(store: SampleStore) -> None:
    store.write("loose.txt", "right")
    first = store.snapshot()
    kept = first.path / "loose.txt"
    times = kept.stat()
    kept.write_text("wrong")
    os.utime(kept, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.snapshot("full").loose == first.loose
    assert (store.snapshot("checksum").path / "loose.txt").read_text() == "right"


def test_a_day_version_that_is_missing_in_the_repository_is_copied_again(store: SampleStore) -> None:
    first = store.snapshot()
    (store.repository.day_trees(first.stamp) / "2022/1/2").rename(store.root / "gone")
    second = store.snapshot()
    assert versions(second) == {**versions(first), "2022/1/2": second.stamp}
    assert content(second.path) == content(store.live)


def test_no_run_changes_anything_in_what_was_published_before(store: SampleStore) -> None:
    first = store.snapshot()
    trees = [first.path, store.repository.day_trees(first.stamp)]
    before = [content(tree) for tree in trees]
    links = {path: numbers for path, numbers in state(trees[1]).items() if Path(path).is_dir()}
    modes = {path: numbers[1:6] for tree in trees for path, numbers in state(tree).items()}
    (store.live / "2022/1/2/3/4/a.bin").chmod(0o600)
    (store.live / "2022/1/2/3").chmod(0o700)
    (store.live / "2022/1/3/3/4/c.bin").write_text("changed in place")
    for mode in ("quick", "full", "checksum"):
        store.snapshot(mode)
    latest = store.repository.latest.resolve()
    assert (latest / "2022/1/2/3/4/a.bin").stat().st_mode & 0o777 == 0o600
    assert [content(tree) for tree in trees] == before
    assert {path: numbers[1:6] for tree in trees for path, numbers in state(tree).items()} == modes
    assert {path: numbers for path, numbers in state(trees[1]).items() if Path(path).is_dir()} == links


def test_a_snapshot_of_the_predecessor_is_linked_to_and_nothing_is_copied_anew(store: SampleStore) -> None:
    legacy = store.repository.root / "contentstore-2025-12-30_02-00-00"
    legacy.parent.mkdir(parents=True)
    subprocess.run(["rsync", "-a", f"{store.live}/", f"{legacy}/"], check=True)
    snapshot = store.snapshot()
    assert (snapshot.files, snapshot.new_files, snapshot.new_bytes) == (4, 0, 0)
    assert inodes(store.repository.day_trees(snapshot.stamp)) == inodes(legacy)
    assert content(snapshot.path) == content(store.live)


@pytest.mark.parametrize("place", ["2022", "2022/1", "2022/1/2", "2022/1/2/3/4"])
def test_what_a_link_in_the_predecessors_snapshot_leads_to_is_copied_not_linked_to(
    store: SampleStore, place: str
) -> None:
    """It made them with `rsync -a`, which keeps links: they lead to the documents Alfresco works with."""
    disk = store.root / "disk"
    disk.mkdir()
    (store.live / place).rename(disk / "moved")
    (store.live / place).symlink_to(disk / "moved")
    legacy = store.repository.root / "contentstore-2025-12-30_02-00-00"
    legacy.parent.mkdir(parents=True)
    subprocess.run(["rsync", "-a", f"{store.live}/", f"{legacy}/"], check=True)
    assert (legacy / place).is_symlink()
    snapshot = store.snapshot()
    assert not inodes(store.repository.root) & (inodes(store.live) | inodes(disk))
    assert content(snapshot.path) == content(store.live)
    unaffected = "2023/12/31/23/59/d.bin"
    assert (snapshot.path / unaffected).samefile(legacy / unaffected)


def test_a_snapshot_with_damaged_metadata_still_serves_as_link_target(store: SampleStore) -> None:
    first = store.snapshot()
    metadata_of(first.path).write_text("{")
    second = store.snapshot()
    assert (second.files, second.new_files) == (4, 0)
    assert content(second.path) == content(store.live)


def test_a_clock_that_went_back_is_refused_and_nothing_is_touched(store: SampleStore) -> None:
    store.snapshot()
    before = state(store.repository.root)
    with pytest.raises(Refused, match="20251231T235959Z is not later than the newest snapshot"):
        store.snapshot(stamp="20251231T235959Z")
    assert state(store.repository.root) == before


@pytest.mark.parametrize("tool", [["cp", "-rL"], ["rsync", "-aL"]])
def test_a_snapshot_is_restored_with_plain_tools(store: SampleStore, tool: list[str]) -> None:
    store.write("loose.txt")
    first = store.snapshot()
    then = content(store.live)
    store.write("2022/1/2/3/4/new.bin")
    store.snapshot()
    target = store.root / "restored"
    target.mkdir()
    subprocess.run([*tool, f"{first.path}/.", f"{target}/"], check=True)
    assert content(target) == then


def test_folders_keep_the_mode_and_time_they_have_in_the_store(store: SampleStore) -> None:
    (store.live / "2022/1").chmod(0o750)
    os.utime(store.live / "2022/1", (OLD, OLD))
    kept = (store.snapshot().path / "2022/1").stat()
    assert (kept.st_mode & 0o7777, kept.st_mtime) == (0o750, OLD)


def test_the_versions_a_snapshot_holds_are_read_from_its_links(store: SampleStore) -> None:
    store.write("loose.txt")
    first = store.snapshot()
    store.write("2022/1/2/3/4/new.bin")
    second = store.snapshot()
    days = {"2022/1/2", "2022/1/3", "2023/12/31", "loose.txt"}
    assert set(links_below(str(first.path))) == {(first.stamp, day) for day in days}
    assert set(links_below(str(second.path))) == {
        *((first.stamp, day) for day in days - {"2022/1/2"}),
        (second.stamp, "2022/1/2"),
    }


def test_a_link_that_leads_nowhere_is_a_missing_disk_and_nothing_is_published(store: SampleStore) -> None:
    (store.live / "volume").symlink_to(store.root / "not mounted")
    with pytest.raises(BackupUnsound, match=r"the link volume in the content store .* has no target"):
        store.snapshot()
    assert not store.repository.root.exists()


def test_a_link_that_leads_to_its_own_parent_is_refused(store: SampleStore) -> None:
    (store.live / "2022/loop").symlink_to(store.live)
    with pytest.raises(
        BackupUnsound, match=r"the link 2022/loop in the content store .* a directory that contains the link"
    ):
        store.snapshot()


def test_a_year_that_lost_its_content_but_not_its_folder_is_taken_for_a_missing_mount(
    store: SampleStore,
) -> None:
    store.snapshot()
    (store.live / "2023").rename(store.root / "unmounted")
    (store.live / "2023").mkdir()
    with pytest.raises(BackupUnsound, match=r"2023 held content in snapshot .* and is empty now"):
        store.snapshot()
    (store.live / "2023").rmdir()
    assert store.snapshot().files == 3


@pytest.mark.parametrize("before", ["ours", "damaged", "the predecessor's"])
def test_a_volume_that_is_not_mounted_is_refused_until_that_is_accepted_whatever_the_snapshot_before(
    store: SampleStore, before: str
) -> None:
    store.write("volume/2024/1/3/4/a.bin")
    store.repository.root.mkdir(parents=True)
    if before == "the predecessor's":
        legacy = store.repository.root / "contentstore-2025-12-30_02-00-00"
        subprocess.run(["rsync", "-a", f"{store.live}/", f"{legacy}/"], check=True)
    else:
        first = store.snapshot()
        if before == "damaged":
            metadata_of(first.path).write_text("{")
    (store.live / "volume").rename(store.root / "unmounted")
    (store.live / "volume").mkdir()
    for mode in ("quick", "full"):
        with pytest.raises(BackupUnsound, match=r"volume held content in snapshot .* and is empty now") as no:
            store.snapshot(mode)
    refused = f"20260101T{store.taken:06}Z"
    assert f"accept {refused} --reason" in no.value.hint
    taken = store.snapshot(accepted=refused)
    assert (taken.files, taken.accepted) == (4, refused)
    assert store.snapshot().files == 4


def test_a_store_whose_mount_point_alfresco_has_written_into_is_refused(store: SampleStore) -> None:
    first = store.snapshot()
    store.live.rename(store.root / "unmounted")
    store.write("2026/3/1/9/9/new.bin", when=None)
    with pytest.raises(
        BackupUnsound, match=f"none of the 3 days that snapshot {first.stamp} holds of the store is there now"
    ):
        store.snapshot()
    assert store.repository.latest.resolve() == first.path


def test_a_store_that_does_not_exist_is_named(store: SampleStore) -> None:
    store.live = store.root / "nowhere"
    with pytest.raises(BackupUnsound, match="nowhere cannot be read: No such file or directory"):
        store.snapshot()
