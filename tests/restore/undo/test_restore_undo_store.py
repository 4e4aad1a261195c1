"""Undoing a fill whose store, or a part of it, is not mounted, is empty by now, or lies on another disk.

Or whose disk was not mounted during the fill, and is again.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.restore.content.fill import ROOTS
from alfresco_backup.restore.content.filled import BEGAN, MOUNTS
from alfresco_backup.restore.journal.journal_record import Record, RestoreState, Stopped, list_restores
from alfresco_backup.settings.commands import accept_command, discard_command, undo_command
from tasks.restore.undo import find_restore, undo
from tests.restore.content.test_restore_fill import Filling, read
from tests.support.restoring import Detail, details, differences

ADDED, REPLACED = "2023/11/14/9/5/added.bin", "2023/11/14/9/6/replaced.bin"


@dataclass
class FilledStore:
    """A restore that added a document to a store and replaced one. `before`: the store before it."""

    host: Host
    filling: Filling
    before: dict[str, Detail]

    @property
    def store(self) -> Path:
        return self.filling.live

    def record(self) -> Record:
        (record,) = list_restores(self.host.repository.restores("demo"))
        return record

    def undo(self) -> None:
        undo(self.host, find_restore(self.host, "latest", discard=False), str)
        assert self.record().state is RestoreState.UNDONE

    def refused(self, said: str = r"is not the folder that restore .* added documents to") -> Refused:
        """The refusal of an undo, which leaves the journal as it was; so does one that has begun already."""
        state = self.record().state
        with pytest.raises(Refused, match=said) as refusal:
            self.undo()
        assert self.record().state is state
        return refusal.value


@pytest.fixture
def host(tmp_path: Path) -> Host:
    env = tmp_path / "env"
    env.touch(0o600)
    places = f"BACKUP_DIR={tmp_path}/backup\nALF_BASE_DIR={tmp_path}\nALF_HOST_NAME=demo\n"
    env.write_text(f"PGHOST=localhost\nPGUSER=alfresco\nTOMCAT_PORT=9\n{places}")
    return load_host(env)


@pytest.fixture
def filled(host: Host, tmp_path: Path) -> FilledStore:
    return FilledStore(host, *fill(Filling(tmp_path)))


@pytest.fixture
def new_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Make a file system of its own. Skips where that is not allowed, as it is for ordinary users."""
    disks: list[Path] = []

    def make(name: str) -> Path:
        disk = tmp_path / name
        disk.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "none", disk], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("no mounts here")
        disks.append(disk)
        return disk

    yield make
    for disk in disks:
        subprocess.run(["umount", "--recursive", disk], check=True)


def fill(filling: Filling, below: str = "") -> tuple[Filling, dict[str, Detail]]:
    """Let a store lack one document of its snapshot and hold another one cut off, and fill it."""
    for name in (ADDED, REPLACED):
        filling.sample.write(f"{below}{name}", "all of it")
    snapshot = filling.sample.snapshot()
    (filling.live / below / ADDED).unlink()
    filling.sample.write(f"{below}{REPLACED}", "all")
    before = details(filling.live / below)
    filling.fill(snapshot.path)
    return filling, before


def unmount(place: Path) -> Path:
    """Leave an empty folder in a place, as the mount point of a disk is; where the disk is now."""
    disk = place.with_name(f"{place.name}-disk")
    place.rename(disk)
    place.mkdir()
    return disk


def mount(disk: Path, place: Path) -> None:
    place.rmdir()
    disk.rename(place)


@pytest.mark.parametrize("state", [RestoreState.COMPLETED, RestoreState.UNDOING])
def test_a_store_that_is_not_mounted_refuses_the_undo_which_works_once_it_is(
    filled: FilledStore, state: RestoreState
) -> None:
    filled.filling.journal.state(state)
    disk = unmount(filled.store)
    refusal = filled.refused()
    stamp = filled.record().restore_id
    look, again, otherwise = refusal.hint.splitlines()
    assert look == f"findmnt --target {filled.store}"
    assert again == f"{undo_command(stamp, 'demo')}  # once it is mounted"
    way_out = accept_command if state is RestoreState.UNDOING else discard_command
    assert otherwise.startswith(f"{way_out(stamp, 'demo')}  # only if it was removed")
    with pytest.raises(Refused):  # as when it goes away between the plan and the undo
        undo(filled.host, filled.record(), str)
    assert list(filled.store.iterdir()) == [] and filled.record().state is state
    mount(disk, filled.store)
    filled.undo()
    assert not (filled.store / ADDED).exists() and read(filled.store / REPLACED) == "all"


def test_a_store_that_goes_away_while_the_undo_works_is_no_refusal_and_the_services_that_are_down_are_named(
    filled: FilledStore,
) -> None:
    """A refusal tells that nothing was changed; here Alfresco has been stopped, and backups are."""
    filled.filling.journal.act(Stopped("alfresco", running=True))
    disks: list[Path] = []

    def unmount_in_between(said: str) -> None:
        if said.startswith("remove the files added"):
            disks.append(unmount(filled.store))

    with pytest.raises(BackupError, match=r"is not the folder that restore .* added documents to") as failure:
        undo(filled.host, filled.record(), unmount_in_between)
    assert not isinstance(failure.value, Refused) and failure.value.exit_code == 1
    assert failure.value.message.endswith("; Alfresco (Tomcat) is down now")
    assert undo_command(filled.record().restore_id, "demo") in failure.value.hint
    assert filled.record().state is RestoreState.UNDOING
    mount(disks[0], filled.store)


def test_a_store_that_is_not_there_refuses_the_undo(filled: FilledStore) -> None:
    disk = unmount(filled.store)
    filled.store.rmdir()
    filled.refused()
    assert not filled.store.exists()
    filled.store.mkdir()
    mount(disk, filled.store)
    filled.undo()


def test_a_volume_behind_a_link_that_is_not_mounted_refuses_the_undo(
    filled: FilledStore, tmp_path: Path
) -> None:
    shutil.rmtree(filled.host.repository.restores("demo"))
    volume = tmp_path / "volumes/volume2"
    volume.mkdir(parents=True)
    (filled.store / "volume2").symlink_to(volume)
    _, filled.before = fill(filled.filling, "volume2/")
    disk = unmount(volume)
    assert filled.refused().message.startswith(f"{filled.store}/volume2 is not the folder that restore")
    assert list(volume.iterdir()) == []
    mount(disk, volume)
    filled.undo()
    assert differences(filled.before, details(volume)) == []


def test_documents_that_people_have_deleted_since_keep_nobody_from_undoing(filled: FilledStore) -> None:
    for path in filled.store.iterdir():
        shutil.rmtree(path)
    filled.undo()
    files = [path for path in filled.store.rglob("*") if path.is_file()]
    assert [path.relative_to(filled.store).as_posix() for path in files] == [REPLACED]
    assert read(files[0]) == "all"


def test_a_store_that_has_been_copied_to_another_disk_since_is_known_by_its_documents(
    filled: FilledStore,
) -> None:
    disk = unmount(filled.store)
    shutil.copytree(disk, filled.store, dirs_exist_ok=True)
    assert filled.store.stat().st_ino != disk.stat().st_ino
    filled.undo()
    assert not (filled.store / ADDED).exists() and read(filled.store / REPLACED) == "all"


def test_of_a_fill_that_noted_no_inodes_only_an_empty_store_is_taken_for_one_that_is_not_mounted(
    filled: FilledStore,
) -> None:
    (filled.filling.last.folder / ROOTS).unlink()
    for name in (ADDED, REPLACED):
        (filled.store / name).unlink()
    disk = unmount(filled.store)
    filled.refused()
    mount(disk, filled.store)
    filled.undo()
    assert read(filled.store / REPLACED) == "all"


def bind(disk: Path, place: Path) -> None:
    subprocess.run(["mount", "--bind", disk, place], check=True)


@pytest.mark.parametrize("place", ["live", "2023"], ids=["the whole store", "a year"])
def test_a_disk_that_was_not_mounted_during_the_fill_and_is_now_keeps_its_documents(
    host: Host, tmp_path: Path, new_disk: Callable[[str], Path], place: str
) -> None:
    filling = Filling(tmp_path)
    point = filling.live if place == "live" else filling.live / place
    point.mkdir(parents=True, exist_ok=True)
    disk = new_disk("disk")
    bind(disk, point)
    filling.sample.write(ADDED, "the original")
    snapshot = filling.sample.snapshot()
    subprocess.run(["umount", point], check=True)
    filling.fill(snapshot.path)
    filled = FilledStore(host, filling, {})
    bind(disk, point)
    try:
        (filling.live / ADDED).chmod(0o600)  # by which the original is no older than what was added
        refusal = filled.refused(
            f"{point} was mounted after restore .* the originals; no document was removed"
        )
        assert read(filling.live / ADDED) == "the original"
    finally:
        subprocess.run(["umount", point], check=True)
    stamp = filled.record().restore_id
    umount, again, otherwise = refusal.hint.splitlines()
    assert umount == f"umount {point}" and again.startswith(f"{undo_command(stamp, 'demo')}  # then")
    assert otherwise.startswith(accept_command(stamp, "demo"))
    filled.undo()
    assert not (filling.live / ADDED).exists()
    bind(disk, point)
    try:
        assert read(filling.live / ADDED) == "the original"
    finally:
        subprocess.run(["umount", point], check=True)


@pytest.mark.parametrize("place", ["2022", "2023/11/15"])
def test_a_disk_that_is_mounted_since_and_covers_nothing_that_was_added_keeps_nobody_from_undoing(
    filled: FilledStore, new_disk: Callable[[str], Path], place: str
) -> None:
    (filled.store / place).mkdir(parents=True)
    disk = new_disk(f"live/{place}")
    (disk / "other.bin").write_text("of today")
    filled.undo()
    assert not (filled.store / ADDED).exists() and read(filled.store / REPLACED) == "all"
    assert read(disk / "other.bin") == "of today"


def test_a_disk_that_is_mounted_since_over_a_document_that_was_replaced_refuses_the_undo(
    filled: FilledStore, new_disk: Callable[[str], Path]
) -> None:
    disk = new_disk(f"live/{Path(REPLACED).parent}")
    (disk / "replaced.bin").write_text("of the disk")
    refusal = filled.refused(f"{disk} was mounted after restore .* the originals; no document was removed")
    assert refusal.hint.splitlines()[0] == f"umount {disk}"
    assert read(disk / "replaced.bin") == "of the disk"


def test_a_document_that_cannot_be_looked_at_refuses_the_undo(filled: FilledStore) -> None:
    folder = filled.store / "2023/11/14/9/5"
    folder.rename(kept := folder.with_name("5-kept"))
    folder.symlink_to(folder)
    refusal = filled.refused(f"whether {filled.store / ADDED} is the document .*Too many levels")
    assert refusal.hint.startswith(f"ls -ld {filled.store / ADDED}\n")
    folder.unlink()
    kept.rename(folder)
    filled.undo()


@pytest.mark.parametrize("noted", [True, False], ids=["as noted by the fill", "by an older version"])
def test_documents_older_than_the_fill_are_not_removed_whatever_brought_them_back(
    host: Host, tmp_path: Path, noted: bool
) -> None:
    """As a bind mount or a link to the same file system does: no new device tells of it."""
    filling = Filling(tmp_path)
    filling.sample.write(ADDED, "the original")
    snapshot = filling.sample.snapshot()
    disk = unmount(filling.live / "2023")
    filling.fill(snapshot.path)
    if not noted:
        for name in (MOUNTS, BEGAN):
            (filling.last.folder / name).unlink()
    filled = FilledStore(host, filling, {})
    below = filling.live / "2023-below"
    (filling.live / "2023").rename(below)
    disk.rename(filling.live / "2023")
    refusal = filled.refused(f"{filling.live / ADDED} is older than restore .*; no document was removed")
    assert refusal.hint.startswith(f"findmnt --target {filling.live / ADDED}\n")
    assert read(filling.live / ADDED) == "the original"
    (filling.live / "2023").rename(disk)
    below.rename(filling.live / "2023")
    filled.undo()
    assert not (filling.live / ADDED).exists()


def test_a_folder_of_the_store_that_is_mounted_a_second_time_keeps_nobody_from_undoing(
    filled: FilledStore,
) -> None:
    """As the unit of the worker does with what it may write to; the undo may be typed elsewhere."""
    done = subprocess.run(["mount", "--bind", filled.store, filled.store], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("no mounts here")
    try:
        filled.undo()
    finally:
        subprocess.run(["umount", filled.store], check=True)
    assert not (filled.store / ADDED).exists() and read(filled.store / REPLACED) == "all"
