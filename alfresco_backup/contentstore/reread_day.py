"""One entry of a store, a day, in all its versions: read from the disk and compared with its checksums.

Versions share most files as hard links; each inode is read once. A list that is missing, or lacks a file, is
completed with what is read: from then on the file has a checksum, though not from when it was copied. What
is damaged is told with where it still is whole: in another version, in the live store.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from alfresco_backup.contentstore.checksums import (
    FIRST_CHOICE,
    Digests,
    digest_of,
    files_below,
    read_list,
    write_list,
)
from alfresco_backup.system.processes import OnProgress

# What is told of a stored file that is not what was copied.

SHOWN = 3


@dataclass(frozen=True)
class Damage:
    """A file that is not what was copied, in `tree` and wherever that is linked to.

    `name` is for people. `good` are snapshots that hold it whole, `live` says whether the live store does.
    """

    name: str
    tree: Path
    snapshots: tuple[str, ...]
    what: str
    good: tuple[str, ...]
    live: bool

    @property
    def sentence(self) -> str:
        where = [f"snapshot{'s' if len(self.good) > 1 else ''} {_some(self.good)}"] if self.good else []
        where += ["the live store"] if self.live else []
        whole = f"whole in {' and '.join(where)}" if where else "no other copy of it is known"
        return f"{self.tree}/{self.name} {self.what} (in {_some(self.snapshots)}); {whole}"


def _some(stamps: Sequence[str]) -> str:
    """The newest few of them."""
    more = f" and {len(stamps) - SHOWN} older" if len(stamps) > SHOWN else ""
    return ", ".join(list(stamps)[-SHOWN:]) + more


BATCH = 64
"""Called with the files that were read and about how many are to be read."""


@dataclass(frozen=True)
class Version:
    """A tree that holds the entry, the entry's list, and the snapshots that lead to it."""

    stamp: str
    tree: Path
    checksums: Path
    snapshots: tuple[str, ...]


@dataclass
class StoredFile:
    """An inode. `expected`: its digest by the lists, `found`: as read, `error`: why it could not be read.

    `holders` are the versions it lies in, by their number, `unlisted` those whose list lacks it. A file that
    is missing has no inode and no size.
    """

    name: bytes
    size: int | None
    expected: bytes | None = None
    found: bytes = b""
    error: str = ""
    holders: list[int] = field(default_factory=list)
    unlisted: list[int] = field(default_factory=list)

    @property
    def damaged(self) -> bool:
        return bool(self.error) or (self.expected is not None and self.found != self.expected)


@dataclass(frozen=True)
class EntryRead:
    """What reading an entry gave. `lists`: lists of checksums that were damaged and are set aside."""

    files: int
    bytes: int
    recorded: int
    damages: tuple[Damage, ...]
    lists: tuple[Path, ...]


class Reader:
    """Reads files with several threads; their digests come in the order in which they were asked for."""

    def __init__(self, pool: ThreadPoolExecutor, on_progress: OnProgress | None = None) -> None:
        self._pool, self._on_progress = pool, on_progress
        self._done = 0
        self.total = 0

    def on_read(self) -> None:
        """Another file is read."""
        self._done += 1
        if self._on_progress:
            self._on_progress(min(self._done, self.total), self.total)

    def digests(self, files: Sequence[bytes], lengths: Sequence[int]) -> Iterator[bytes | OSError]:
        jobs = list(zip(files, lengths, strict=True))
        batches = [jobs[first : first + BATCH] for first in range(0, len(jobs), BATCH)]
        for answers in self._pool.map(self._read, batches):
            yield from answers

    def _read(self, batch: Sequence[tuple[bytes, int]]) -> list[bytes | OSError]:
        answers: list[bytes | OSError] = []
        for file, length in batch:
            try:
                answers.append(digest_of(file, length))
            except OSError as error:
                answers.append(error)
        return answers


class Entry:
    """An entry at `path`, in versions from the oldest to the newest, and the live store it came from."""

    def __init__(self, path: str, versions: Sequence[Version], live: Path | None) -> None:
        self._path, self._versions, self._live = path, versions, live
        self._files: dict[int, StoredFile] = {}
        self._missing: dict[bytes, StoredFile] = {}
        self._lists: list[Path] = []

    def read(self, reader: Reader) -> EntryRead:
        """Read every file once; complete the lists. Raises OSError where a list cannot be read or written."""
        for number, version in enumerate(self._versions):
            self._inspect(number, version)
        files = list(self._files.values())
        self._read_all(reader, files)
        recorded = self._complete_lists()
        damaged = [file for file in [*files, *self._missing.values()] if file.damaged]
        damages = self._describe(damaged)
        size = sum(file.size or 0 for file in files)
        return EntryRead(len(files), size, recorded, damages, tuple(self._lists))

    def _inspect(self, number: int, version: Version) -> None:
        expected = self._list_of(version)
        listed = expected is not None
        expected = expected or {}
        try:
            for name, status in files_below(os.fsencode(version.tree), os.fsencode(self._path)):
                if stat.S_ISREG(status.st_mode):
                    file = self._known(name, status)
                    file.holders.append(number)
                    digest = expected.pop(name, None)
                    file.expected = file.expected or digest
                    if digest is None:
                        file.unlisted.append(number)
        except FileNotFoundError:
            if not listed:
                self._miss(os.fsencode(self._path), None, number, "is missing")
        except OSError as error:
            name = os.fsencode(error.filename).removeprefix(os.fsencode(version.tree) + b"/")
            self._miss(name, None, number, f"cannot be read: {error.strerror}")
        for name, digest in expected.items():
            self._miss(name, digest, number, "is missing")

    def _known(self, name: bytes, status: os.stat_result) -> StoredFile:
        key = status.st_dev << 64 | status.st_ino
        if key not in self._files:
            self._files[key] = StoredFile(name, status.st_size)
        return self._files[key]

    def _miss(self, name: bytes, digest: bytes | None, number: int, error: str) -> None:
        file = self._missing.setdefault(name, StoredFile(name, None, digest, error=error))
        file.holders.append(number)

    def _list_of(self, version: Version) -> Digests | None:
        """The list of a version; a damaged one is set aside, since nobody knows which of its lines are."""
        try:
            return read_list(version.checksums)
        except ValueError:
            aside = version.checksums.with_name(version.checksums.name + ".damaged")
            version.checksums.replace(aside)
            self._lists.append(aside)
            return None

    def _read_all(self, reader: Reader, files: Sequence[StoredFile]) -> None:
        paths = [self._place(file) for file in files]
        lengths = [len(file.expected) if file.expected else FIRST_CHOICE for file in files]
        for file, answer in zip(files, reader.digests(paths, lengths), strict=True):
            if isinstance(answer, OSError):
                file.error = f"cannot be read: {answer.strerror}"
            else:
                file.found = answer
            reader.on_read()

    def _place(self, file: StoredFile) -> bytes:
        return os.fsencode(self._versions[file.holders[-1]].tree) + b"/" + file.name

    def _complete_lists(self) -> int:
        """Enter what has no line: by its inode's line in another list, else as it was read now."""
        new: dict[int, Digests] = {}
        recorded = 0
        for file in self._files.values():
            digest = file.expected or file.found
            recorded += bool(not file.expected and file.found)
            for number in file.unlisted if digest else ():
                new.setdefault(number, {})[file.name] = digest
        for number, digests in new.items():
            file_of_list = self._versions[number].checksums
            write_list(file_of_list, digests | (read_list(file_of_list) or {}))
        return recorded

    def _describe(self, damaged: Sequence[StoredFile]) -> tuple[Damage, ...]:
        names = {file.name for file in damaged}
        others: dict[bytes, list[StoredFile]] = {}
        for file in self._files.values():
            if file.name in names and not file.damaged:
                others.setdefault(file.name, []).append(file)
        return tuple(self._damage(file, others.get(file.name, ())) for file in damaged)

    def _damage(self, file: StoredFile, others: Sequence[StoredFile]) -> Damage:
        whole = [other for other in others if self._is_whole(other, file)]
        live = self._live_size(file)
        size = whole[0].size if whole else live
        what = file.error
        if not what and size is not None and size != file.size:
            what = f"has {file.size:,} bytes of {size:,}"
        what = what or f"differs from its checksum of when it was copied ({file.size:,} bytes)"
        good = tuple(dict.fromkeys(stamp for other in whole for stamp in self._snapshots(other)))
        tree, found_in = self._versions[file.holders[0]].tree, tuple(self._snapshots(file))
        name = file.name.decode("utf-8", "backslashreplace").replace("\n", "\\n")
        return Damage(name, tree, found_in, what, good, live is not None)

    def _is_whole(self, other: StoredFile, file: StoredFile) -> bool:
        if file.expected is None:
            return other.expected is not None
        if len(other.found) == len(file.expected):
            return other.found == file.expected
        try:
            return digest_of(self._place(other), len(file.expected)) == file.expected
        except OSError:
            return False

    def _live_size(self, file: StoredFile) -> int | None:
        """The size of the file in the live store, when that is what was copied (or nobody knows what was)."""
        if self._live is None:
            return None
        place = os.path.realpath(os.fsencode(self._live) + b"/" + file.name)
        try:
            status = os.stat(place)  # noqa: PTH116 - names are bytes
            if not stat.S_ISREG(status.st_mode):
                return None
            if file.expected is None or digest_of(place, len(file.expected)) == file.expected:
                return status.st_size
        except OSError:
            return None
        return None

    def _snapshots(self, file: StoredFile) -> Iterator[str]:
        for number in file.holders:
            yield from self._versions[number].snapshots
