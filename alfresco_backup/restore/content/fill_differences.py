"""The differences of a content store to its backup: the lists a fill works from. Also a program of its own.

    python fill_differences.py PATHS FOLDER NUMBER STORE SOURCE...

Runs in parallel with others of its kind, each on its share of the paths, so it imports the standard library
only. Compared are names and, of files that exist in both, size and time. Alfresco writes a content file once
and never changes it, so of two sizes the larger is the whole file: the smaller one was copied while it was
written, or cut off by a crash. The same size with another time is a reason to compare the bytes.

A source is `+/path`, or `-/path` for one that is not to be compared by bytes. Of several sources that have a
file the largest wins, of equal ones the first. Names may contain any bytes: lists have NUL after each.
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
    """A tree to take files from, links in it followed. `replaces`: its bytes count more than the store's."""

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
    """

    folder: str
    number: int
    open_files: dict[str, IO[bytes]] = field(default_factory=dict)

    def add(self, name: str, *items: str) -> None:
        """Append an entry to the list of that name."""
        stream = self.open_files.get(name)
        if stream is None:
            stream = open(f"{self.folder}/{name}.{self.number}", "wb")  # noqa: PTH123, SIM115 - closed in close()
            self.open_files[name] = stream
        stream.write(b"".join(os.fsencode(item) + b"\0" for item in items))

    def close(self) -> None:
        """Flush every list to disk."""
        for stream in self.open_files.values():
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()


class Comparison:
    """One pass over the paths of a share."""

    def __init__(self, store: str, sources: Sequence[Source], lists: Lists) -> None:
        self.store, self.sources, self.lists = store, sources, lists
        self.counts = Differences()
        self._there: dict[str, bool] = {}

    def compare(self, paths: Iterable[str]) -> Differences:
        """Compare what is at these paths, relative to the store and to every source."""
        for path in paths:
            trees = dict(self._distinct(path))
            for number, status in trees.items():
                others = [other for other in trees if other != number]
                if stat.S_ISDIR(status.st_mode):
                    self._directory(path, number, others)
                elif stat.S_ISREG(status.st_mode):
                    self._file(path, number, others, status, _stat(f"{self.store}/{path}"))
        return self.counts

    def _distinct(self, path: str) -> Iterator[tuple[int, os.stat_result]]:
        """The sources that have a path, by their numbers; of those that are the same file the first."""
        seen: list[tuple[int, int]] = []
        for number, source in enumerate(self.sources):
            try:
                status = os.stat(f"{source.root}/{path}")  # noqa: PTH116
            except (FileNotFoundError, NotADirectoryError):
                if _lost(source.root, path):
                    self.lists.add("lost", f"{source.root}/{path}")
                continue
            identity = (status.st_dev, status.st_ino)
            if identity not in seen:
                seen.append(identity)
                yield number, status

    def _directory(self, top: str, number: int, others: Sequence[int]) -> None:
        """Compare a whole tree. Paths are looked up from its root on: that is where the time goes."""
        os.chdir(f"{self.sources[number].root}/{top}")
        try:
            store = os.open(f"{self.store}/{top}", os.O_PATH | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            store = None
        folders = ["."]
        while folders:
            folder = folders.pop()
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(entry.path)
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
        elif self.sources[number].replaces:
            self._note_folder(os.path.dirname(path))  # noqa: PTH120
            self._note("suspect", path, number, 0)
            owner = (str(found.st_uid), str(found.st_gid))
            self.lists.add(
                "attributes", path, str(found.st_mtime_ns), *owner, str(stat.S_IMODE(found.st_mode))
            )

    def _prevails(self, other: int, path: str, number: int, size: int) -> bool:
        """Whether a path is taken from another source, so that it is copied once."""
        status = _stat(f"{self.sources[other].root}/{path}")
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


def _lost(root: str, path: str) -> bool:
    """Whether a broken link is one of a snapshot, so that the day it links to is missing."""
    try:
        text = os.readlink(f"{root}/{path}")  # noqa: PTH115
    except OSError:
        return False
    return text.startswith("../") and "/days/" in text


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
    paths, folder, number, store, *sources = arguments
    lists = Lists(folder, int(number))
    comparison = Comparison(store, [Source(item[1:], item[0] == "+") for item in sources], lists)
    with open(paths, "rb") as stream:  # noqa: PTH123
        counts = comparison.compare(read_list(stream.read()))
    lists.close()
    sys.stdout.write(json.dumps(vars(counts)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
