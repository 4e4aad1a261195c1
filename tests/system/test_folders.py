"""Root in folders that other accounts can change: nothing outside them is ever touched."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alfresco_backup.system import folders
from alfresco_backup.system.accounts import acting_as, is_acting
from alfresco_backup.system.files import (
    fsync_directory,
    fsync_file,
    publish,
    read_json,
    write_json,
    write_text,
)
from tests.support.planting import SECRET, RootsOwn, as_root, given, other_account, planted, run_as

Work = Callable[[Path], object]

WRITING: dict[str, Work] = {
    "append": lambda path: folders.appending(path).close(),
    "create": lambda path: folders.creating(path).close(),
    "make a folder": lambda path: folders.make_folder(path, owner=other_account()),
    "make a folder unless it is there": lambda path: folders.make_folder(path, exist_ok=True),
    "make a link": lambda path: folders.symlink(path, "elsewhere"),
    "set access": lambda path: folders.set_access(path, 65534, 65534, 0o777),
    "open to change": lambda path: os.close(folders.open_file(path, os.O_RDWR)),
    "flush": fsync_directory,
}
"""What fails where another account's link has the name."""
BESIDE: dict[str, Work] = {
    "write a text": lambda path: write_text(path, "text"),
    "write metadata": lambda path: write_json(path, {}, 0o600),
    "remove": folders.unlink,
    "remove a tree": folders.remove_tree,
    "rename": lambda path: folders.rename(path, path.with_name("renamed")),
    "set a time": lambda path: folders.set_time(path, 0),
}
"""What changes the link itself, or replaces it."""
NOT_FOLLOWED = "a link of the account nobody is on this path; root does not follow it"


@pytest.fixture
def roots(reachable_path: Path) -> RootsOwn:
    return RootsOwn(reachable_path / "roots")


@pytest.fixture
def theirs(reachable_path: Path, roots: RootsOwn) -> Path:
    """A folder of another account's."""
    (reachable_path / "theirs").mkdir()
    return given(reachable_path / "theirs", other_account())


@as_root
@pytest.mark.parametrize("work", WRITING.values(), ids=WRITING)
@pytest.mark.parametrize("leads_to", ["file", "folder", "missing"])
def test_a_link_of_another_account_is_not_followed(
    work: Work, leads_to: str, theirs: Path, roots: RootsOwn
) -> None:
    target = {"file": roots.file, "folder": roots.folder, "missing": roots.folder / "new"}[leads_to]
    link = planted(theirs / "name", target, other_account())
    with pytest.raises(OSError, match="name") as error:
        work(link)
    assert error.value.filename == str(link)
    roots.require_unchanged()


@as_root
@pytest.mark.parametrize("work", BESIDE.values(), ids=BESIDE)
def test_a_link_of_another_account_is_what_is_changed_not_what_it_leads_to(
    work: Work, theirs: Path, roots: RootsOwn
) -> None:
    planted(theirs / "name.partial", roots.file, other_account())
    work(planted(theirs / "name", roots.file, other_account()))
    roots.require_unchanged()


@as_root
@pytest.mark.parametrize("work", [*WRITING.values(), *BESIDE.values()], ids=[*WRITING, *BESIDE])
def test_a_link_of_another_account_on_the_way_is_not_followed(
    work: Work, theirs: Path, roots: RootsOwn
) -> None:
    planted(theirs / "way", roots.folder, other_account())
    with pytest.raises(
        OSError, match="a link of the account nobody is on this path; root does not follow it"
    ):
        work(theirs / "way" / "secret")
    roots.require_unchanged()


@as_root
def test_what_root_reads_is_no_link_of_another_account(theirs: Path, roots: RootsOwn) -> None:
    link = planted(theirs / "name.json", roots.file, other_account())
    for read in (folders.reading, read_json, fsync_file):
        with pytest.raises(OSError, match="a link of the account nobody"):
            read(link)


@as_root
def test_a_hard_link_to_a_file_of_roots_is_not_written_to(theirs: Path, roots: RootsOwn) -> None:
    name = theirs / "name"
    name.hardlink_to(roots.file)
    before = RootsOwn.state(roots)
    for work in (WRITING["append"], WRITING["set access"], WRITING["open to change"]):
        with pytest.raises(OSError, match="hard link"):
            work(name)
    assert RootsOwn.state(roots) == before


@as_root
def test_a_pipe_under_the_name_of_a_file_keeps_nobody_waiting(theirs: Path) -> None:
    os.mkfifo(theirs / "pipe")
    for work in (folders.reading, WRITING["append"]):
        with pytest.raises(OSError, match="pipe"):
            work(theirs / "pipe")


@as_root
def test_links_that_root_made_are_followed(reachable_path: Path) -> None:
    (reachable_path / "real").mkdir()
    (reachable_path / "one").symlink_to("real/../real")
    (reachable_path / "two").symlink_to(reachable_path / "one")
    write_json(reachable_path / "two" / "a.json", {"b": 1})
    assert read_json(reachable_path / "real" / "a.json")["b"] == 1
    publish(reachable_path / "two" / "a.json", reachable_path / "one" / "c.json")
    folders.make_folder(reachable_path / "two" / "new", 0o750)
    assert {path.name for path in (reachable_path / "real").iterdir()} == {"c.json", "new"}


def test_a_circle_of_links_ends(reachable_path: Path) -> None:
    (reachable_path / "a").symlink_to("b")
    (reachable_path / "b").symlink_to("a")
    with (
        pytest.raises(OSError, match="Too many levels of symbolic links"),
        folders.open_folder(reachable_path / "a"),
    ):
        pass


def test_a_file_where_a_folder_should_be_and_what_is_missing_are_named_whole(reachable_path: Path) -> None:
    (reachable_path / "file").touch()
    with pytest.raises(NotADirectoryError) as wrong:
        folders.make_folder(reachable_path / "file" / "new")
    with pytest.raises(FileNotFoundError) as missing:
        folders.creating(reachable_path / "no" / "file")
    assert (wrong.value.filename, missing.value.filename) == (
        f"{reachable_path}/file/new",
        f"{reachable_path}/no/file",
    )


@as_root
@pytest.mark.parametrize("above", ["root", "the same account", "another account"])
def test_a_folder_that_is_made_for_an_account_belongs_to_it(above: str, reachable_path: Path) -> None:
    owner = other_account("postgres")
    if above != "root":
        given(reachable_path, owner if above == "the same account" else other_account())
    folders.make_folder(reachable_path / "new", 0o710, owner)
    status = (reachable_path / "new").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (owner.uid, owner.gid, 0o710)


@as_root
def test_a_folder_that_is_taken_back_can_be_changed_by_root_alone(reachable_path: Path) -> None:
    account = other_account()
    folder = reachable_path / "handed"
    folders.make_folder(folder, 0o700, account)
    assert run_as(account, "touch", folder / "base.tar.zst").returncode == 0
    folders.take_back(folder, account)
    assert run_as(account, "ln", "-s", "/root", folder / "pg_wal.tar.zst").returncode == 1
    assert [path.owner() for path in (folder, folder / "base.tar.zst")] == ["root", "root"]


@as_root
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder", "file of a third account"])
def test_what_does_not_belong_in_a_folder_that_is_taken_back_is_named(
    kind: str, theirs: Path, roots: RootsOwn
) -> None:
    (theirs / "base.tar").touch()
    thing = theirs / "pg_wal.tar.zst"
    make: dict[str, Callable[[], object]] = {
        "link": lambda: planted(thing, roots.file, other_account()),
        "hard link": lambda: thing.hardlink_to(theirs / "base.tar"),
        "pipe": lambda: os.mkfifo(thing),
        "folder": thing.mkdir,
        "file of a third account": lambda: (thing.touch(), os.chown(thing, 4321, 4321)),
    }
    make[kind]()
    with pytest.raises(OSError, match=r"(pg_wal.tar.zst|base.tar)'$"):
        folders.take_back(theirs, other_account())
    roots.require_unchanged()


@as_root
def test_acting_as_an_account_means_with_its_rights_alone(theirs: Path, roots: RootsOwn) -> None:
    account = other_account()
    roots.folder.chmod(0o755)
    roots.file.chmod(0o640)  # root's group may read it, and root is in it
    planted(theirs / "link", roots.file, account)
    with ThreadPoolExecutor(1) as beside:
        beside.submit(is_acting).result()  # its thread is there before the block
        with acting_as(account):
            assert is_acting()
            (theirs / "made").touch()
            require_no_more_than_anybody(theirs, roots)
            assert beside.submit(roots.file.read_text).result() == SECRET
    assert not is_acting()
    assert (theirs / "made").owner() == "nobody"


def require_no_more_than_anybody(theirs: Path, roots: RootsOwn) -> None:
    """Fail unless what only root may do is forbidden."""
    for forbidden in (
        (theirs / "link").read_text,
        lambda: (theirs / "link").write_text("no"),
        (roots.folder / "new").touch,
        lambda: os.chown(theirs / "made", 0, 0),
    ):
        with pytest.raises(PermissionError):
            forbidden()


@as_root
def test_rights_and_groups_of_root_come_back_after_an_error(theirs: Path, reachable_path: Path) -> None:
    groups = os.getgroups()
    with pytest.raises(RuntimeError), acting_as(other_account()):
        with acting_as(other_account("postgres")), pytest.raises(PermissionError):
            (theirs / "made").touch()
        (theirs / "made").touch()
        raise RuntimeError
    assert os.getgroups() == groups
    (reachable_path / "roots_too").touch()
    assert (reachable_path / "roots_too").owner() == "root"


@as_root
def test_a_held_folder_leads_root_nowhere_when_its_name_becomes_a_link(theirs: Path, roots: RootsOwn) -> None:
    (theirs / "folder").mkdir()
    for name in ("before", "secret"):
        (theirs / "folder" / name).write_text(name)
    held = folders.HeldFolders()
    try:
        assert read(held.open_file(theirs / "folder/before")) == b"before"
        (theirs / "folder").rename(theirs / "moved")
        planted(theirs / "folder", roots.folder, other_account())
        assert read(held.open_file(theirs / "folder/secret")) == b"secret"
        planted(theirs / "moved/link", roots.file, other_account())
        with pytest.raises(OSError, match="Too many levels") as error:
            held.open_file(theirs / "folder/link")
        assert error.value.filename == str(theirs / "folder/link")
    finally:
        held.close()
    with pytest.raises(OSError, match=NOT_FOLLOWED):
        held.open_file(theirs / "folder/secret")


def read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_of_many_folders_so_many_are_held_and_no_file_is_opened_in_another(tmp_path: Path) -> None:
    """By threads at once, which let go of the folders of one another."""
    files = [tmp_path / f"{number}/file" for number in range(folders.MOST_HELD + 50)]
    for file in files:
        file.parent.mkdir()
        file.write_text(str(file))
    held = folders.HeldFolders()
    before = open_descriptors()
    try:
        with ThreadPoolExecutor(4) as pool:
            found = [*pool.map(lambda file: read(held.open_file(file)), files * 8)]
        assert found == [str(file).encode() for file in files] * 8
        assert before < open_descriptors() <= before + folders.MOST_HELD
    finally:
        held.close()
    assert open_descriptors() == before


@as_root
def test_names_that_are_exchanged_all_the_time_lead_root_nowhere(theirs: Path, roots: RootsOwn) -> None:
    """The other account exchanges a folder for a link to root's as fast as it can."""
    account, folder, other = other_account(), theirs / "folder", theirs / "other"
    folder.mkdir()
    given(theirs, account)
    planted(theirs / "link", roots.folder, account)
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            folder.rename(other)
            (theirs / "link").rename(folder)
            folder.rename(theirs / "link")
            other.rename(folder)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        refused = 0
        for number in range(3000):
            try:
                write_text(folder / f"{number}", "text")
                folders.make_folder(folder / f"{number}.d", owner=account)
            except OSError:
                refused += 1
    finally:
        stop.set()
        thread.join()
    assert 0 < refused < 3000
    roots.require_unchanged()
