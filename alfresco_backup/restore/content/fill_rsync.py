"""The rsync commands that copy content into a store. Reads directories, changes nothing."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from alfresco_backup.contentstore.scan import DAY_DEPTH
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.mounts import is_mount_point, mount_points
from alfresco_backup.system.processes import Command

_COPIED = re.compile(r">f\S{9} (\d+)")
HOUR = 3600.0
FOLDERS_KNOWN = 100_000


@dataclass(frozen=True)
class CopyOptions:
    """What every copy into one store has in common.

    `owner` is the owner that files and folders get; None: as recorded in the backup, where root copies.
    """

    owner: Account | None
    limit_hours: float
    bandwidth_limit_mib: float
    hint: str

    def ownership(self) -> tuple[str, ...]:
        """rsync's options for the owner; an ordinary user's files can only be its own."""
        if os.geteuid() != 0:
            return ()
        chown = (f"--chown={self.owner.uid}:{self.owner.gid}",) if self.owner else ()
        return ("--owner", "--group", "--numeric-ids", *chown)

    def command(self, options: Sequence[str], names: Path, source: Path, target: Path) -> Command:
        """Copy what `names` lists. Links in the source are followed; nothing is ever linked or deleted."""
        limit = self.bandwidth_limit_mib
        bandwidth = (f"--bwlimit={limit:g}m",) if limit else ()
        common = ("--copy-links", "--perms", "--times", "--whole-file", "--from0", "--out-format=%i %l")
        more = (*self.ownership(), *bandwidth, f"--files-from={names}", f"{source}/", f"{target}/")
        return Command(("rsync", *options, *common, *more), self.limit_hours * HOUR, hint=self.hint)


def whole_tree() -> tuple[str, ...]:
    """Options for copying whole trees into a new store."""
    return ("--recursive",)


def single_files(temporary: Path, kept: Path) -> tuple[str, ...]:
    """Options for copying files into a store that is in use: folders stay as they are.

    A file that is replaced is kept below `kept`. A file is written below `temporary` and then renamed, so
    that a killed rsync leaves nothing under a wrong name.
    """
    return (
        *("--no-implied-dirs", "--omit-dir-times", f"--temp-dir={temporary}"),
        *("--backup", f"--backup-dir={kept}"),
    )


def copied_bytes(line: str) -> int | None:
    """The size of the file that a line of rsync's output says it copied; None for other lines."""
    found = _COPIED.match(line)
    return int(found[1]) if found else None


def units_of(roots: Iterable[Path]) -> list[str]:
    """The day trees, and what is above their depth, of several trees together; links are followed."""
    found: set[str] = set()
    for root in roots:
        found.update(_units(os.fspath(root), "", 1))
    return sorted(found)


def _units(root: str, folder: str, depth: int) -> Iterator[str]:
    with os.scandir(f"{root}/{folder}") as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if depth < DAY_DEPTH and entry.is_dir():
                yield from _units(root, path, depth + 1)
            else:
                yield path


def deal(items: Sequence[str], hands: int, smallest: int = 1) -> list[list[str]]:
    """Divide items into at most `hands` shares of about the same number, none smaller than `smallest`."""
    count = max(1, min(hands, len(items) // smallest))
    return [share for number in range(count) if (share := list(items[number::count]))]


def batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Items by so many at a time, in their order; the last ones may be fewer."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


@dataclass
class Links:
    """Which folders of a store are reached through a link, or are mount points.

    rsync (3.5) does not write through links; between mount points a rename becomes a copy.
    """

    store: str

    def __post_init__(self) -> None:
        self._known: dict[str, str] = {"": ""}
        self._mounts = mount_points()

    def above(self, folder: str) -> str:
        """The lowest link or mount point among a folder and those above it, relative to the store."""
        if len(self._known) > FOLDERS_KNOWN:
            self._known = {"": ""}
        if folder not in self._known:
            upper = os.path.dirname(folder)  # noqa: PTH120 - many text paths
            self._known[folder] = folder if self._leads_away(folder) else self.above(upper)
        return self._known[folder]

    def _leads_away(self, folder: str) -> bool:
        path = Path(self.store, folder)
        return path.is_symlink() or is_mount_point(path, self._mounts)
