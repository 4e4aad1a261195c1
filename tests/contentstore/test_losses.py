"""A snapshot knows what was deleted since the one before it, and which files were changed in place."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from alfresco_backup.contentstore.losses import Losses, deletions_until
from alfresco_backup.contentstore.plan import Mode
from alfresco_backup.errors import BackupUnsound
from alfresco_backup.repository.layout import metadata_of
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.retention.content import ContentLimits, content_alarm
from alfresco_backup.system.files import read_json
from tests.support.stores import OLD, SampleStore

pytestmark = pytest.mark.slow  # each starts many programs


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    """Twelve days with three files each, and a file above the days."""
    sample = SampleStore(tmp_path)
    for day in range(1, 13):
        for name in "abc":
            sample.write(f"2022/1/{day}/3/4/{name}.bin", f"content {name} of {day}")
    sample.write("above.bin")
    return sample


def losses(snapshot: Snapshot) -> tuple[int, int, int]:
    on_disk = Snapshot.from_metadata(read_json(metadata_of(snapshot.path)), snapshot.path)
    assert on_disk == snapshot
    return snapshot.deleted_files, snapshot.deleted_days, snapshot.changed_files


def replaced(file: Path, content: str, *, when: float = OLD) -> None:
    """Write over a file in place: its folder does not change."""
    file.write_text(content)
    os.utime(file, (when, when))


def test_the_first_snapshot_and_an_unchanged_store_lost_nothing(store: SampleStore) -> None:
    assert losses(store.snapshot()) == (0, 0, 0)
    assert losses(store.snapshot()) == (0, 0, 0)
    assert losses(store.snapshot("full")) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["quick", "full", "checksum"])
def test_deleted_files_and_days_are_counted(store: SampleStore, mode: Mode) -> None:
    store.snapshot()
    shutil.rmtree(store.live / "2022/1/7")
    (store.live / "2022/1/8/3/4/b.bin").unlink()
    (store.live / "above.bin").unlink()
    store.write("2022/1/9/3/4/new.bin")
    taken = store.snapshot(mode)
    assert losses(taken) == (5, 1, 0)
    assert taken.losses == "5 files deleted, 1 whole day gone"
    assert losses(store.snapshot(mode)) == (0, 0, 0)


@pytest.mark.parametrize(("mode", "found"), [("quick", 0), ("full", 1), ("checksum", 2)])
def test_a_file_that_was_changed_in_place_is_named(store: SampleStore, mode: Mode, found: int) -> None:
    """The second keeps size and time, as malware may: only a run that reads every byte sees it."""
    store.snapshot()
    replaced(store.live / "2022/1/7/3/4/a.bin", "encrypted, and longer than before")
    replaced(store.live / "2022/1/8/3/4/a.bin", "CONTENT a of 8")
    taken = store.snapshot(mode)
    assert losses(taken) == (0, 0, found)
    assert set(taken.changed) == {f"2022/1/{day}/3/4/a.bin" for day in range(7, 7 + found)}


def test_a_changed_file_in_a_day_that_is_copied_anyway_is_seen_by_a_quick_run(store: SampleStore) -> None:
    store.snapshot()
    replaced(store.live / "2022/1/7/3/4/a.bin", "encrypted")
    store.write("2022/1/7/3/4/new.bin")
    assert losses(store.snapshot()) == (0, 0, 1)


def test_a_file_that_got_another_time_or_mode_alone_is_not_changed(store: SampleStore) -> None:
    store.snapshot()
    replaced(store.live / "2022/1/7/3/4/a.bin", "content a of 7", when=OLD + 5)
    (store.live / "2022/1/8/3/4/a.bin").chmod(0o600)
    taken = store.snapshot("full")
    assert losses(taken) == (0, 0, 0)
    assert taken.days["2022/1/7"].version == taken.stamp


def test_a_file_that_was_still_being_written_is_not_changed(store: SampleStore) -> None:
    file = store.write("2026/1/1/0/0/growing.bin", "the first half", when=None)
    store.snapshot(hot=48)
    with file.open("a") as stream:
        stream.write(", the second half")
    assert losses(store.snapshot(hot=48)) == (0, 0, 0)
    replaced(file, "something else altogether, and longer", when=file.stat().st_mtime + 1)
    assert losses(store.snapshot(hot=48)) == (0, 0, 1)


def test_an_old_file_that_something_was_appended_to_is_changed(store: SampleStore) -> None:
    store.snapshot(hot=48)
    replaced(store.live / "2022/1/7/3/4/a.bin", "content a of 7 and a note of ransom")
    assert losses(store.snapshot("full", hot=48)) == (0, 0, 1)


@pytest.mark.parametrize("before", ["ours", "the predecessor's"])
def test_what_a_restore_has_put_back_does_not_count(store: SampleStore, before: str) -> None:
    file = store.live / "2022/1/7/3/4/a.bin"
    if before == "ours":
        store.snapshot()
    else:
        legacy = store.repository.root / "contentstore-2025-12-30_02-00-00"
        store.repository.root.mkdir(parents=True)
        subprocess.run(["rsync", "-a", f"{store.live}/", f"{legacy}/"], check=True)
    replaced(file, "encrypted")
    if before == "ours":
        assert losses(store.snapshot("full")) == (0, 0, 1)
    else:
        store.snapshot("full")
    replaced(file, "content a of 7")
    assert losses(store.snapshot("full")) == (0, 0, 0)


def test_days_that_are_gone_since_the_predecessors_snapshot_are_counted(store: SampleStore) -> None:
    legacy = store.repository.root / "contentstore-2025-12-30_02-00-00"
    store.repository.root.mkdir(parents=True)
    subprocess.run(["rsync", "-a", f"{store.live}/", f"{legacy}/"], check=True)
    shutil.rmtree(store.live / "2022/1/7")
    assert losses(store.snapshot()) == (3, 1, 0)


def test_deletions_of_a_day_are_added_up_and_known_for_two_weeks(store: SampleStore) -> None:
    store.snapshot()
    for name in "ab":
        (store.live / f"2022/1/8/3/4/{name}.bin").unlink()
        taken = store.snapshot()
    assert taken.deletions == {taken.day: (2, 0)}
    known = {f"2025-12-{day:02}": (day, 0) for day in range(1, 20)}
    kept = deletions_until(known, "2026-01-01", Losses(3, 1))
    assert next(iter(kept)) == "2025-12-07" and len(kept) == 14 and kept["2026-01-01"] == (3, 1)


def test_a_store_without_day_folders_that_is_suddenly_empty_is_refused(tmp_path: Path) -> None:
    flat = SampleStore(tmp_path)
    for number in range(5):
        flat.write(f"deleted/{number}.bin")
    assert flat.snapshot().files == 5
    shutil.move(flat.live / "deleted", tmp_path / "unmounted")
    for mode in ("quick", "full"):
        with pytest.raises(BackupUnsound, match=r"the store held content in snapshot .* and is empty now"):
            flat.snapshot(mode)


def test_a_store_without_day_folders_that_loses_a_disk_is_refused_and_one_that_loses_most_files_alarms(
    tmp_path: Path,
) -> None:
    flat = SampleStore(tmp_path)
    for number in range(150):
        flat.write(f"one/{number}.bin")
    flat.write("two/0.bin")
    flat.snapshot()
    disk = shutil.move(flat.live / "two", tmp_path / "unmounted")
    (flat.live / "two").mkdir()
    with pytest.raises(BackupUnsound, match=r"two held content in snapshot .* and is empty now"):
        flat.snapshot()
    (flat.live / "two").rmdir()
    shutil.move(disk, flat.live / "two")
    for number in range(1, 150):
        (flat.live / f"one/{number}.bin").unlink()
    taken = flat.snapshot()
    assert losses(taken) == (149, 0, 0)
    assert "149 files and 0 whole days" in content_alarm(taken, ContentLimits(10, 100))
