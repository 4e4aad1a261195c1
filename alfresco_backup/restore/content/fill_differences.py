"""The differences of a content store to its backup: the lists a fill works from. Also a program of its own.

    python fill_differences.py PATHS NUMBER STORE SOURCE...

Runs in parallel with others of its kind, each on its share of the paths, so it imports the standard library
only. Compared are names and, of files that exist in both, size and time. Alfresco writes a content file once
and never changes it, so of two sizes the larger is the whole file: the smaller one was copied while it was
written, or cut off by a crash. The same size with another time is a reason to compare the bytes.

PATHS lists, for each day or what is above that level, its path in the store and where each source has it,
which may be nowhere. No link is followed in a source: it is compared, and copied, as a link. A SOURCE is `+`,
or `-` for one that is not to be compared by bytes. Of several sources that have a file the largest wins, of
equal ones the first. Names may contain any bytes: lists have NUL after each.
"""

import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

CLOCK_TICK_NS = 2_000_000_000  # the coarsest time a file system keeps
BLOCK = 1 << 18
KINDS = ("missing", "differing", "suspect")
"""Not in the store; there, but shorter; there with the same size but another time."""


@dataclass(frozen=True)
class Source:
    """A tree to take files from. `replaces`: its bytes count more than the store's."""

    root: str
    replaces: bool


@dataclass
class Differences:
    """Counts of one comparison. `bytes` is the size of the missing and differing files of the sources.

    `kept`: files of the store that are longer than the source's.
    """

    files: int = 0
    missing: int = 0
    differing: int = 0
    suspect: int = 0
    bytes: int = 0
    kept: int = 0


@dataclass
class Lists:
    """The files of lists: one for each kind and source, new directories, and times of those that change.

    `attributes` are those of suspect files: rsync gives them their backup's even where the bytes are equal.
    `folder` is held open: its path may be exchanged meanwhile where another account owns a folder above.
    """

    folder: int
    number: int
    open_files: dict[str, IO[bytes]] = field(default_factory=dict)

    def add(self, name: str, *items: str) -> None:
        """Append an entry to the list of that name."""
        stream = self.open_files.get(name)
        if stream is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(f"{name}.{self.number}", flags, 0o644, dir_fd=self.folder)
            stream = self.open_files[name] = os.fdopen(descriptor, "wb")
        stream.write(b"".join(os.fsencode(item) + b"\0" for item in items))

    def close(self) -> None:
        """Flush every list to disk."""
        for stream in self.open_files.values():
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()


class Comparison:
    """One pass over the paths of a share."""

    def __init__(self, store: str, replaces: Sequence[bool], lists: Lists) -> None:
        self.store, self.replaces, self.lists = store, replaces, lists
        self.counts = Differences()
        self._there: dict[str, bool] = {}
        self._top, self._places = "", [""]

    def compare(self, units: Iterable[Sequence[str]]) -> Differences:
        """Compare units: each a path in the store, and where it is in every source, empty for nowhere."""
        for self._top, *self._places in units:
            path = self._top
            trees = dict(self._distinct())
            for number, status in trees.items():
                others = [other for other in trees if other != number]
                if stat.S_ISDIR(status.st_mode):
                    self._directory(path, number, others)
                elif stat.S_ISREG(status.st_mode):
                    self._file(path, number, others, status, _stat(f"{self.store}/{path}"))
                elif stat.S_ISLNK(status.st_mode):
                    self._link(path, number, others)
        return self.counts

    def _distinct(self) -> Iterator[tuple[int, os.stat_result]]:
        """The sources that have the unit, by their numbers; of those that are the same file the first."""
        seen: list[tuple[int, int]] = []
        for number, place in enumerate(self._places):
            status = _lstat(place) if place else None
            if status is None:
                continue
            identity = (status.st_dev, status.st_ino)
            if identity not in seen:
                seen.append(identity)
                yield number, status

    def _in(self, number: int, path: str) -> str:
        """Where a source has a file of the unit."""
        return self._places[number] + path[len(self._top) :]

    def _directory(self, top: str, number: int, others: Sequence[int]) -> None:
        """Compare a whole tree. Paths are looked up from its root on: that is where the time goes."""
        os.chdir(self._places[number])
        try:
            store = os.open(f"{self.store}/{top}", os.O_PATH | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            store = None
        folders = ["."]
        while folders:
            folder = folders.pop()
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_symlink():
                        self._link(f"{top}{entry.path[1:]}", number, others)
                    elif entry.is_file():
                        found = None if store is None else _stat(entry.path, store)
                        self._file(f"{top}{entry.path[1:]}", number, others, entry.stat(), found)
        if store is not None:
            os.close(store)

    def _file(
        self,
        path: str,
        number: int,
        others: Sequence[int],
        wanted: os.stat_result,
        found: os.stat_result | None,
    ) -> None:
        if any(self._prevails(other, path, number, wanted.st_size) for other in others):
            return
        self.counts.files += 1
        if found is None:
            self._note_folder(os.path.dirname(path))  # noqa: PTH120
            self._note("missing", path, number, wanted.st_size)
            return
        same_time = abs(found.st_mtime_ns - wanted.st_mtime_ns) <= CLOCK_TICK_NS
        if found.st_size == wanted.st_size and same_time:
            return
        if found.st_size > wanted.st_size:
            self.counts.kept += 1
        elif found.st_size < wanted.st_size:
            self._note_folder(os.path.dirname(path))  # noqa: PTH120
            self._note("differing", path, number, wanted.st_size)
        elif self.replaces[number]:
            self._note_folder(os.path.dirname(path))  # noqa: PTH120
            self._note("suspect", path, number, 0)
            owner = (str(found.st_uid), str(found.st_gid))
            self.lists.add(
                "attributes", path, str(found.st_mtime_ns), *owner, str(stat.S_IMODE(found.st_mode))
            )

    def _link(self, path: str, number: int, others: Sequence[int]) -> None:
        """A link comes back as one where the store has nothing; the first source that has the path wins."""
        self.counts.files += 1
        earlier = any(_lstat(self._in(other, path)) for other in others if other < number)
        if not earlier and _lstat(f"{self.store}/{path}") is None:
            self._note_folder(os.path.dirname(path))  # noqa: PTH120
            self._note("missing", path, number, 0)

    def _prevails(self, other: int, path: str, number: int, size: int) -> bool:
        """Whether a path is taken from another source, so that it is copied once."""
        status = _lstat(self._in(other, path))
        if status is None or not stat.S_ISREG(status.st_mode):
            return status is not None and other < number and stat.S_ISDIR(status.st_mode)
        return status.st_size > size or (status.st_size == size and other < number)

    def _note(self, kind: str, path: str, number: int, size: int) -> None:
        setattr(self.counts, kind, getattr(self.counts, kind) + 1)
        self.counts.bytes += size
        self.lists.add(f"{kind}.{number}", path)

    def _note_folder(self, folder: str) -> None:
        """Remember once that a folder changes: its time if it is there, else that it has to be made."""
        if folder in self._there:
            return
        try:
            status = os.stat(f"{self.store}/{folder}")  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            self._there[folder] = False
            if folder:
                self._note_folder(os.path.dirname(folder))  # noqa: PTH120
                self.lists.add("directories", folder)
            return
        self._there[folder] = True
        self.lists.add("times", folder, str(status.st_mtime_ns))


def _stat(path: str, directory: int | None = None) -> os.stat_result | None:
    """What is at a path, links followed; None for nothing."""
    try:
        return os.stat(path, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _lstat(path: str) -> os.stat_result | None:
    """What is at a path, a link itself; None for nothing."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_list(data: bytes) -> list[str]:
    """The entries of a list."""
    return [os.fsdecode(item) for item in data.split(b"\0")[:-1]]


def stream_list(stream: IO[bytes]) -> Iterator[str]:
    """The entries of a list of any length, of which only a block is in memory."""
    rest = b""
    while block := stream.read(BLOCK):
        *whole, rest = (rest + block).split(b"\0")
        yield from map(os.fsdecode, whole)


def main(arguments: Sequence[str]) -> None:
    """See the module's text. Prints the counts as JSON."""
    paths, number, store, *sources = arguments
    lists = Lists(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), int(number))
    comparison = Comparison(store, [source == "+" for source in sources], lists)
    with open(paths, "rb") as stream:  # noqa: PTH123
        items = stream_list(stream)
        counts = comparison.compare(zip(*[items] * (1 + len(sources)), strict=True))
    lists.close()
    sys.stdout.write(json.dumps(vars(counts)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
