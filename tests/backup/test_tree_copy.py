"""The configuration of a set: what links lead to comes along as far as their makers may read it."""

import os
from pathlib import Path

import pytest

from alfresco_backup.backup.tree_copy import TreeCopy
from alfresco_backup.errors import BackupUnsound, ToolFailed
from tests.support.planting import RootsOwn, as_root, given, holds_secret, other_account, planted

ALFRESCO = other_account()


class Part:
    """A keystore of Alfresco's account, and where it is copied to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source, self.elsewhere, self.target = root / "keystore", root / "elsewhere", root / "copy"
        for folder in (self.source / "sub", self.elsewhere / "below"):
            folder.mkdir(parents=True)
        (self.source / "keystore").write_text("keys")
        (self.source / "inside").symlink_to("keystore")
        (self.elsewhere / "file").write_text("linked file")
        (self.elsewhere / "below/file").write_text("linked below")
        if os.geteuid() == 0:
            given(self.source, ALFRESCO)
            given(self.elsewhere, ALFRESCO)

    def copy(self, earlier: Path | None = None) -> TreeCopy:
        made = TreeCopy(self.root / "log", 60, "a hint")
        made.copy(self.source, self.target, earlier)
        return made


@pytest.fixture
def part(reachable_path: Path) -> Part:
    return Part(reachable_path)


@pytest.fixture
def roots(reachable_path: Path) -> RootsOwn:
    return RootsOwn(reachable_path / "roots")


def test_what_links_lead_to_out_of_the_folder_is_copied_in_their_place(part: Part) -> None:
    (part.source / "file").symlink_to("../elsewhere/file")
    (part.source / "sub/folder").symlink_to(part.elsewhere)
    (part.elsewhere / "again").symlink_to(part.root / "further")
    (part.root / "further").write_text("further")
    copied = part.copy()
    assert copied.unread == []
    assert (part.target / "inside").readlink() == Path("keystore")
    assert not any(path.is_symlink() for path in part.target.rglob("*") if path.name != "inside")
    texts = {str(path.relative_to(part.target)): path.read_text() for path in part.target.rglob("*file")}
    assert texts == {
        "file": "linked file",
        "sub/folder/file": "linked file",
        "sub/folder/below/file": "linked below",
    }
    assert (part.target / "sub/folder/again").read_text() == "further"
    first = (part.target / "keystore").stat().st_ino, (part.target / "sub/folder/file").stat().st_ino
    earlier = part.target.rename(part.root / "earlier")
    part.copy(earlier)
    assert first == (
        (part.target / "keystore").stat().st_ino,
        (part.target / "sub/folder/file").stat().st_ino,
    )


@as_root
def test_links_of_the_folders_account_are_read_with_its_rights(part: Part) -> None:
    planted(part.source / "file", part.elsewhere / "file", ALFRESCO)
    planted(part.source / "folder", part.elsewhere, ALFRESCO)
    assert part.copy().unread == []
    assert (part.target / "file").read_text() == "linked file"
    assert (part.target / "folder/below/file").owner() == "nobody"


@as_root
@pytest.mark.parametrize("to", ["file", "folder"])
@pytest.mark.parametrize("by", ["nobody", "root"])
def test_what_the_maker_of_a_link_may_not_read_stays_a_link_and_is_named(
    part: Part, roots: RootsOwn, to: str, by: str
) -> None:
    """A link of root's leads to a folder in which Alfresco's account has put one: not followed either."""
    target = roots.file if to == "file" else roots.folder
    place = part.source / "bad" if by == "nobody" else part.elsewhere / "bad"
    planted(place, target, ALFRESCO)
    if by == "root":
        (part.source / "folder").symlink_to(part.elsewhere)
    copied = part.copy()
    assert copied.unread == [place]
    assert holds_secret(part.target) == []
    roots.require_unchanged()


@as_root
def test_a_folder_of_roots_that_an_account_may_list_but_not_read_whole_ends_the_copy(
    part: Part, roots: RootsOwn
) -> None:
    roots.folder.chmod(0o755)
    planted(part.source / "bad", roots.folder, ALFRESCO)
    with pytest.raises(ToolFailed, match="Permission denied"):
        part.copy()
    assert holds_secret(part.target) == []


@as_root
def test_the_folder_itself_may_be_reached_by_a_link_of_its_account_and_is_read_as_that(
    part: Part, roots: RootsOwn
) -> None:
    real = part.source.rename(part.root / "real")
    planted(part.source, real, ALFRESCO)
    part.copy()
    assert (part.target / "keystore").read_text() == "keys"
    planted(part.source, roots.folder, ALFRESCO)
    with pytest.raises(ToolFailed, match="Permission denied"):
        part.copy()
    planted(part.source, part.root / "second", ALFRESCO)
    planted(part.root / "second", real, other_account("postgres"))
    with pytest.raises(BackupUnsound, match="links of several accounts lead to") as refusal:
        part.copy()
    assert refusal.value.hint == f"chown -h root {part.source}"
    assert holds_secret(part.target) == []


def test_a_link_that_leads_nowhere_ends_the_copy(part: Part) -> None:
    (part.source / "nowhere").symlink_to("/proc/1/mem-that-is-not-there")
    with pytest.raises(ToolFailed, match="rsync ended with exit code 23") as failure:
        part.copy()
    assert failure.value.hint == "a hint"


def test_a_circle_of_folders_ends_the_copy(part: Part) -> None:
    (part.source / "folder").symlink_to(part.elsewhere)
    (part.elsewhere / "again").symlink_to(part.elsewhere)
    with pytest.raises(ToolFailed, match="too many links"):
        part.copy()
