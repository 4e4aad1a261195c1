"""Links in a content store: which are followed, and that none leads root to what only root may read."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.backup.concerns import warnings_about
from alfresco_backup.contentstore.volumes import leads_out
from alfresco_backup.errors import BackupUnsound, ToolFailed
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from tasks.backup.contentstore import take_snapshot
from tests.support.planting import RootsOwn, as_root, given, holds_secret, other_account, planted, run_as
from tests.support.stores import SampleStore, content

pytestmark = pytest.mark.slow

DAY = "2022/1/2"
ALFRESCO = other_account()


@pytest.fixture
def store(reachable_path: Path) -> SampleStore:
    """A store of Alfresco's account, where that account can reach it."""
    sample = SampleStore(reachable_path)
    sample.write(f"{DAY}/3/4/a.bin", "a")
    sample.write("2023/1/2/3/4/b.bin", "b")
    if os.geteuid() == 0:
        given(sample.live, ALFRESCO)
    return sample


@pytest.fixture
def roots(reachable_path: Path) -> RootsOwn:
    return RootsOwn(reachable_path / "roots")


@as_root
@pytest.mark.parametrize("place", [f"{DAY}/3/4/x.bin", f"{DAY}/3/x", "2022/1/3", "2022/2", "2031", "x.txt"])
@pytest.mark.parametrize("to", ["file", "folder"])
@pytest.mark.parametrize("mode", ["quick", "checksum"])
def test_a_link_to_what_only_root_may_read_is_kept_as_a_link_and_named(
    store: SampleStore, roots: RootsOwn, place: str, to: str, mode: str
) -> None:
    store.snapshot()
    target = roots.file if to == "file" else roots.folder
    planted(store.live / place, target, ALFRESCO)
    snapshot = store.snapshot(mode)  # type: ignore[arg-type]
    assert snapshot.outside == (place,)
    assert (snapshot.path / place).resolve() == target.resolve(), "what the link says is kept"
    assert holds_secret(store.repository.root) == []
    (warning,) = warnings_about([snapshot], 14)
    assert f"contains a link that leads out of it: {place};" in warning
    assert "what they lead to is in no backup" in warning
    assert store.snapshot().outside == (place,), "as long as it is there"
    (store.live / place).unlink()
    assert store.snapshot().outside == ()
    roots.require_unchanged()


def test_what_is_known_of_links_is_read_from_the_metadata(store: SampleStore) -> None:
    (store.live / DAY / "b\udcff.bin").symlink_to("/etc/hostname")
    snapshot = store.snapshot()
    (read,) = read_catalogue(Repository(store.repository.root.parent)).snapshots
    assert read.outside == snapshot.outside == (f"{DAY}/b\udcff.bin",)
    assert replace(read, days={}, loose={}) == replace(snapshot, days={}, loose={})


def test_links_within_the_store_are_kept_and_not_named(store: SampleStore) -> None:
    (store.live / DAY / "3/4/same-folder.bin").symlink_to("a.bin")
    (store.live / DAY / "3/4/other-day.bin").symlink_to("../../../../../2023/1/2/3/4/b.bin")
    (store.live / "loose.bin").symlink_to(f"{DAY}/3/4/a.bin")
    first = store.snapshot()
    assert first.outside == () and warnings_about([first], 14) == []
    assert store.snapshot("checksum").new_files == 0
    assert (first.path / DAY / "3/4/same-folder.bin").readlink() == Path("a.bin")
    assert (first.path / DAY / "3/4/same-folder.bin").read_text() == "a"


@pytest.mark.parametrize(
    ("text", "link", "outside"),
    [
        ("b", "2022/1/2/a", False),
        ("../../../x", "2022/1/2/a", False),
        ("../../../../x", "2022/1/2/a", True),
        ("..", "a", True),
        ("../x/../../y", "2022/a", True),
        ("/etc/passwd", "a", True),
        ("...", "a", False),
    ],
)
def test_a_link_leads_out_of_its_store_by_its_text_alone(text: str, link: str, outside: bool) -> None:
    assert leads_out(text, link) is outside


@as_root
@pytest.mark.parametrize("place", ["2022", "2022/1", DAY])
@pytest.mark.parametrize("owner_of_top", ["nobody", "root"])
def test_a_volume_behind_a_link_of_alfrescos_account_is_copied(
    store: SampleStore, place: str, owner_of_top: str
) -> None:
    """Its top may be root's, as that of a file system that was mounted for the account."""
    disk = store.root / "disk"
    (store.live / place).rename(disk)
    planted(store.live / place, disk, ALFRESCO)
    os.chown(disk, other_account(owner_of_top).uid, other_account(owner_of_top).gid)
    first = store.snapshot()
    assert content(first.path) == content(store.live)
    assert (first.outside, first.new_files) == ((), 2)
    for mode in ("quick", "full", "checksum"):
        assert store.snapshot(mode).new_files == 0  # type: ignore[arg-type]
    given(store.write(f"{DAY}/3/4/new.bin", "new", when=None), ALFRESCO)
    last = store.snapshot()
    assert last.new_files == 1
    assert content(last.path) == content(store.live)
    kept = last.path / DAY / "3/4/a.bin"
    assert (kept.stat().st_ino, kept.owner()) == ((first.path / DAY / "3/4/a.bin").stat().st_ino, "nobody")


@as_root
@pytest.mark.parametrize("place", ["2022", "2022/1", DAY])
def test_what_is_behind_such_a_link_is_read_with_the_rights_of_that_account(
    store: SampleStore, place: str
) -> None:
    """PostgreSQL's files in a folder that Alfresco's account owns are not Alfresco's to have."""
    disk = store.root / "disk"
    (store.live / place).rename(disk)
    planted(store.live / place, disk, ALFRESCO)
    closed = store.write(f"{DAY}/3/4/closed/secret", "only root may read this\n")
    closed.parent.chmod(0o700)
    with pytest.raises((ToolFailed, BackupUnsound), match="Permission denied"):
        store.snapshot()
    assert holds_secret(store.repository.root) == []


@as_root
def test_a_volume_of_root_with_something_that_is_not_the_accounts_is_none(store: SampleStore) -> None:
    disk = store.root / "disk"
    disk.mkdir()
    (disk / "1").mkdir()
    given(disk / "1", ALFRESCO)
    (disk / "2").mkdir(mode=0o700)
    planted(store.live / "2031", disk, ALFRESCO)
    assert store.snapshot().outside == ("2031",)
    os.chown(store.live / "2031", 0, 0, follow_symlinks=False)
    snapshot = store.snapshot()
    assert snapshot.outside == () and content(snapshot.path) == content(store.live)


@as_root
def test_a_store_that_is_reached_by_a_link_of_another_account_is_read_where_that_account_owns_it(
    store: SampleStore, roots: RootsOwn
) -> None:
    link = planted(store.root / "link", store.live, ALFRESCO)
    snapshot = take_snapshot(replace(store.request(), source=link))
    assert content(snapshot.path) == content(store.live)
    planted(link, roots.folder, ALFRESCO)
    with pytest.raises(BackupUnsound, match="root does not follow it") as refusal:
        take_snapshot(replace(store.request(), source=link))
    assert refusal.value.hint == f"chown -h root {link}"
    assert holds_secret(store.repository.root) == []


@as_root
def test_the_owner_of_stored_files_cannot_reach_them(store: SampleStore) -> None:
    """It could exchange them, and put links in their place."""
    store.repository.root.mkdir(parents=True)
    store.repository.root.chmod(0o755)
    snapshot = store.snapshot()
    assert (snapshot.path / DAY / "3/4/a.bin").owner() == "nobody"
    for path in (snapshot.path, store.repository.day_trees(snapshot.stamp), store.repository.days):
        assert run_as(ALFRESCO, "ls", path).returncode == 2
