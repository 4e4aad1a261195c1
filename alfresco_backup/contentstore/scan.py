"""What a content store looks like now: its directories only, so that the cost does not grow with its files.

The unit is the day tree: the directory at depth 3 (`2026/11/22`; with volumes `volume/2026/11`). Its
fingerprint covers relative path, mtime and ctime of every directory in it, which change whenever a file is
added, removed or renamed. It does not cover a file that changes in place. Entries above depth 3 that are no
directories are "loose" and have a fingerprint of their own.

A symlink to a directory down to depth 3 is followed where it is a volume's (volumes.py). One that leads
nowhere, or to a directory that holds it, raises BackupUnsound: what it should lead to would be missing. Any
other link stays one: what it leads to is no part of the store.

Names are str with surrogateescape, as everywhere in Python: any bytes survive.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from alfresco_backup.contentstore.volumes import (
    OF_FILE_SYSTEMS,
    Identity,
    Volume,
    leads_out,
    require_store,
    volume_behind,
)
from alfresco_backup.errors import BackupUnsound
from alfresco_backup.system.accounts import Account, acting_as

DAY_DEPTH = 3
SECOND_NS = 1_000_000_000

COUNTS_SUBDIRECTORIES = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs"})
"""File systems on which a directory with two links has no subdirectories, so that it need not be read.

btrfs always says 1, and what NFS or FUSE say depends on what is behind them.
"""


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
    volumes: dict[str, Volume] = field(default_factory=dict, repr=False)
    """The store itself, at ``""``, and what each link that is followed leads to."""
    outside: tuple[str, ...] = ()
    """Loose links that lead out of the store."""

    @property
    def places(self) -> dict[str, Identity]:
        """Where a file system may go away: the store, the folders in it, links, edges of devices."""
        found = {path: volume.identity for path, volume in self.volumes.items() if path}
        for path, container in self.containers.items():
            above = self.containers.get(path.rpartition("/")[0], container)
            if "/" not in path or above.identity[0] != container.identity[0]:
                found[path] = container.identity
        return found

    def volume_of(self, path: str) -> str:
        """The volume that holds a day tree or loose entry: the lowest link on the way, else ``""``."""
        while path not in self.volumes:
            path = path.rpartition("/")[0]
        return path

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
    walk = _Walk(require_store(source), _subdirectory_counters())
    try:
        days = list(walk.day_trees())
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                seen = list(pool.map(walk.day, days))
        else:
            seen = [walk.day(day) for day in days]
    except OSError as error:
        raise BackupUnsound(
            f"the content store {source} cannot be read: {error.strerror}: {error.filename}",
            f"ls -ld {error.filename}; run the backup as root or as the owner of the store",
        ) from error
    found = {day.path: look for day, look in zip(days, seen, strict=True) if look is not None}
    return Scan(
        source, started_ns, walk.containers, found, walk.loose, walk.volumes, tuple(sorted(walk.outside))
    )


def identity_of(path: str) -> Identity | None:
    """Which directory lies at a path now, links followed; None when there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - text paths: this module handles too many for Path
    except OSError:
        return None
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class _Place:
    """A directory to look at: its path in the store, its real one, and with whose rights."""

    path: str
    real: str
    account: Account | None


@dataclass(frozen=True, slots=True)
class _Entry:
    """A name in a directory: `status` of what is no directory, `link` the text of one, links not followed."""

    name: str
    status: os.stat_result | None
    link: str | None


class _Walk:
    def __init__(self, store: Volume, counters: frozenset[int]) -> None:
        self.counters = counters
        self.containers: dict[str, Container] = {}
        self.loose: dict[str, Seen] = {}
        self.volumes: dict[str, Volume] = {"": store}
        self.outside: list[str] = []

    def day_trees(self) -> Iterator[_Place]:
        """The day trees; fills `containers`, `loose`, `volumes` and `outside` on the way."""
        store = self.volumes[""]
        yield from self._below(_Place("", store.real, store.account), 0, ())

    def _below(self, place: _Place, depth: int, above: tuple[Identity, ...]) -> Iterator[_Place]:
        try:
            with acting_as(place.account):
                status = os.stat(place.real)  # noqa: PTH116 - many text paths
                entries = sorted(_entries(place.real), key=lambda entry: entry.name)
        except FileNotFoundError:
            if depth == 0:
                raise
            return
        identity = (status.st_dev, status.st_ino)
        self._refuse_loop(place.path, identity, above)
        self.containers[place.path] = Container(
            place.path, status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns, identity
        )
        for entry in entries:
            found = self._place(place, entry, (*above, identity))
            if found is None:
                continue
            if depth + 1 < DAY_DEPTH:
                yield from self._below(found, depth + 1, (*above, identity))
            else:
                yield found

    def _place(self, folder: _Place, entry: _Entry, above: tuple[Identity, ...]) -> _Place | None:
        """The directory that an entry is, or leads to; None for what is loose, which is noted."""
        path = f"{folder.path}/{entry.name}" if folder.path else entry.name
        real = f"{folder.real}/{entry.name}"
        if entry.status is None and entry.name in OF_FILE_SYSTEMS:
            return None
        if entry.status is None:
            return _Place(path, real, folder.account)
        volume = volume_behind(real) if entry.link is not None else None
        if volume is None:
            if entry.link is not None:
                self._require_target(path, real, entry.link)
            self._add_loose(path, entry.status)
            return None
        self._refuse_loop(path, volume.identity, above)
        account = volume.account or folder.account
        self.volumes[path] = replace(volume, account=account)
        return _Place(path, volume.real, account)

    def _require_target(self, path: str, real: str, text: str) -> None:
        """Refuse a link that leads nowhere; note one that is not followed and leads out."""
        if identity_of(real) is None:
            raise BackupUnsound(
                f"the link {path} in the content store {self.volumes[''].real} has no target: the "
                "snapshot would lack what it led to",
                f"ls -l '{real}'; mount what it leads to, or remove the link",
            )
        if leads_out(text, path):
            self.outside.append(path)

    def _refuse_loop(self, path: str, identity: Identity, above: tuple[Identity, ...]) -> None:
        if identity in above:
            store = self.volumes[""].real
            raise BackupUnsound(
                f"the link {path} in the content store {store} leads to a directory that contains the link",
                f"remove the link: rm '{store}/{path}'",
            )

    def _add_loose(self, path: str, status: os.stat_result) -> None:
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        text = f"{status.st_mode} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        self.loose[path] = Seen(_digest([text]), status.st_mtime_ns, changed, 0)

    def day(self, place: _Place) -> Seen | None:
        """Look at one day tree. None when it is gone."""
        with acting_as(place.account):
            return self._day(place.real)

    def _day(self, start: str) -> Seen | None:
        skip = len(start)
        try:
            status = os.stat(start)  # noqa: PTH116 - many text paths
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


def _entries(directory: str) -> Iterator[_Entry]:
    """What is in a directory; names that vanish meanwhile are left out."""
    with os.scandir(directory) as listing:
        for entry in listing:
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
                status = None if is_folder else entry.stat(follow_symlinks=False)
                link = os.readlink(entry.path) if entry.is_symlink() else None  # noqa: PTH115
            except FileNotFoundError:
                continue
            yield _Entry(entry.name, status, link)


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
