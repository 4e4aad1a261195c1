"""Copies contents out of a live store, a snapshot or the off-site copy, compared with what was recorded.

A live store belongs to another account: its files are opened without following a link, or with the rights of
that account. A snapshot's day is a link to a version of it, which is resolved here. Acts: reads them only.
"""

import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Lock

from alfresco_backup.contentstore.check import SCHEME, WITHOUT_FILE, relative_path
from alfresco_backup.contentstore.checksums import ALGORITHMS
from alfresco_backup.contentstore.links import linked_version
from alfresco_backup.contentstore.scan import DAY_DEPTH
from alfresco_backup.documents.content import NOT_ASKED, FarFile, OffSite, Place, Shelves
from alfresco_backup.documents.export_records import Written
from alfresco_backup.documents.nodes import ContentFile
from alfresco_backup.errors import BackupError
from alfresco_backup.repository.layout import DAYS
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.restore.content.sound import StoredFiles
from alfresco_backup.restore.content.sources import Tree
from alfresco_backup.system.accounts import acting_as, owner_of
from alfresco_backup.system.folders import HeldFolders

BLOCK = 256 << 10
"""It stays in the cache of the processor from reading to writing; with less, threads wait more often."""
DAYS_KEPT = 256
SHA1, MD5 = 20, 16


class SourceError(Exception):
    """A copy of a content cannot be taken; the next place is tried. `unread`: what it has is not known."""

    def __init__(self, why: str, *, unread: bool = False) -> None:
        super().__init__(why)
        self.unread = unread

    @classmethod
    def of(cls, error: OSError, words: str = "") -> "SourceError":
        """By what the system said: where a file is gone, that is known."""
        return cls(words or error.strerror or str(error), unread=not isinstance(error, FileNotFoundError))


@dataclass(frozen=True)
class _Copy:
    """A stored copy, and its recorded checksum if there is one."""

    snapshot: Snapshot
    tree: Tree
    recorded: bytes | None


class Contents:
    """The contents of a host by their URLs. `unread`: lists of checksums that cannot be read.

    `abandoned`, which another thread may set: what is being copied ends with CancelledError.
    """

    def __init__(
        self, shelves: Shelves, off_site: OffSite | None = None, *, leaves_off_site: bool = False
    ) -> None:
        self._shelves = shelves
        self._off_site = off_site
        self._leaves_off_site = leaves_off_site
        self._stored = StoredFiles(1)
        self._trees: dict[str, list[tuple[Snapshot, Tree]]] = {}
        self._folders = HeldFolders()
        self._looking_up = Lock()
        self.abandoned = False

    @property
    def unread(self) -> set[Path]:
        return self._stored.unread

    def is_in_reach(self, content: ContentFile | None, *, snapshots: bool) -> bool:
        """Whether a content can be written now, or has no file anywhere.

        Without the snapshots, a live store must have it; with `leaves_off_site` any place of this host.
        """
        if content is None or not content.url.startswith(SCHEME):
            return True
        first = next(self._shelves.places(content), None)
        if snapshots:
            return first is not None or not self._leaves_off_site
        return first is not None and first.kind == "live"

    def write(self, content: ContentFile | None, target: int, file: str, *, snapshots: bool) -> Written:
        """Copy a content into an open, empty file; for `lost` that is empty again.

        Raises OSError where the target cannot be written.
        """
        if content is None:
            return Written("none")
        path = relative_path(content.url)
        if not content.url.startswith(SCHEME) or path is None:
            return _without_file(content)
        with self._looking_up:
            copies = self._copies(path)
        known = {copy.recorded for copy in copies if copy.recorded}
        notes: list[str] = []
        unread = False
        for place, source, wanted in self._sources(content, path, copies, known, snapshots=snapshots):
            try:
                size, digests = self._copy(source, place, target, content, wanted)
            except SourceError as error:
                notes.append(f"{place.words}: {error}")
                unread |= error.unread
                _empty(target)
                continue
            if len(known) > 1:
                notes.append(f"snapshots recorded {len(known)} different checksums of it")
            return Written(
                "exported", file, size, digests[SHA1].hex(), place.words, bool(wanted), tuple(notes)
            )
        if snapshots and self._off_site and self._off_site.away:
            notes.append(NOT_ASKED)
            unread = True
        looked = self._shelves.find(content)
        if looked.kind == "lost":
            notes.append(looked.words)
        return Written("lost", notes=tuple(notes), unread=unread or looked.unread)

    def _sources(
        self, content: ContentFile, path: str, copies: Sequence[_Copy], known: set[bytes], *, snapshots: bool
    ) -> Iterator[tuple[Place, str | FarFile, set[bytes]]]:
        """Where a content may be had, each file once, with the checksums one of which it must have.

        The off-site copy is asked last: it takes seconds.
        """
        tried: set[str] = set()
        for place in self._shelves.places(content):
            if place.kind == "snapshot" and not snapshots:
                return
            source, wanted = self._source(place, path, copies, known)
            if source not in tried:
                tried.add(source)
                yield place, source, wanted
        far = self._off_site.find(content) if snapshots and self._off_site else None
        if far:
            yield far.place, far, known

    def _copies(self, path: str) -> list[_Copy]:
        """The copies of a file in the snapshots, newest first."""
        day = "/".join(path.split("/")[:DAY_DEPTH])
        if day not in self._trees:
            if len(self._trees) >= DAYS_KEPT:
                self._trees.clear()
            self._trees[day] = list(_trees(self._shelves.snapshots, path))
        return [
            _Copy(snapshot, tree, self._stored.recorded(tree, path)) for snapshot, tree in self._trees[day]
        ]

    @staticmethod
    def _source(
        place: Place, path: str, copies: Sequence[_Copy], known: set[bytes]
    ) -> tuple[str, set[bytes]]:
        """The file of a place, and the checksums one of which it must have; none where none is recorded."""
        for copy in copies:
            if place.kind == "snapshot" and place.root == copy.snapshot.path:
                return copy.tree.real(path), {copy.recorded} if copy.recorded else known
        return str(place.file), known

    def _copy(
        self, source: str | FarFile, place: Place, target: int, content: ContentFile, wanted: set[bytes]
    ) -> tuple[int, dict[int, bytes]]:
        if isinstance(source, FarFile):
            self._fetch(source, target, content)
            return self._checked(target, None, content, wanted)
        try:
            descriptor = self._open(Path(source), place)
        except OSError as error:
            raise SourceError.of(error) from error
        try:
            return self._checked(descriptor, target, content, wanted)
        finally:
            os.close(descriptor)

    def _open(self, file: Path, place: Place) -> int:
        """Open a copy. A link of the store's owner is followed with that account's rights alone."""
        try:
            return self._folders.open_file(file)
        except OSError as error:
            if error.errno != errno.ELOOP or place.kind != "live" or place.root is None:
                raise
        with acting_as(owner_of(place.root)):
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no regular file")
        return descriptor

    def close(self) -> None:
        """Let go of the folders that are held open; more can be written afterwards."""
        self._folders.close()

    def _fetch(self, far: FarFile, target: int, content: ContentFile) -> None:
        """Write what the off-site copy has into the target, to be read from its beginning."""
        assert self._off_site
        try:
            self._off_site.write(far, target, self._go_on)
        except BackupError as error:
            _empty(target)
            os.posix_fallocate(target, 0, content.size or 1)  # where there is no room here, that is why
            raise SourceError(error.message, unread=True) from error
        os.lseek(target, 0, os.SEEK_SET)

    def _go_on(self) -> None:
        if self.abandoned:
            raise CancelledError

    def _checked(
        self, source: int, target: int | None, content: ContentFile, wanted: set[bytes]
    ) -> tuple[int, dict[int, bytes]]:
        """Read a copy to its end, and write it where there is a target; its size and checksums."""
        lengths = {SHA1, *(len(digest) for digest in wanted)}
        states = {length: hashlib.new(ALGORITHMS[length], usedforsecurity=False) for length in lengths}
        size, buffer = 0, memoryview(bytearray(BLOCK))
        while count := _read(source, buffer):
            self._go_on()
            block = buffer[:count]
            for state in states.values():
                state.update(block)
            if target is not None:
                _write(target, block)
            size += count
        if not content.fits(size):
            raise SourceError(f"a file of {size} bytes; {content.size} are recorded")
        digests = {length: state.digest() for length, state in states.items()}
        if wanted and not wanted & set(digests.values()):
            raise SourceError("differs from its recorded checksum")
        return size, digests


@dataclass(eq=False)
class Copying:
    """A content on its way into an open file. `by_caller`: it was copied by the one who would have waited."""

    target: int
    copy: Callable[[], Written]
    ahead: Future[Written]
    by_caller: Written | None = None


class Copier:
    """Copies contents into files that it closes, in a thread of its own and in that of the caller.

    Two threads on two processors: a second one of its own had the caller wait for its turn too often.
    """

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self._pool = ThreadPoolExecutor(1, "copying")
        self._begun: deque[Copying] = deque()

    def begin(self, content: ContentFile, target: int, file: str, *, snapshots: bool) -> Copying:
        """Copy a content into an open, empty file as Contents.write does."""
        copy = partial(self._copy, content, target, file, snapshots=snapshots)
        copying = Copying(target, copy, self._pool.submit(copy))
        self._begun.append(copying)
        return copying

    def _copy(self, content: ContentFile, target: int, file: str, *, snapshots: bool) -> Written:
        written = self.contents.write(content, target, file, snapshots=snapshots)
        # The disk begins with it now: the flush at the end has little left, which was a fifth of the time.
        os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)
        return written

    def finish(self, copying: Copying, modified: datetime | None) -> Written:
        """What became of a content, once it is copied; others are meanwhile. The file gets its time."""
        for other in self._begun:
            if copying.ahead.done():
                break
            if other.by_caller is None and other.ahead.cancel():
                other.by_caller = other.copy()
        written = copying.by_caller or copying.ahead.result()
        if written.state == "exported" and modified:
            set_time(copying.target, modified)
        self._begun.remove(copying)
        os.close(copying.target)
        return written

    def close(self) -> None:
        """End what is being copied with its block, and do not begin what waits."""
        self.contents.abandoned = bool(self._begun)
        self._pool.shutdown(cancel_futures=True)
        for each in self._begun:
            os.close(each.target)
        self.contents.close()


def set_time(descriptor: int, modified: datetime) -> None:
    """Give an open file or folder its time of change."""
    # To the millisecond, as Alfresco has it; a float of seconds would miss it.
    whole = round(modified.timestamp() * 1000) * 1_000_000
    os.utime(descriptor, ns=(whole, whole))


def _read(source: int, buffer: memoryview) -> int:
    try:
        return os.readv(source, [buffer])
    except OSError as error:
        raise SourceError.of(error, f"cannot be read: {error.strerror}") from error


def _write(target: int, block: memoryview) -> None:
    while block:
        block = block[os.write(target, block) :]


def _empty(target: int) -> None:
    os.ftruncate(target, 0)
    os.lseek(target, 0, os.SEEK_SET)


def _without_file(content: ContentFile) -> Written:
    protocol = content.url.partition("://")[0]
    if protocol in WITHOUT_FILE:
        return Written("none", notes=(f"{protocol}: Alfresco generates it, there is no file",))
    if protocol == SCHEME.partition("://")[0]:
        return Written("lost", notes=("its URL leads out of the store",))
    return Written("elsewhere", notes=(Place("elsewhere", protocol=protocol).words,), unread=True)


def _trees(snapshots: Sequence[Snapshot], path: str) -> Iterator[tuple[Snapshot, Tree]]:
    """Where each snapshot really has a path, which need not be there."""
    for snapshot in snapshots:
        with suppress(OSError):
            yield snapshot, _tree_of(snapshot.path, path)


def _tree_of(root: Path, path: str) -> Tree:
    parts = path.split("/")
    for depth in range(1, min(DAY_DEPTH, len(parts)) + 1):
        above = "/".join(parts[:depth])
        entry = root / above
        if entry.is_symlink():
            version = linked_version(os.readlink(entry), above)  # noqa: PTH115
            return Tree(os.fspath(root.parent / DAYS), version) if version else Tree(os.fspath(root))
    return Tree(os.fspath(root))
