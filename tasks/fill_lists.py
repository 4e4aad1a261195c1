"""What a fill wrote down in its folder before it changed a store: what it adds, and where; for its undo."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.journal_acts import Filled
from alfresco_backup.restore_record import Record
from alfresco_backup.snapshot_rsync import write_names
from alfresco_backup.store_differences import KINDS, read_list, stream_list
from alfresco_backup.unfinished import undo_command, way_out

ROOTS = "roots.store"


def entries_of(folder: Path, name: str) -> Iterator[str]:
    """The entries of a list, which each comparing process wrote its part of. They may be millions."""
    for path in sorted(folder.glob(f"{name}.*")):
        with path.open("rb") as stream:
            yield from stream_list(stream)


def times_of(folder: Path) -> Iterator[tuple[str, int]]:
    """Folders of the store that a fill changes, with their times before it, in nanoseconds."""
    items = entries_of(folder, "times")
    yield from ((path, int(time)) for path, time in zip(items, items, strict=True))


@dataclass(frozen=True)
class Attributes:
    """What a file of the store had before a fill compared its bytes. Time in nanoseconds."""

    path: str
    time: int
    uid: int
    gid: int
    mode: int


def attributes_of(folder: Path) -> Iterator[Attributes]:
    """The files of the store whose attributes a fill may have changed, their bytes being right."""
    items = entries_of(folder, "attributes")
    for path, *numbers in zip(items, items, items, items, items, strict=True):
        yield Attributes(path, *map(int, numbers))


def note_roots(folder: Path, store: Path, places: Sequence[str]) -> None:
    """Note the inodes of the folders that a fill writes below: the store's own, those at links and mounts.

    Inodes alone: the number of a disk changes with a reboot.
    """
    items = [item for place in places for item in (place, str((store / place).stat().st_ino))]
    write_names(folder / ROOTS, items)


def demand_filled(record: Record, filled: Filled) -> None:
    """Raise Refused unless each folder that was filled is there, not the empty one its disk is mounted on."""
    for place, inode in _roots_of(filled.folder):
        path = filled.store / place
        if not _is_filled(filled, place, inode):
            raise Refused(
                f"{path} is not what the restore {record.stamp} added documents to: it is another folder, or "
                "none, and nothing of them is there",
                f"mount what belongs there (findmnt --target {path}), then: "
                f"{undo_command(record.stamp, record.host)}\n  {way_out(record)}",
            )


def _roots_of(folder: Path) -> list[tuple[str, int | None]]:
    """The folders that a fill wrote below, relative to the store; older ones noted no inodes."""
    noted = folder / ROOTS
    if not noted.exists():
        return [("", None)]
    items = read_list(noted.read_bytes())
    return [(place, int(inode)) for place, inode in zip(items[::2], items[1::2], strict=True)]


def _is_filled(filled: Filled, place: str, inode: int | None) -> bool:
    """Whether a folder is the one that was filled: by its inode, whatever people have deleted in it since.

    Or by any file that was to be added or replaced: a store moved to a new disk has another inode, and some
    network file systems give new ones with every mount.
    """
    path = filled.store / place
    try:
        if path.stat().st_ino == inode or (inode is None and any(path.iterdir())):
            return True
    except OSError:
        return False
    listed = (item for kind in KINDS for item in entries_of(filled.folder, kind))
    below = f"{place}/" if place else ""
    return any(os.path.lexists(filled.store / item) for item in listed if item.startswith(below))
