"""Filling a content store from snapshots: what is taken, what is left, and how it is taken back."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupUnsound, ToolFailed
from alfresco_backup.restore.content.fill import Fill, fill_store
from alfresco_backup.restore.content.fill_differences import Differences, Source
from alfresco_backup.restore.content.fill_rsync import CopyOptions, deal
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.restore.journal.journal_record import Filled, read_journal
from alfresco_backup.restore.undo.undo_actions import remove, unfill
from alfresco_backup.restore.undo.undo_plan import Unfill, make_undo_plan
from tasks.restore.content import StoreRestored
from tests.support.restoring import details, differences
from tests.support.stores import OLD, SampleStore

STAMP = "20261122T020000Z"
ODD = "2023/11/14/9/5/a b\n'\"\\ ü *.bin"
RAW = os.fsdecode(b"2023/11/14/9/5/\xff\xfe.bin")
HASH, SEMICOLON = "#recycle/2023/11/9/5/h.bin", ";loose.bin"


def nothing(_done: float, _total: float) -> None:
    """Progress nobody looks at."""


class Filling:
    """A store with snapshots, and the folder of a restore that fills it."""

    def __init__(self, root: Path) -> None:
        self.sample = SampleStore(root)
        self.restore = root / "backup/restores/demo" / STAMP
        self.runs = 0

    @property
    def live(self) -> Path:
        return self.sample.live

    def fill(self, *snapshots: Path, replaces: tuple[bool, ...] = ()) -> Differences:
        """Fill the live store; a restore of its own each time."""
        self.runs += 1
        folder = self.restore.with_name(f"2026112{self.runs}T020000Z")
        folder.mkdir(parents=True)
        self.journal = Journal.begin(folder, folder.name, "demo", {})
        ways = replaces or (True,) * len(snapshots)
        self.last = Fill(
            store=self.live,
            sources=tuple(Source(str(path), way) for path, way in zip(snapshots, ways, strict=True)),
            folder=folder / "content",
            journal=self.journal,
            options=CopyOptions(None, 1, 0, ""),
            parallel=2,
            log=folder / "log",
            stamp=folder.name,
        )
        return fill_store(self.last, nothing)

    def undo(self) -> None:
        for action in make_undo_plan(read_journal(self.journal.path)):
            if isinstance(action, Unfill):
                unfill(action)
            elif hasattr(action, "keep_as"):
                remove(action.path, action.keep_as)
            elif hasattr(action, "time_ns"):
                os.utime(action.path, ns=(action.time_ns, action.time_ns))


@pytest.fixture
def filling(tmp_path: Path) -> Iterator[Filling]:
    return Filling(tmp_path)


def read(path: Path) -> str:
    return path.read_text()


def test_what_is_missing_comes_back_with_its_time_and_nothing_else_is_touched(filling):
    for name in ("2023/11/14/9/5/a", "2023/11/14/9/5/b", "2023/11/14/9/6/c", "2024/1/2/3/4/d"):
        filling.sample.write(f"{name}.bin", f"{name}.bin")
    snapshot = filling.sample.snapshot()
    (filling.live / "2023/11/14/9/5/a.bin").unlink()
    for path in ("2024/1/2/3/4/d.bin", "2024/1/2/3/4", "2024/1/2/3", "2024/1/2", "2024/1", "2024"):
        place = filling.live / path
        place.rmdir() if place.is_dir() else place.unlink()
    filling.sample.write("2025/1/1/1/1/new.bin", "written since", when=None)
    before = details(filling.live)
    counts = filling.fill(snapshot.path)
    assert (counts.files, counts.missing, counts.differing, counts.suspect) == (4, 2, 0, 0)
    restored = filling.live / "2024/1/2/3/4/d.bin"
    assert read(restored) == "2024/1/2/3/4/d.bin" and restored.stat().st_mtime == OLD
    assert read(filling.live / "2025/1/1/1/1/new.bin") == "written since"
    after = details(filling.live)
    kept = {name: detail for name, detail in before.items() if name != "2023/11/14/9/5"}
    assert {name: after[name] for name in kept} == kept
    filling.undo()
    assert differences(before, details(filling.live)) == []


def test_a_day_that_the_backup_has_lost_stops_the_fill_before_anything_is_copied(filling):
    for name in ("2023/11/14/9/5/a.bin", "2023/11/15/9/5/b.bin"):
        filling.sample.write(name)
    snapshot = filling.sample.snapshot()
    shutil.rmtree(filling.live / "2023")
    before = details(filling.live)
    lost = filling.sample.repository.day_trees(snapshot.stamp) / "2023/11/15"
    lost.rename(lost.with_name("gone"))
    link = snapshot.path / "2023/11/15"
    with pytest.raises(
        BackupUnsound,
        match=rf"1 day folders of the backup of .* are missing: the links {link} are broken; nothing was",
    ):
        filling.fill(snapshot.path)
    assert details(filling.live) == before
    lost.with_name("gone").rename(lost)
    assert filling.fill(snapshot.path).missing == 2


def test_names_of_any_bytes_come_back(filling):
    names = (ODD, RAW, HASH, SEMICOLON)
    for name in names:
        filling.sample.write(name, name.encode("utf-8", "surrogateescape").hex())
    snapshot = filling.sample.snapshot()
    for name in names:
        (filling.live / name).unlink()
    before = details(filling.live)
    assert filling.fill(snapshot.path).missing == len(names)
    for name in names:
        assert read(filling.live / name) == name.encode("utf-8", "surrogateescape").hex()
    filling.undo()
    assert differences(before, details(filling.live)) == []


def test_a_shorter_file_is_replaced_and_a_longer_one_is_kept(filling):
    """A snapshot may have caught a file while it grew; a crash may have cut one off in the store."""
    filling.sample.write("2023/11/14/9/5/whole.bin", "all of it")
    filling.sample.write("2023/11/14/9/5/growing.bin", "half")
    snapshot = filling.sample.snapshot()
    filling.sample.write("2023/11/14/9/5/whole.bin", "all")
    filling.sample.write("2023/11/14/9/5/growing.bin", "half and half")
    before = details(filling.live)
    counts = filling.fill(snapshot.path)
    assert (counts.differing, counts.kept) == (1, 1)
    told = StoreRestored("main", filling.live, "fill", counts.files, 0, 1, counts.kept, counts.bytes)
    assert told.sentence().endswith("; 1 file is larger in the store than in the backup and stayed")
    assert read(filling.live / "2023/11/14/9/5/whole.bin") == "all of it"
    assert read(filling.live / "2023/11/14/9/5/growing.bin") == "half and half"
    assert read(filling.last.kept / "2023/11/14/9/5/whole.bin") == "all"
    filling.undo()
    assert differences(before, details(filling.live)) == []


def test_the_same_size_with_another_time_is_compared_by_its_bytes(filling):
    filling.sample.write("2023/11/14/9/5/wiped.bin", "content")
    filling.sample.write("2023/11/14/9/5/copied.bin", "content")
    snapshot = filling.sample.snapshot()
    filling.sample.write("2023/11/14/9/5/wiped.bin", "0000000", when=OLD + 100)
    filling.sample.write("2023/11/14/9/5/copied.bin", "content", when=OLD + 100)
    inode = (filling.live / "2023/11/14/9/5/copied.bin").stat().st_ino
    before = details(filling.live)
    counts = filling.fill(snapshot.path)
    assert counts.suspect == 2
    assert read(filling.live / "2023/11/14/9/5/wiped.bin") == "content"
    assert (filling.live / "2023/11/14/9/5/copied.bin").stat().st_ino == inode
    assert sorted(path.name for path in filling.last.kept.rglob("*.bin")) == ["wiped.bin"]
    filling.undo()
    assert differences(before, details(filling.live)) == []


def test_a_fill_is_taken_back_where_alfresco_has_pruned_folders_since(filling):
    for name in ("2023/11/14/9/5/whole.bin", "2023/11/14/9/6/added.bin", "2023/11/14/9/7/copied.bin"):
        filling.sample.write(name, "all of it")
    snapshot = filling.sample.snapshot()
    filling.sample.write("2023/11/14/9/5/whole.bin", "all")
    filling.sample.write("2023/11/14/9/7/copied.bin", "all of it", when=OLD + 100)
    (filling.live / "2023/11/14/9/6/added.bin").unlink()
    counts = filling.fill(snapshot.path)
    assert (counts.missing, counts.differing, counts.suspect) == (1, 1, 1)
    shutil.rmtree(filling.live / "2023/11/14")
    filling.undo()
    files = [path for path in filling.live.rglob("*") if path.is_file()]
    assert [path.relative_to(filling.live).as_posix() for path in files] == ["2023/11/14/9/5/whole.bin"]
    assert read(files[0]) == "all"


def test_of_several_snapshots_the_first_that_holds_a_file_wins(filling):
    filling.sample.write("2023/11/14/9/5/purged.bin", "only before")
    filling.sample.write("2023/11/14/9/5/both.bin", "cut o")
    before = filling.sample.snapshot()
    (filling.live / "2023/11/14/9/5/purged.bin").unlink()
    filling.sample.write("2023/11/14/9/5/both.bin", "cut off no more")
    filling.sample.write("2023/11/15/9/5/after.bin", "only after")
    after = filling.sample.snapshot("full")
    for name in ("2023/11/14/9/5/both.bin", "2023/11/15/9/5/after.bin"):
        (filling.live / name).unlink()
    counts = filling.fill(after.path, before.path, replaces=(True, False))
    assert counts.missing == 3
    found = {path.name: read(path) for path in filling.live.rglob("*.bin")}
    assert found == {
        "purged.bin": "only before",
        "both.bin": "cut off no more",
        "after.bin": "only after",
    }


def test_of_several_snapshots_the_one_that_holds_a_file_whole_is_taken_and_the_stores_own_is_kept(filling):
    """The snapshot after the moment may have caught what a crash had cut off."""
    sizes = {
        "a": ("whole", "", ""),
        "b": ("wh", "whole", "whol"),
        "c": ("who", "whole", ""),
        "d": ("5", "5", ""),
    }
    snapshots = []
    for moment in (2, 1, 0):
        for name, held in sizes.items():
            filling.sample.write(f"2023/11/14/9/{name}/{name}.bin", held[moment], when=OLD + moment)
        snapshots.append(filling.sample.snapshot("full").path)
    for name in sizes:
        filling.sample.write(f"2023/11/14/9/{name}/{name}.bin", "w")
    filling.sample.write("2023/11/14/9/d/d.bin", "")
    before = details(filling.live)
    counts = filling.fill(*snapshots, replaces=(True, False, False))
    assert (counts.files, counts.missing, counts.differing, counts.kept) == (4, 0, 4, 0)
    assert {path.stem: read(path) for path in filling.live.rglob("*.bin")} == {
        "a": "whole",
        "b": "whole",
        "c": "whole",
        "d": "5",
    }
    assert (filling.live / "2023/11/14/9/d/d.bin").stat().st_mtime == OLD + 1
    assert {read(path) for path in filling.last.kept.rglob("[abc].bin")} == {"w"}
    filling.undo()
    assert differences(before, details(filling.live)) == []


def test_a_second_fill_finds_nothing_to_do(filling):
    filling.sample.write("2023/11/14/9/5/a.bin")
    snapshot = filling.sample.snapshot()
    (filling.live / "2023/11/14/9/5/a.bin").unlink()
    assert filling.fill(snapshot.path).missing == 1
    again = filling.fill(snapshot.path)
    assert (again.files, again.missing, again.differing, again.suspect) == (1, 0, 0, 0)
    assert not any(isinstance(act, Filled) for act in read_journal(filling.journal.path).acts)


def test_nothing_in_the_store_shares_an_inode_with_the_repository(filling):
    filling.sample.write("2023/11/14/9/5/a.bin")
    filling.sample.write("loose.txt", when=None)
    snapshot = filling.sample.snapshot()
    (filling.live / "2023/11/14/9/5/a.bin").unlink()
    (filling.live / "loose.txt").unlink()
    filling.fill(snapshot.path)
    files = [path for path in filling.live.rglob("*") if path.is_file()]
    assert len(files) == 2 and {path.stat().st_nlink for path in files} == {1}
    assert not any(path.is_symlink() for path in filling.live.rglob("*"))


def test_volumes_behind_links_are_filled_where_they_lie(filling, tmp_path):
    volume = tmp_path / "disk2/volume"
    volume.mkdir(parents=True)
    (filling.live / "volume2").symlink_to(volume)
    filling.sample.write("volume2/2023/11/14/9/5/a.bin", "on another disk")
    filling.sample.write("2023/11/14/9/5/b.bin", "here")
    snapshot = filling.sample.snapshot()
    for name in ("volume2/2023/11/14/9/5/a.bin", "2023/11/14/9/5/b.bin"):
        (filling.live / name).unlink()
        (filling.live / name).parent.rmdir()
    before = details(filling.live) | details(volume)
    assert filling.fill(snapshot.path).missing == 2
    assert read(volume / "2023/11/14/9/5/a.bin") == "on another disk"
    assert (filling.live / "volume2").is_symlink()
    filling.undo()
    assert differences(before, details(filling.live) | details(volume)) == []


def test_a_fill_that_fails_halfway_is_taken_back_whole(filling):
    for number in range(5):
        filling.sample.write(f"2023/11/14/9/{number}/a.bin")
    snapshot = filling.sample.snapshot()
    for number in range(4):
        (filling.live / f"2023/11/14/9/{number}/a.bin").unlink()
    (filling.live / "2023/11/14/9/0").rmdir()
    (filling.live / "2023/11/14/9/0").write_text("a file where a folder was")
    before = details(filling.live)
    with pytest.raises((ToolFailed, FileExistsError)):
        filling.fill(snapshot.path)
    filling.undo()
    assert differences(before, details(filling.live)) == []


def test_a_predecessors_full_tree_is_a_source_like_any_other(filling, tmp_path):
    tree = tmp_path / "contentstore-2023-11-14_09-05-00"
    (tree / "2023/11/14/9/5").mkdir(parents=True)
    (tree / "2023/11/14/9/5/a.bin").write_text("old")
    assert filling.fill(tree).missing == 1
    assert read(filling.live / "2023/11/14/9/5/a.bin") == "old"


def test_shares_are_even_and_never_trifling():
    assert deal(list(range(10)), 3) == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert deal(list(range(10)), 4, smallest=6) == [list(range(10))]
    assert deal([], 4) == []
