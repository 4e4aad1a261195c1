"""Root fills a store that belongs to another account: no link of that account leads it anywhere else."""

import os
import pwd
import shutil
from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed
from alfresco_backup.restore.content import fill as filling_steps
from tests.restore.content.test_restore_fill import Filling, read
from tests.support.places import directory_in
from tests.support.planting import RootsOwn, as_root, given, holds_secret, other_account, planted
from tests.support.restoring import details, differences
from tests.support.stores import OLD

DAY = "2023/11/14"
NAME = f"{DAY}/9/5/a.bin"
ALFRESCO = other_account()
pytestmark = as_root


@pytest.fixture
def filling(reachable_path: Path) -> Filling:
    """A store of Alfresco's account, where that account can reach it."""
    made = Filling(reachable_path)
    made.sample.write(NAME, "all of it")
    given(made.live, ALFRESCO)
    return made


@pytest.fixture
def roots(reachable_path: Path) -> RootsOwn:
    return RootsOwn(reachable_path / "roots")


def owners(root: Path) -> set[str]:
    return {pwd.getpwuid(path.lstat().st_uid).pw_name for path in (root, *root.rglob("*"))}


def without_inodes(root: Path) -> dict[str, list[object]]:
    """What comes back behind a link of another account comes as a copy."""
    inodes = {path.lstat().st_ino for path in root.rglob("*")}
    return {name: [part for part in detail if part not in inodes] for name, detail in details(root).items()}


@pytest.mark.parametrize("place", ["2023", "2023/11", DAY, f"{DAY}/9"])
def test_a_folder_that_became_a_link_to_roots_own_gets_neither_files_nor_folders(
    filling: Filling, roots: RootsOwn, place: str
) -> None:
    snapshot = filling.sample.snapshot()
    shutil.rmtree(filling.live / "2023")
    (filling.live / place).parent.mkdir(parents=True, exist_ok=True)
    given(filling.live, ALFRESCO)
    planted(filling.live / place, roots.folder, ALFRESCO)
    before = details(filling.live)
    with pytest.raises((ToolFailed, OSError)):
        filling.fill(snapshot.path)
    roots.require_unchanged()
    filling.undo()
    roots.require_unchanged()
    assert differences(before, details(filling.live)) == []


def test_what_comes_back_belongs_to_the_stores_account_and_so_does_what_was_replaced(
    filling: Filling,
) -> None:
    filling.sample.write(f"{DAY}/9/5/short.bin", "all of it")
    given(filling.live, ALFRESCO)
    snapshot = filling.sample.snapshot()
    shutil.rmtree(filling.live / f"{DAY}/9")
    filling.sample.write(f"{DAY}/9/5/short.bin", "all")
    given(filling.live, ALFRESCO)
    before = details(filling.live)
    assert filling.fill(snapshot.path).missing == 1
    assert read(filling.live / NAME) == read(filling.live / f"{DAY}/9/5/short.bin") == "all of it"
    assert owners(filling.live) == owners(filling.last.kept / DAY / "9/5/short.bin") == {"nobody"}
    assert {(path.stat().st_mode, path.stat().st_mtime) for path in filling.live.rglob("*.bin")} == {
        (0o100644, OLD)
    }
    filling.undo()
    assert differences(before, details(filling.live)) == []


@pytest.mark.parametrize("place", ["2023", "2023/11", DAY])
def test_a_volume_behind_a_link_of_alfrescos_account_is_filled_and_taken_back(
    filling: Filling, place: str
) -> None:
    """rsync 3.5 does not follow such a link."""
    disk = filling.sample.root / "disk"
    (filling.live / place).rename(disk)
    planted(filling.live / place, disk, ALFRESCO)
    filling.sample.write(f"{DAY}/9/5/short.bin", "all of it")
    given(disk, ALFRESCO)
    snapshot = filling.sample.snapshot()
    (filling.live / NAME).unlink()
    filling.sample.write(f"{DAY}/9/5/short.bin", "all")
    given(disk, ALFRESCO)
    before = details(filling.live), without_inodes(disk)
    counts = filling.fill(snapshot.path)
    assert (counts.missing, counts.differing) == (1, 1)
    assert read(filling.live / NAME) == "all of it"
    assert owners(disk) == {"nobody"}
    filling.undo()
    assert differences(before[0], details(filling.live)) == []
    assert without_inodes(disk) == before[1]


def test_a_link_in_a_backup_comes_back_as_a_link_whatever_it_leads_to(
    filling: Filling, roots: RootsOwn
) -> None:
    links = {f"{DAY}/9/5/secret.bin": roots.file, f"{DAY}/9/folder": roots.folder, "loose.bin": roots.file}
    for name, target in links.items():
        planted(filling.live / name, target, ALFRESCO)
    snapshot = filling.sample.snapshot()
    for name in links:
        (filling.live / name).unlink()
    emptied = details(filling.live)
    assert filling.fill(snapshot.path).missing == len(links)
    assert {name: (filling.live / name).readlink() for name in links} == links
    assert holds_secret(filling.live) == []
    assert owners(filling.live) == {"nobody"}
    filling.undo()
    assert differences(emptied, details(filling.live)) == []
    roots.require_unchanged()


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same file system", "another one"])
def test_what_lies_in_the_place_of_a_kept_file_is_not_read_with_roots_rights(
    filling: Filling, roots: RootsOwn, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = filling.sample.snapshot()
    (filling.live / NAME).write_text("all")
    given(filling.live, ALFRESCO)
    found = filling_steps.kept_in_store

    def exchanged(store: Path, folder: Path):  # type: ignore[no-untyped-def]
        for file, path in found(store, folder):
            planted(file, roots.file, ALFRESCO)
            yield file, path

    monkeypatch.setattr(filling_steps, "kept_in_store", exchanged)
    with directory_in("/var/tmp") as other:
        if elsewhere:
            filling.restore = other / "restores/demo/id"
        if elsewhere and other.stat().st_dev != filling.live.stat().st_dev:
            with pytest.raises(OSError, match="symbolic links"):
                filling.fill(snapshot.path)
        else:
            filling.fill(snapshot.path)
        assert holds_secret(filling.restore.parent) == holds_secret(filling.live) == []
        filling.undo()
        assert holds_secret(filling.live) == []
    roots.require_unchanged()


@pytest.mark.parametrize("what", ["added", "replaced", "compared"])
def test_undoing_changes_nothing_behind_a_link_that_was_put_in_the_way(
    filling: Filling, roots: RootsOwn, what: str
) -> None:
    snapshot = filling.sample.snapshot()
    file = filling.live / NAME
    if what == "added":
        file.unlink()
    else:
        filling.sample.write(NAME, "all" if what == "replaced" else "all of it", when=OLD + 100)
    given(filling.live, ALFRESCO)
    filling.fill(snapshot.path)
    (roots.folder / "5").mkdir()
    (roots.folder / "5/a.bin").write_text("roots")
    before = roots.state()
    if what == "compared":
        planted(file, roots.folder / "5/a.bin", ALFRESCO)
    else:
        shutil.rmtree(filling.live / DAY / "9")
        planted(filling.live / DAY / "9", roots.folder, ALFRESCO)
    if what == "replaced":
        with pytest.raises(PermissionError, match="9"):
            filling.undo()
    else:
        filling.undo()
    assert roots.state() == before


def test_a_file_of_a_third_account_is_replaced_where_it_differs_and_left_alone_where_it_does_not(
    filling: Filling,
) -> None:
    """Its times and modes are not the store's account's to set."""
    for name in ("same", "other"):
        filling.sample.write(f"{DAY}/9/5/{name}.bin", "content")
    given(filling.live, ALFRESCO)
    snapshot = filling.sample.snapshot()
    for name, content in (("same", "content"), ("other", "CONTENT")):
        filling.sample.write(f"{DAY}/9/5/{name}.bin", content, when=OLD + 100)
    given(filling.live, ALFRESCO)
    for name in ("same", "other"):
        os.chown(filling.live / f"{DAY}/9/5/{name}.bin", 0, 0)
    before = details(filling.live)
    filling.fill(snapshot.path)
    same, other = ((filling.live / f"{DAY}/9/5/{name}.bin") for name in ("same", "other"))
    assert (same.owner(), same.stat().st_mtime, read(same)) == ("root", OLD + 100, "content")
    assert (other.owner(), other.stat().st_mtime, read(other)) == ("nobody", OLD, "content")
    filling.undo()
    assert differences(before, details(filling.live)) == []


def test_a_store_of_roots_with_a_volume_of_alfrescos_is_filled_by_both(filling: Filling) -> None:
    os.chown(filling.live, 0, 0)
    filling.sample.write("2024/1/1/9/5/b.bin", "roots")
    filling.sample.write("loose.bin", "roots")
    snapshot = filling.sample.snapshot()
    for name in (NAME, "2024/1/1/9/5/b.bin", "loose.bin"):
        (filling.live / name).unlink()
    shutil.rmtree(filling.live / "2023/11")
    before = details(filling.live)
    assert filling.fill(snapshot.path).missing == 3
    assert owners(filling.live / "2023") == {"nobody"}
    assert owners(filling.live / "2024") == owners(filling.live / "loose.bin") == {"root"}
    filling.undo()
    assert differences(before, details(filling.live)) == []
