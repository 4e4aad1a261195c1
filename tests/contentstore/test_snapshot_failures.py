"""Snapshots under a live store, killed runs, failing copies, and what the next run makes of them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alfresco_backup.contentstore import snapshot_copy, snapshot_tree
from alfresco_backup.contentstore.checksums import read_list
from alfresco_backup.contentstore.links import leftovers, snapshot_stamps
from alfresco_backup.errors import BackupUnsound, ToolFailed
from alfresco_backup.repository.layout import metadata_of
from alfresco_backup.system.files import PARTIAL
from tasks.backup.contentstore import take_snapshot
from tests.support.common import wait_until
from tests.support.stores import SampleStore, content, inodes, wait_for_tick

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]
BIG = "x" * (1 << 20)
SLOW = 0.5
"""MiB/s: the 1 MiB file that is copied first gives a test two seconds to do something meanwhile."""
ONE_SLOW_SNAPSHOT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from alfresco_backup.repository.layout import StoreRepository
from alfresco_backup.contentstore.plan import SnapshotOptions, SnapshotRequest
from tasks.backup.contentstore import take_snapshot
options = SnapshotOptions(bandwidth_limit_mib=float(sys.argv[5]))
places = Path(sys.argv[2]), StoreRepository(Path(sys.argv[3]))
log = Path(sys.argv[3] + ".log")
take_snapshot(SnapshotRequest("contentstore", *places, sys.argv[4], log, options=options))
"""


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    sample = SampleStore(tmp_path)
    sample.write("2022/1/2/3/4/0-first.bin", "first")
    sample.write("2022/1/2/3/4/1-big.bin", BIG)
    sample.write("2022/1/2/3/4/2-later.bin", "later")
    return sample


def copying(store: SampleStore) -> list[Path]:
    """The temporary file of the big file that rsync is copying."""
    return list(store.repository.days.glob(f"*{PARTIAL}/2022/1/2/3/4/.1-big.bin.*"))


def partials(store: SampleStore) -> list[Path]:
    return list(store.repository.root.rglob(f"*{PARTIAL}"))


def test_files_that_vanish_while_they_are_copied_are_counted_and_the_rest_is_published(
    store: SampleStore,
) -> None:
    def delete_later() -> None:
        wait_until(lambda: copying(store), "rsync copies the big file", every=0.01)
        (store.live / "2022/1/2/3/4/2-later.bin").unlink()

    wait_for_tick()
    deleter = threading.Thread(target=delete_later)
    deleter.start()
    snapshot = take_snapshot(store.request(limit=SLOW))
    deleter.join()
    assert snapshot.vanished == 1
    assert content(snapshot.path) == content(store.live)
    assert "file has vanished" in store.log.read_text()


def test_a_snapshot_of_a_store_in_motion_holds_every_file_that_stayed(tmp_path: Path) -> None:
    store = SampleStore(tmp_path)
    staying = {
        store.write(f"2022/1/{day}/1/{minute}/stays.bin") for day in range(1, 9) for minute in range(20)
    }
    leaving = [
        store.write(f"2022/1/{day}/1/{minute}/goes.bin") for day in range(1, 9) for minute in range(20)
    ]
    leaving += [
        store.write(f"2022/1/{day}/2/{minute}/goes.bin") for day in range(1, 9) for minute in range(20)
    ]

    def clean() -> None:
        for file in reversed(leaving):
            file.unlink()
            if not any(file.parent.iterdir()):
                file.parent.rmdir()

    deleter = threading.Thread(target=clean)
    deleter.start()
    snapshot = take_snapshot(store.request())
    deleter.join()
    held = set(content(snapshot.path))
    assert {os.fsencode(file.relative_to(store.live)) for file in staying} <= held
    assert content(store.snapshot().path) == content(store.live)


def test_a_day_that_vanishes_before_it_is_copied_is_left_out(store: SampleStore) -> None:
    gone = store.write("2022/1/3/3/4/gone.bin")
    request = store.request()

    class Vanishing(snapshot_copy.Copying):
        def copy(self, days, loose):  # type: ignore[no-untyped-def]
            gone.unlink()
            for folder in list(gone.parents)[:3]:
                folder.rmdir()
            return super().copy(days, loose)

    snapshot = _snapshot_with(Vanishing, request)
    assert (list(snapshot.days), snapshot.vanished) == (["2022/1/2"], 1)
    assert content(snapshot.path) == content(store.live)


def test_a_store_that_is_unmounted_before_it_is_copied_is_not_taken_for_an_empty_one(
    store: SampleStore,
) -> None:
    class Unmounted(snapshot_copy.Copying):
        def copy(self, days, loose):  # type: ignore[no-untyped-def]
            store.live.rename(store.root / "unmounted")
            store.live.mkdir()
            return super().copy(days, loose)

    with pytest.raises(BackupUnsound, match="is no longer the directory it was when the run started"):
        _snapshot_with(Unmounted, store.request())
    assert snapshot_stamps(store.repository) == []


def test_a_volume_that_is_unmounted_while_days_are_compared_is_not_taken_for_unchanged(
    store: SampleStore,
) -> None:
    """rsync passes over what is listed and missing; a full run of a large store compares for hours."""
    store.write("volume/2022/1/2/3/4/a.bin")
    first = store.snapshot()
    store.write("volume/2022/1/2/3/4/b.bin", when=None)

    class Unmounted(snapshot_copy.Copying):
        def settle(self, plan):  # type: ignore[no-untyped-def]
            (store.live / "volume").rename(store.root / "unmounted")
            (store.live / "volume").mkdir()
            return super().settle(plan)

    with pytest.raises(BackupUnsound, match="live/volume is no longer the directory it was when the run"):
        _snapshot_with(Unmounted, store.request("full"))
    assert snapshot_stamps(store.repository) == [first.stamp]


def _snapshot_with(copying_class: type, request):  # type: ignore[no-untyped-def]
    """Take a snapshot with something happening between scan and copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.backup.contentstore.Copying", copying_class)
        return take_snapshot(request)


def test_a_file_that_cannot_be_read_fails_the_snapshot_and_nothing_is_published(
    store: SampleStore, make_unreadable: Callable[[Path], None]
) -> None:
    first = store.snapshot()
    make_unreadable(store.write("2022/1/2/3/4/unreadable.bin"))
    with pytest.raises(ToolFailed) as failure:
        store.snapshot()
    assert failure.value.returncode == 23
    assert "unreadable.bin" in failure.value.message
    assert str(store.log) in failure.value.hint
    assert snapshot_stamps(store.repository) == [first.stamp]
    assert store.repository.latest.resolve() == first.path
    names = sorted(path.name for path in store.repository.days.iterdir() if PARTIAL not in path.name)
    assert names == [first.stamp, f"{first.stamp}.checksums"]


@pytest.fixture
def small_disk(store: SampleStore) -> Iterator[Callable[[str], None]]:
    """A disk of 768 KiB for the backups, and what gives it another size; skips where none may be mounted."""
    place = store.repository.root.parent
    place.mkdir()

    def mount(options: str) -> subprocess.CompletedProcess[bytes]:
        argv = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        return subprocess.run(argv, check=False, capture_output=True)

    if mount("size=768k,mode=0777").returncode != 0:
        pytest.skip("this account may not mount a small disk")
    try:
        yield lambda size: mount(f"remount,size={size}").check_returncode()
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_named_as_such_and_the_next_run_goes_on_with_what_was_copied(
    store: SampleStore, small_disk: Callable[[str], None]
) -> None:
    with pytest.raises(ToolFailed, match="No space left on device") as failure:
        store.snapshot()
    root = store.repository.root
    assert failure.value.hint == (
        f"free space on that disk: df -h {root}; df -i {root}; the next run continues with what was copied"
    )
    small_disk("8m")
    snapshot = store.snapshot()
    assert (snapshot.new_files, content(snapshot.path)) == (2, content(store.live))


def test_a_failed_try_is_continued_under_the_same_stamp_without_copying_again(
    store: SampleStore, make_unreadable: Callable[[Path], None]
) -> None:
    bad = store.write("2022/1/2/3/4/unreadable.bin")
    make_unreadable(bad)
    stamp = "20260101T000000Z"
    with pytest.raises(ToolFailed):
        store.snapshot(stamp=stamp)
    bad.unlink()
    snapshot = store.snapshot(stamp=stamp)
    assert (snapshot.files, snapshot.new_files) == (3, 0)
    assert content(snapshot.path) == content(store.live)
    assert partials(store) == []


def test_a_killed_copy_leaves_only_partials_and_the_next_run_continues_it(store: SampleStore) -> None:
    first = store.snapshot()
    store.write("2022/1/3/3/4/0-first.bin", "new first")
    store.write("2022/1/3/3/4/1-big.bin", BIG)
    argv = [sys.executable, "-c", ONE_SLOW_SNAPSHOT, PROJECT, store.live, store.repository.root]
    killed = subprocess.Popen([*argv, "20260102T000000Z", str(SLOW)])
    big = f"*{PARTIAL}/2022/1/3/3/4/.1-big.bin.*"
    wait_until(lambda: list(store.repository.days.glob(big)), "rsync copies the big file", every=0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    wait_until(lambda: not programs_naming(store.repository.root), "its programs have ended")
    assert snapshot_stamps(store.repository) == [first.stamp]
    within = [path for path in partials(store) if path.parent != store.repository.days]
    assert partials(store) and {path.name for path in within} <= {snapshot_tree.BOOT, snapshot_tree.SYNCED}
    assert all(path.parent.parent == store.repository.days for path in within)
    store.taken = 3
    snapshot = store.snapshot(stamp="20260103T000000Z")
    assert content(snapshot.path) == content(store.live)
    assert (snapshot.new_files, snapshot.new_bytes) == (1, len(BIG)), "0-first.bin had been copied already"
    assert partials(store) == []


def programs_naming(path: Path) -> list[str]:
    """Command lines of running programs that name a path."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes()
        except OSError:
            continue
        if os.fsencode(path) in line:
            found.append(line.decode(errors="replace"))
    return found


def test_continuing_a_killed_copy_does_not_change_modes_of_older_versions(
    store: SampleStore, make_unreadable: Callable[[Path], None]
) -> None:
    first = store.snapshot()
    bad = store.write("2022/1/2/3/4/unreadable.bin")
    make_unreadable(bad)
    with pytest.raises(ToolFailed):
        store.snapshot()
    left = leftovers(store.repository)[0]
    assert inodes(left) & inodes(store.repository.day_trees(first.stamp)), "the left tree links to the older"
    bad.unlink()
    changed = store.live / "2022/1/2/3/4/0-first.bin"
    before = (first.path / "2022/1/2/3/4/0-first.bin").stat().st_mode
    changed.chmod(0o600)
    second = store.snapshot()
    assert (second.path / "2022/1/2/3/4/0-first.bin").stat().st_mode & 0o777 == 0o600
    assert (first.path / "2022/1/2/3/4/0-first.bin").stat().st_mode == before


def test_a_run_killed_between_publishing_days_and_snapshot_can_be_repeated(store: SampleStore) -> None:
    snapshot = store.snapshot(stamp="20260101T000000Z")
    snapshot.path.rename(snapshot.path.with_name(snapshot.path.name + PARTIAL))
    metadata_of(snapshot.path).unlink()
    again = store.snapshot(stamp="20260101T000000Z")
    assert (again.files, again.new_files) == (3, 0)
    assert content(again.path) == content(store.live)
    assert partials(store) == []


def test_after_a_power_cut_only_what_was_flushed_before_is_linked_to(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch, make_unreadable: Callable[[Path], None]
) -> None:
    bad = store.write("2022/1/2/3/4/unreadable.bin")
    make_unreadable(bad)
    with pytest.raises(ToolFailed):
        store.snapshot(stamp="20260101T000000Z")
    bad.unlink()
    left = leftovers(store.repository)[0]
    wait_for_tick()
    snapshot_tree.mark_synced(left, time.time_ns())
    wait_for_tick()
    unflushed = left / "2022/1/2/3/4/2-later.bin"
    status = unflushed.stat()
    unflushed.write_text("\0" * status.st_size)
    os.utime(unflushed, ns=(status.st_atime_ns, status.st_mtime_ns))
    monkeypatch.setattr(snapshot_tree, "_boot_id", lambda: b"the next start")
    snapshot = store.snapshot(stamp="20260102T000000Z")
    assert content(snapshot.path) == content(store.live)
    assert (snapshot.new_files, snapshot.new_bytes) == (1, len("later"))
    assert not list(store.repository.day_trees(snapshot.stamp).glob("*.partial"))


def test_tidying_after_a_power_cut_that_is_killed_itself_begins_again(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch, make_unreadable: Callable[[Path], None]
) -> None:
    loose = store.write("loose.txt", "loose")
    bad = store.write("2022/1/2/3/4/unreadable.bin")
    make_unreadable(bad)
    with pytest.raises(ToolFailed):
        store.snapshot()
    bad.unlink()
    left = leftovers(store.repository)[0]
    wait_for_tick()
    snapshot_tree.mark_synced(left, time.time_ns())
    wait_for_tick()
    for name in (loose.name, "2022/1/2/3/4/0-first.bin", "2022/1/2/3/4/2-later.bin"):
        status = (left / name).stat()
        (left / name).write_bytes(b"\0" * status.st_size)
        os.utime(left / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    monkeypatch.setattr(snapshot_tree, "_boot_id", lambda: b"the next start")

    unlink = os.unlink

    def unlink_and_die(name: str, *, dir_fd: int) -> None:
        unlink(name, dir_fd=dir_fd)
        raise SystemExit("killed")

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="killed"):
        patch.setattr(os, "unlink", unlink_and_die)
        snapshot_tree._trustworthy(left)
    snapshot = store.snapshot()
    assert content(snapshot.path) == content(store.live)
    assert (snapshot.new_files, snapshot.new_bytes) == (3, len("loose" + "first" + "later"))
    assert not list(store.repository.day_trees(snapshot.stamp).glob("*.partial"))


def test_after_a_power_cut_a_copy_that_was_never_flushed_is_not_linked_to(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch, make_unreadable: Callable[[Path], None]
) -> None:
    bad = store.write("2022/1/2/3/4/unreadable.bin")
    make_unreadable(bad)
    with pytest.raises(ToolFailed):
        store.snapshot()
    bad.unlink()
    monkeypatch.setattr(snapshot_tree, "_boot_id", lambda: b"the next start")
    assert store.snapshot().new_files == 3


def test_a_snapshot_killed_in_its_last_flush_is_continued_from_what_it_copied(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("2022/1/2/3/4/a.bin")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(snapshot_tree, "sync_filesystem", killed)
        store.snapshot()
    snapshot = store.snapshot()
    assert (snapshot.new_files, content(snapshot.path)) == (0, content(store.live))


@pytest.mark.parametrize("step", ["write_json", "publish"])
def test_a_run_killed_when_its_days_have_their_name_and_its_snapshot_not_is_continued(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real, days = getattr(snapshot_tree, step), store.repository.days

    def killed(path: Path, *more: Path) -> None:
        if path.parent != days:
            raise KeyboardInterrupt
        real(path, *more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(snapshot_tree, step, killed)
        store.snapshot(stamp="20260101T000000Z")
    assert store.repository.day_trees("20260101T000000Z").is_dir()
    snapshot = store.snapshot(stamp="20260102T000000Z")
    assert (snapshot.new_files, content(snapshot.path)) == (0, content(store.live))
    left = sorted(path.name for path in days.iterdir())
    assert left == ["20260102T000000Z", "20260102T000000Z.checksums"]
    lists = [len(read_list(file) or {}) for file in days.glob("*.checksums/2022/1/*")]
    assert lists == [3], "what the killed run noted of its files is kept too"


def test_day_trees_that_a_snapshot_under_another_name_holds_are_left_to_it(store: SampleStore) -> None:
    first = store.snapshot(stamp="20260101T000000Z")
    by_hand = first.path.with_name(f"{first.path.name}.before-the-upgrade")
    first.path.rename(by_hand)
    second = store.snapshot(stamp="20260102T000000Z")
    assert content(by_hand) == content(second.path) == content(store.live)


def test_progress_counts_directories_up_to_all_of_them(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_copy, "REPORT_SECONDS", 0.0)
    seen: list[tuple[float, float]] = []
    wait_for_tick()
    take_snapshot(store.request(), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    seen.clear()
    store.write("2022/1/2/3/4/0-first.bin", "changed in place", when=None)
    store.write("2022/1/3/3/4/new.bin")
    wait_for_tick()
    take_snapshot(store.request("full"), lambda done, total: seen.append((done, total)))
    assert seen[0][1] == 6, "one day to compare, one to copy"
    assert seen[-1] == (9, 9), "and the one that differs"


def test_a_copy_flushed_on_the_way_leaves_no_trace_of_it_in_the_day_trees(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []

    def mark(partial: Path, now_ns: int) -> None:
        snapshot_tree.mark_synced(partial, now_ns)
        flushed.append(partial / snapshot_tree.SYNCED)

    monkeypatch.setattr(snapshot_copy, "SYNC_SECONDS", 0.0)
    monkeypatch.setattr(snapshot_copy, "mark_synced", mark)
    snapshot = store.snapshot()
    assert flushed
    assert partials(store) == []
    assert content(store.repository.day_trees(snapshot.stamp)) == content(store.live)
