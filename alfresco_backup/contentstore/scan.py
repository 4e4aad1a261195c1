"""What a content store looks like now: its directories only, so that the cost does not grow with its files.

The unit is the day tree: the directory at depth 3 (`2026/11/22`; with volumes `volume/2026/11`). Its
fingerprint covers relative path, mtime and ctime of every directory in it, which change whenever a file is
added, removed or renamed. It does not cover a file that changes in place. Entries above depth 3 that are no
directories are "loose" and have a fingerprint of their own.

A symlink to a directory down to depth 3 is followed (volumes are often links to other disks). One that leads
nowhere, or to a directory that holds it, raises BackupUnsound: what it should lead to would be missing.
Links below the day tree are not looked behind here; rsync copies what they lead to, a `full` run compares it.

Names are str with surrogateescape, as everywhere in Python: any bytes survive.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from alfresco_backup.errors import BackupUnsound

DAY_DEPTH = 3
SECOND_NS = 1_000_000_000

LOST_AND_FOUND = "lost+found"
"""What fsck keeps in a file system's own folder, for root alone: it is passed over where it is closed."""

COUNTS_SUBDIRECTORIES = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs"})
"""File systems on which a directory with two links has no subdirectories, so that it need not be read.

btrfs always says 1, and what NFS or FUSE say depends on what is behind them.
"""

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A day tree or a loose entry as it was: newest mtime, newest mtime or ctime, in ns since 1970."""

    fingerprint: str
    modified_ns: int
    changed_ns: int
    directories: int


@dataclass(frozen=True, slots=True)
class Container:
    """A directory above the day trees, with what must be kept of it. The store itself has the path ``""``."""

    path: str
    mode: int
    uid: int
    gid: int
    modified_ns: int
    identity: Identity


@dataclass(frozen=True)
class Scan:
    """A store at the time `started_ns`: taken before the first directory was looked at."""

    source: Path
    started_ns: int
    containers: dict[str, Container] = field(repr=False)
    days: dict[str, Seen] = field(repr=False)
    loose: dict[str, Seen] = field(repr=False)
    links: dict[str, Identity] = field(default_factory=dict, repr=False)
    """What each link down to day trees led to."""

    @property
    def places(self) -> dict[str, Identity]:
        """Where a file system may go away: the store, the folders in it, links, edges of devices."""
        found = dict(self.links)
        for path, container in self.containers.items():
            above = self.containers.get(path.rpartition("/")[0], container)
            if "/" not in path or above.identity[0] != container.identity[0]:
                found[path] = container.identity
        return found

    @property
    def started_at(self) -> datetime:
        return datetime.fromtimestamp(self.started_ns / SECOND_NS, UTC)

    @property
    def directories(self) -> int:
        return len(self.containers) + sum(day.directories for day in self.days.values())


def scan_store(source: Path, started_ns: int, threads: int = 1) -> Scan:
    """Walk the store's directories. `started_ns` is now, by the clock that dates its files.

    What vanishes meanwhile is left out. Raises BackupUnsound for what cannot be read.
    """
    walk = _Walk(os.fspath(source), _subdirectory_counters())
    try:
        day_paths = list(walk.day_paths())
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                seen = list(pool.map(walk.day, day_paths))
        else:
            seen = [walk.day(path) for path in day_paths]
    except OSError as error:
        raise BackupUnsound(
            f"the content store {source} cannot be read: {error.strerror}: {error.filename}",
            f"ls -ld {error.filename}; run the backup as root or as the owner of the store",
        ) from error
    days = {path: day for path, day in zip(day_paths, seen, strict=True) if day is not None}
    return Scan(source, started_ns, walk.containers, days, walk.loose, walk.links)


def identity_of(path: str) -> Identity | None:
    """Which directory lies at a path now, links followed; None when there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - text paths: this module handles too many for Path
    except OSError:
        return None
    return status.st_dev, status.st_ino


class _Walk:
    def __init__(self, root: str, counters: frozenset[int]) -> None:
        self.root = root
        self.counters = counters
        self.containers: dict[str, Container] = {}
        self.loose: dict[str, Seen] = {}
        self.links: dict[str, Identity] = {}

    def day_paths(self) -> Iterator[str]:
        """Relative paths of the day trees; fills `containers`, `loose` and `links` on the way."""
        yield from self._below("", 0, ())

    def _below(self, relative: str, depth: int, above: tuple[Identity, ...]) -> Iterator[str]:
        try:
            status = os.stat(f"{self.root}/{relative}")  # noqa: PTH116
            with os.scandir(f"{self.root}/{relative}") as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except FileNotFoundError:
            if depth == 0:
                raise
            return
        identity = (status.st_dev, status.st_ino)
        self._refuse_loop(relative, identity, above)
        self.containers[relative] = Container(
            relative, status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns, identity
        )
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.name == LOST_AND_FOUND and not os.access(entry.path, os.R_OK | os.X_OK):
                continue
            if not self._is_directory(entry, path):
                self._add_loose(entry, path)
                continue
            if entry.is_symlink() and (led_to := identity_of(entry.path)):
                self._refuse_loop(path, led_to, (*above, identity))
                self.links[path] = led_to
            if depth + 1 < DAY_DEPTH:
                yield from self._below(path, depth + 1, (*above, identity))
            else:
                yield path

    def _is_directory(self, entry: "os.DirEntry[str]", path: str) -> bool:
        """Links followed; a link that leads nowhere is refused."""
        if entry.is_dir():
            return True
        if entry.is_symlink() and identity_of(entry.path) is None:
            raise BackupUnsound(
                f"the link {path} in the content store {self.root} leads nowhere: what it led to would be "
                "missing",
                f"ls -l '{self.root}/{path}'; mount what it leads to, or remove the link",
            )
        return False

    def _refuse_loop(self, path: str, identity: Identity, above: tuple[Identity, ...]) -> None:
        if identity in above:
            raise BackupUnsound(
                f"the link {path} in the content store {self.root} leads to a directory that holds it",
                f"remove the link: rm '{self.root}/{path}'",
            )

    def _add_loose(self, entry: "os.DirEntry[str]", path: str) -> None:
        try:
            status = entry.stat(follow_symlinks=True)
        except FileNotFoundError:
            return
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        text = f"{status.st_mode} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        self.loose[path] = Seen(_digest([text]), status.st_mtime_ns, changed, 0)

    def day(self, path: str) -> Seen | None:
        """Look at one day tree. None when it is gone."""
        start = f"{self.root}/{path}"
        skip = len(start)
        try:
            status = os.stat(start)  # noqa: PTH116 - follows the link that a day may be
        except FileNotFoundError:
            return None
        lines: list[str] = []
        modified = changed = 0
        found = [(start, status)]
        while found:
            directory, status = found.pop()
            modified = max(modified, status.st_mtime_ns)
            changed = max(changed, status.st_ctime_ns)
            lines.append(f"{directory[skip:]}\0{status.st_mtime_ns}\0{status.st_ctime_ns}")
            if status.st_nlink != 2 or status.st_dev not in self.counters:
                found.extend(_subdirectories(directory))
        return Seen(_digest(sorted(lines)), modified, max(modified, changed), len(lines))


def _subdirectories(directory: str) -> list[tuple[str, os.stat_result]]:
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    try:
                        found.append((entry.path, entry.stat(follow_symlinks=False)))
                    except FileNotFoundError:
                        continue
    except FileNotFoundError:
        pass  # its parent has changed since the scan began, so the day is not trusted anyway
    return found


def _digest(lines: list[str]) -> str:
    text = "\0\0".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _subdirectory_counters() -> frozenset[int]:
    """Device numbers of the mounted file systems whose link counts tell of subdirectories."""
    devices = set()
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().decode("utf-8", "replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] in COUNTS_SUBDIRECTORIES:
            major, minor = before.split(" ")[2].split(":")
            devices.add(os.makedev(int(major), int(minor)))
    return frozenset(devices)
