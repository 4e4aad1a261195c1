"""Volumes that lie elsewhere, behind links, and go away while a snapshot is taken."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from alfresco_backup.contentstore import scan, snapshot_copy
from alfresco_backup.contentstore.links import snapshot_stamps
from alfresco_backup.contentstore.rsync import Origin, RsyncOutput
from alfresco_backup.contentstore.scan import Seen
from alfresco_backup.contentstore.volumes import Volume as Volume_
from alfresco_backup.errors import BackupUnsound
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tasks.backup.contentstore import take_snapshot
from tests.support.common import wait_until
from tests.support.places import directory_in
from tests.support.stores import SampleStore, content, wait_for_tick

DAY = "2022/1/2"
BIG = "x" * (1 << 20)
SLOW = 0.25
"""MiB/s: the 1 MiB file that is copied first gives a test four seconds to do something meanwhile."""


class Volume:
    """The folder at `place` of a store moved to another disk, with a link in its stead."""

    def __init__(self, store: SampleStore, place: str) -> None:
        self.disk, self.away = store.root / "disk", store.root / "away"
        (store.live / place).rename(self.disk)
        (store.live / place).symlink_to(self.disk)

    def unmount(self) -> None:
        """Leave an empty folder where the disk was."""
        self.disk.rename(self.away)
        self.disk.mkdir()

    def mount(self) -> None:
        self.disk.rmdir()
        self.away.rename(self.disk)


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    sample = SampleStore(tmp_path)
    sample.write(f"{DAY}/3/4/0-big.bin", BIG)
    sample.write(f"{DAY}/3/4/1-later.bin", "later")
    sample.write("2023/1/2/3/4/other.bin", "other")
    return sample


def unmount_during_copy(store: SampleStore, volume: Volume) -> threading.Thread:
    """Unmounts as soon as rsync copies the big file, which is the first of its folder."""

    def unmount() -> None:
        copied = f"*.partial/{DAY}/3/4/.0-big.bin.*"
        wait_until(lambda: list(store.repository.days.glob(copied)), "the big file is being copied")
        volume.unmount()

    thread = threading.Thread(target=unmount)
    thread.start()
    return thread


@pytest.mark.parametrize("place", ["2022", "2022/1", DAY])
def test_what_a_link_leads_to_and_is_unmounted_during_the_copy_is_not_taken_for_deleted(
    store: SampleStore, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Volume(store, place)

    class Unmounted(snapshot_copy.Copying):
        def _run(self, commands, *arguments):  # type: ignore[no-untyped-def]
            super()._run(commands, *arguments)
            if commands:
                volume.unmount()

    with (
        monkeypatch.context() as patch,
        pytest.raises(BackupUnsound, match=f"live/{place} is no longer the directory it was") as refusal,
    ):
        patch.setattr("tasks.backup.contentstore.Copying", Unmounted)
        store.snapshot()
    assert refusal.value.hint == f"was a file system unmounted? findmnt --target {volume.disk}"
    assert snapshot_stamps(store.repository) == []
    volume.mount()
    assert content(store.snapshot().path) == content(store.live)


@pytest.mark.slow
def test_a_disk_that_is_renamed_for_a_moment_while_it_is_copied_is_copied_whole(store: SampleStore) -> None:
    """It is held open meanwhile; an unmounted one would be busy."""
    volume = Volume(store, "2022")
    wait_for_tick()
    unmounting = unmount_during_copy(store, volume)
    unmounting_and_mounting = threading.Thread(target=lambda: (unmounting.join(), volume.mount()))
    unmounting_and_mounting.start()
    first = take_snapshot(store.request(limit=SLOW))
    unmounting_and_mounting.join()
    assert (first.files, first.vanished) == (3, 0)
    second = store.snapshot()
    assert second.new_files == 0
    assert content(second.path) == content(store.live)


def test_a_day_in_which_something_vanished_while_it_was_copied_is_known_by_its_path_in_the_store() -> None:
    output = RsyncOutput(keep_line=str)
    for place, real, name in (("", "/store", "2022/1/2/3/a"), ("2022", "/disk", "1/3/a"), (DAY, "/day", "a")):
        output.origin = Origin(place, Volume_(real, (0, 0)), 0)
        output.on_copy_line(f'file has vanished: "{real}/{name}"')
    assert output.short == {"2022/1/2", "2022/1/3"}
    assert output.vanished == 3


def test_a_disk_that_is_unmounted_while_its_days_are_looked_at_is_not_taken_for_deleted(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("2022/1/3/3/4/next.bin")
    first = store.snapshot()
    volume = Volume(store, "2022")
    look = scan._Walk.day

    def look_and_unmount(walk: scan._Walk, place: scan._Place) -> Seen | None:
        seen = look(walk, place)
        if place.path == DAY:
            volume.unmount()
        return seen

    monkeypatch.setattr(scan._Walk, "day", look_and_unmount)
    monkeypatch.setattr("tasks.backup.contentstore.SCAN_THREADS", 1)
    with pytest.raises(BackupUnsound, match="live/2022 is no longer the directory it was"):
        store.snapshot()
    assert snapshot_stamps(store.repository) == [first.stamp]


SNAPSHOT_AS_NOBODY = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.stores import SampleStore
if os.geteuid() == 0:
    rehearsal = SampleStore(Path(sys.argv[2], "rehearsal"))  # loads what an ordinary user may not reach
    rehearsal.write("2022/1/2/3/4/a.bin")
    rehearsal.snapshot()
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(SampleStore(Path(sys.argv[2]), exists=True).snapshot().files)
"""


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["", "2022", "2022/1"])
def test_the_closed_lost_and_found_of_a_disk_does_not_keep_the_stores_owner_from_a_snapshot(
    disk: str,
) -> None:
    """A disk of ext4 holds it at its top, for root alone."""
    with directory_in("/tmp") as root:
        store = SampleStore(root)
        store.write(f"{DAY}/3/4/a.bin")
        store.write(f"{DAY}/lost+found/b.bin")
        lost = store.live / disk / "lost+found"
        lost.mkdir()
        if os.geteuid() == 0:
            for path in (store.root, *store.root.rglob("*")):
                os.chown(path, 65534, 65534)
            os.chown(lost, 0, 0)
        lost.chmod(0o700 if os.geteuid() == 0 else 0)
        argv = [sys.executable, "-c", SNAPSHOT_AS_NOBODY, PROJECT_DIRECTORY, root]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
        assert (done.stdout, done.returncode) == ("2\n", 0), done.stderr


@pytest.mark.parametrize("name", [".snapshot", ".zfs", "~snapshot", "lost+found"])
@pytest.mark.parametrize("place", ["", "2022", "2022/1"])
def test_the_snapshot_folder_of_a_filer_is_no_part_of_the_store(
    tmp_path: Path, name: str, place: str
) -> None:
    """NetApp and ZFS show the whole file system again in it, once for each of their snapshots."""
    store = SampleStore(tmp_path)
    store.write(f"{DAY}/3/4/a.bin")
    store.write(f"{place}/{name}/hourly.0/2022/1/2/3/4/a.bin".lstrip("/"))
    assert set(scan.scan_store(store.live, 0).days) == {DAY}
    store.write(f"{DAY}/{name}/b.bin")  # below the day level it is a name as any other
    made = store.snapshot()
    copied = {os.fsdecode(path) for path, data in content(made.path).items() if data is not None}
    assert copied == {f"{DAY}/3/4/a.bin", f"{DAY}/{name}/b.bin"}
