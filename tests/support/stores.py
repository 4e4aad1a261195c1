"""A small content store to take snapshots of, with what the snapshot tests look at."""

import os
import time
from pathlib import Path

from alfresco_backup.contentstore.plan import Mode, SnapshotOptions, SnapshotRequest
from alfresco_backup.repository.layout import StoreRepository
from alfresco_backup.repository.records import Snapshot
from tasks.backup.contentstore import take_snapshot

TICK = 0.02
"""Seconds; the file systems that tests run on have finer clocks, so a test need not wait out two seconds."""

OLD = 1_700_000_000
"""14 November 2023: far outside every hot window."""


class SampleStore:
    """A store in `root/live` and its repository in `root/backup`."""

    def __init__(self, root: Path, *, exists: bool = False) -> None:
        self.root = root
        self.live = root / "live"
        if not exists:
            self.live.mkdir(parents=True)
        self.repository = StoreRepository(root / "backup" / "contentstore")
        self.log = root / "backup" / "rsync.log"
        self.taken = 0

    def write(self, path: str, content: str = "content", when: float | None = OLD) -> Path:
        """Write a file as if at `when` (None: now), with its folders."""
        assert not path.startswith("/"), f"{path} is not in the store"
        file = self.live / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        if when is not None:
            self.date(file, when)
        return file

    def date(self, file: Path, when: float = OLD) -> None:
        """Give a file and the folders above it, the store excepted, the time `when`."""
        for path in (file, *file.parents):
            if path == self.live:
                return
            os.utime(path, (when, when))

    def request(
        self,
        mode: Mode = "quick",
        *,
        hot: float = 0,
        tick: float = TICK,
        limit: float = 0,
        stamp: str = "",
        accepted: str = "",
    ) -> SnapshotRequest:
        options = SnapshotOptions(
            hot_window_hours=hot, parallel_copies=2, bandwidth_limit_mib=limit, tick_seconds=tick
        )
        if not stamp:
            self.taken += 1
        stamp = stamp or f"20260101T{self.taken:06}Z"
        return SnapshotRequest(
            "contentstore", self.live, self.repository, stamp, self.log, mode, options, accepted
        )

    def snapshot(
        self,
        mode: Mode = "quick",
        *,
        hot: float = 0,
        tick: float = TICK,
        stamp: str = "",
        accepted: str = "",
    ) -> Snapshot:
        """Take the next snapshot once the clock tick of the last change is over."""
        wait_for_tick(tick if tick < 1 else TICK)
        return take_snapshot(self.request(mode, hot=hot, tick=tick, stamp=stamp, accepted=accepted))


def wait_for_tick(tick: float = TICK) -> None:
    """Return when what was written until now is clearly in the past for a scan that starts afterwards."""
    time.sleep(tick * 2)


def content(root: Path) -> dict[bytes, bytes | None]:
    """Everything below a tree by its name in bytes, links followed: a file's content, None for a folder."""
    found: dict[bytes, bytes | None] = {}
    for directory, folders, files in os.walk(root, followlinks=True):
        here = Path(directory)
        found |= {os.fsencode((here / name).relative_to(root)): None for name in folders}
        found |= {os.fsencode((here / name).relative_to(root)): (here / name).read_bytes() for name in files}
    return found


def state(root: Path) -> dict[str, tuple[int, ...]]:
    """Inode, mode, owner, size and times of everything below a tree, links not followed."""
    found = {}
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        numbers = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size)
        found[str(path)] = (*numbers, status.st_mtime_ns, status.st_ctime_ns)
    return found


def inodes(root: Path) -> set[tuple[int, int]]:
    """The inodes of all regular files below a tree."""
    files = (path.lstat() for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {(status.st_dev, status.st_ino) for status in files}
