"""What `configure` changes may be in folders of other accounts: their links lead it to nothing of root's."""

from pathlib import Path

import pytest

from alfresco_backup.configure.changes import FolderChange
from alfresco_backup.configure.steps import (
    make_folder,
    overwrite,
    partial_of_program,
    replace_program,
    set_access,
)
from tests.support.planting import RootsOwn, as_root, given, other_account, planted

pytestmark = as_root
POSTGRES = other_account()
ACCESS = (POSTGRES.uid, POSTGRES.gid, 0o755)


@pytest.fixture
def conf(reachable_path: Path) -> Path:
    """A configuration folder of PostgreSQL's account, with a file."""
    folder = reachable_path / "conf"
    folder.mkdir()
    (folder / "pg_hba.conf").write_text("local all all peer\n")
    return given(folder, POSTGRES)


@pytest.fixture
def roots(reachable_path: Path) -> RootsOwn:
    return RootsOwn(reachable_path / "roots")


def test_a_file_is_overwritten_in_place_but_not_through_a_link_of_its_account(
    conf: Path, roots: RootsOwn
) -> None:
    file = conf / "pg_hba.conf"
    before = file.stat()
    overwrite(file, b"local all all trust\n")
    after = file.stat()
    assert file.read_text() == "local all all trust\n"
    assert (after.st_ino, after.st_uid, after.st_mode) == (before.st_ino, before.st_uid, before.st_mode)
    (conf / "link").symlink_to(file)
    overwrite(conf / "link", b"local all all peer\n")
    assert file.read_text() == "local all all peer\n", "a link of root's is followed"
    planted(file, roots.file, POSTGRES)
    with pytest.raises(OSError, match="a link of the account nobody is on this path; root does not follow"):
        overwrite(file, b"local all all trust\n")
    file.unlink()
    file.hardlink_to(roots.file)
    before_link = roots.state()
    with pytest.raises(OSError, match="it is a hard link"):
        overwrite(file, b"local all all trust\n")
    assert roots.state() == before_link


def test_owner_and_mode_are_not_given_to_what_a_link_leads_to(conf: Path, roots: RootsOwn) -> None:
    for target in (roots.file, roots.folder):
        link = planted(conf / "pg_wal", target, POSTGRES)
        with pytest.raises(OSError, match="a link of the account nobody is on this path"):
            set_access(link, ACCESS)
    roots.require_unchanged()


@pytest.mark.parametrize("name", ["archive-wal", ".archive-wal.partial"])
def test_a_program_replaces_links_in_its_place(conf: Path, roots: RootsOwn, name: str) -> None:
    program = conf / "archive-wal"
    planted(conf / name, roots.file, POSTGRES)
    replace_program(program, b"#!/bin/sh\n", (0, 0, 0o755))
    assert (program.read_bytes(), program.owner(), program.is_symlink()) == (b"#!/bin/sh\n", "root", False)
    assert program.stat().st_mode & 0o777 == 0o755
    assert not partial_of_program(program).exists()
    roots.require_unchanged()


def test_a_folder_is_not_made_where_a_link_leads(conf: Path, roots: RootsOwn) -> None:
    above = planted(conf / "above", roots.folder, POSTGRES)
    with pytest.raises(OSError, match="a link of the account nobody is on this path"):
        make_folder(FolderChange("a folder", "", "made", "a test", str(above / "pg_wal"), *ACCESS))
    roots.require_unchanged()
