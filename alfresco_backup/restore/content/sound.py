"""Whether stored files are still what was copied, before a restore puts them anywhere; else where one is.

A disk may have changed a stored file since. What differs from its recorded checksum replaces nothing and
comes back as nothing: another stored copy with that checksum does, or the store keeps what it has.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from alfresco_backup.contentstore.checksums import ALGORITHMS, Digests, digest_of, read_list
from alfresco_backup.contentstore.scan import DAY_DEPTH
from alfresco_backup.repository.layout import DAYS, SNAPSHOT_PREFIX, StoreRepository
from alfresco_backup.restore.content.sources import Tree
from alfresco_backup.system.folders import open_file
from alfresco_backup.times import LEGACY_PATTERN, STAMP_PATTERN

Remedy = Literal["another stored copy was used", "the store's file was kept", "not restored"]
Has = Callable[[str, bytes], bool]
LISTS_KEPT = 256


@dataclass(frozen=True)
class Damaged:
    """A stored file that differs from its recorded checksum, and what was done instead.

    `tree` is where another copy is; None where there is none, or none is needed.
    """

    path: str
    place: str
    recorded: bytes
    remedy: Remedy
    tree: Tree | None = None

    @property
    def left(self) -> bool:
        """Whether the restore had to do without the file."""
        return self.remedy == "not restored"

    def settled(self, store: Path) -> "Damaged":
        """The same once all is copied: a new store may have the file from the one that was set aside."""
        there = self.left and _is(f"{store}/{self.path}", self.recorded)
        return replace(self, remedy="the store's file was kept") if there else self

    @property
    def line(self) -> str:
        """A line of the list for people."""
        return f"{self.place}: {self.remedy}\n"


class StoredFiles:
    """The files of a repository and their recorded checksums. Lists are read when first needed.

    `found` are the damaged files so far, `unread` the lists that cannot be read: of the files in these
    nothing is proven, and they are used.
    """

    def __init__(self, parallel: int) -> None:
        self.found: list[Damaged] = []
        self.unread: set[Path] = set()
        self._parallel = parallel
        self._lists: dict[Path, Digests] = {}

    def recorded(self, tree: Tree, path: str) -> bytes | None:
        """The checksum recorded for a file; None for none, or where the list cannot be read."""
        file = _list_of(tree, path)
        if file is None:
            return None
        if file not in self._lists:
            if len(self._lists) >= LISTS_KEPT:
                self._lists.clear()
            self._lists[file] = {}
            try:
                self._lists[file] = read_list(file) or {}
            except (OSError, ValueError):
                self.unread.add(file)
        return self._lists[file].get(os.fsencode(path))

    def is_sound(self, tree: Tree, path: str) -> bool:
        """Whether a file is as recorded; what has no checksum is taken for it."""
        recorded = self.recorded(tree, path)
        return recorded is None or _is(tree.real(path), recorded)

    def damaged(self, files: list[tuple[str, Tree]], has: Has) -> list[Damaged]:
        """Those of the files, by path in the store and tree, that must not be used, read side by side.

        `has`: whether the store itself has a file with that checksum.
        """
        known = [(path, tree, self.recorded(tree, path)) for path, tree in files]
        with ThreadPoolExecutor(self._parallel) as pool:
            found = pool.map(lambda file: file[2] is None or _is(file[1].real(file[0]), file[2]), known)
            bad = [file for file, sound in zip(known, found, strict=True) if not sound]
        return [self.judge(path, tree, recorded, has) for path, tree, recorded in bad if recorded]

    def judge(self, path: str, tree: Tree, recorded: bytes, has: Has, aside: Path | None = None) -> Damaged:
        """What takes the place of a damaged file: what the store has, if it is right, or another copy.

        `aside`: the store was set aside there, so that its file has to be copied.
        """
        self.found.append(_judged(path, tree, recorded, has, aside))
        return self.found[-1]


def _judged(path: str, tree: Tree, recorded: bytes, has: Has, aside: Path | None) -> Damaged:
    place = tree.real(path)
    if has(path, recorded):
        kept = Tree(os.fspath(aside)) if aside else None
        return Damaged(path, place, recorded, "the store's file was kept", kept)
    for other in _copies(tree, path):
        if other.real(path) != place and _is(other.real(path), recorded):
            return Damaged(path, place, recorded, "another stored copy was used", other)
    return Damaged(path, place, recorded, "not restored")


def _is(file: str, recorded: bytes) -> bool:
    try:
        return digest_of(os.fsencode(file), len(recorded)) == recorded
    except OSError:
        return False


def has_content(file: Path, recorded: bytes, *, follow: bool = False) -> bool:
    """Whether a file in a folder of another account has a checksum. `follow`: see parent_of."""
    try:
        with os.fdopen(open_file(file, os.O_RDONLY, follow=follow), "rb") as stream:
            return hashlib.file_digest(stream, ALGORITHMS[len(recorded)]).digest() == recorded
    except OSError:
        return False


def _list_of(tree: Tree, path: str) -> Path | None:
    """The list of checksums of the unit that a path is in; None where trees of that kind have none."""
    base = Path(tree.base)
    version = tree.head or base.name.removeprefix(SNAPSHOT_PREFIX)
    if tree.prefix or not (STAMP_PATTERN.fullmatch(version) or LEGACY_PATTERN.fullmatch(version)):
        return None
    unit = "/".join(path.split("/")[:DAY_DEPTH])
    return StoreRepository(base.parent).checksums(version) / unit


def _copies(tree: Tree, path: str) -> Iterator[Tree]:
    """All places in the repository where a copy of a file may be: versions of its day, newest first."""
    root = Path(tree.base).parent
    with suppress(OSError):
        for version in sorted((root / DAYS).iterdir(), reverse=True):
            if STAMP_PATTERN.fullmatch(version.name):
                yield Tree(os.fspath(root / DAYS), version.name)
        for snapshot in sorted(root.glob(f"{SNAPSHOT_PREFIX}*"), reverse=True):
            if LEGACY_PATTERN.fullmatch(snapshot.name.removeprefix(SNAPSHOT_PREFIX)):
                yield Tree(os.fspath(snapshot))
