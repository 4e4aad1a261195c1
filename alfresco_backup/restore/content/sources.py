"""Where the files of a source really are: behind the links of a snapshot, and those to volumes.

A snapshot is a tree of links to versions of days. They are resolved here, one by one, and no other link is
followed: neither by the comparison nor by rsync, which would copy with root's rights what it leads to, or
(3.5) refuse it where another account made it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.contentstore.links import linked_version
from alfresco_backup.contentstore.scan import DAY_DEPTH
from alfresco_backup.contentstore.volumes import volume_behind
from alfresco_backup.repository.layout import DAYS
from alfresco_backup.system.accounts import Account, acting_as


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory to copy from. What is at `prefix` in the store is in its folder `head`, and so below.

    `account`: with whose rights it is read, None: this process's.
    """

    base: str
    head: str = ""
    prefix: str = ""
    account: Account | None = None

    def inner(self, path: str) -> str:
        """Where a path of the store at or below `prefix` is in `base`; empty for `base` itself."""
        below = path[len(self.prefix) :].lstrip("/") if self.prefix else path
        return "/".join(filter(None, (self.head, below)))

    def real(self, path: str) -> str:
        """The same as an absolute path."""
        return "/".join(filter(None, (self.base, self.inner(path))))

    def entry(self, path: str, place: str) -> str:
        """A path as an entry of rsync's --files-from, so that it is copied relative to `place` in the store.

        rsync leaves out what comes before `/./`.
        """
        rest = path[len(place) :].lstrip("/") or "."
        above = self.inner(place)
        return f"{above}/./{rest}" if above else rest


@dataclass(frozen=True)
class Units:
    """The day trees of a source, and what is above their level, by their paths in the store.

    `folders` are those that hold them. `lost`: links of a snapshot whose version of a day is not there.
    """

    trees: dict[str, Tree]
    folders: dict[str, Tree]
    lost: tuple[str, ...]

    def of(self, path: str) -> Tree | None:
        """The tree that a path of the store is copied from; None where the source does not have it."""
        day = "/".join(path.split("/")[:DAY_DEPTH])
        return self.folders.get(path) or self.trees.get(path) or self.trees.get(day)


def find_units(root: Path) -> Units:
    """Look through a source: a snapshot, a predecessor's whole tree, or a store that was set aside."""
    walk = _Walk(f"{root.parent}/{DAYS}")
    trees = dict(walk.units(Tree(os.fspath(root)), "", 1))
    return Units(trees, walk.folders, tuple(walk.lost))


class _Walk:
    def __init__(self, days: str) -> None:
        self._days = days
        self.folders: dict[str, Tree] = {}
        self.lost: list[str] = []

    def units(self, tree: Tree, folder: str, depth: int) -> Iterator[tuple[str, Tree]]:
        """The units below a folder; fills `folders` and `lost` on the way."""
        self.folders[folder] = tree
        for name, text, is_folder in _entries(tree, folder):
            path = f"{folder}/{name}" if folder else name
            inside, descend = tree, is_folder
            if text is not None:
                version = linked_version(text, path)
                volume = None if version else volume_behind(tree.real(path))
                if version is not None:
                    inside = Tree(self._days, version)
                    if not os.path.lexists(inside.real(path)):
                        self.lost.append(tree.real(path))
                        continue
                elif volume is not None:
                    inside = Tree(volume.real, prefix=path, account=volume.account or tree.account)
                    descend = True
            if descend and depth < DAY_DEPTH:
                yield from self.units(inside, path, depth + 1)
            else:
                yield path, inside


def _entries(tree: Tree, folder: str) -> list[tuple[str, str | None, bool]]:
    """Name, text of a link, and whether it is a folder, of each entry of a folder."""
    with acting_as(tree.account), os.scandir(tree.real(folder)) as entries:
        return [
            (
                entry.name,
                os.readlink(entry.path) if entry.is_symlink() else None,  # noqa: PTH115
                entry.is_dir(follow_symlinks=False),
            )
            for entry in entries
        ]
