"""Filling a content store: the differences to its backup are found, written down, and copied in.

First what a fill notes in its folder before it changes the store, for its undo; then the fill itself.
"""

import errno
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import alfresco_backup.restore.content.fill_differences
from alfresco_backup.contentstore.rsync import write_entries, write_names
from alfresco_backup.errors import BackupUnsound, Refused
from alfresco_backup.restore.content.fill_differences import (
    KINDS,
    Differences,
    Source,
    read_list,
    stream_list,
)
from alfresco_backup.restore.content.fill_rsync import (
    CopyOptions,
    Links,
    batches,
    copied_bytes,
    deal,
    single_files,
    units_of,
)
from alfresco_backup.restore.journal.journal import Journal, give
from alfresco_backup.restore.journal.journal_record import Created, Filled, Record
from alfresco_backup.restore.journal.unfinished import way_out
from alfresco_backup.settings.commands import undo_command
from alfresco_backup.system.accounts import Account, owner_of
from alfresco_backup.system.files import fsync_file, fsync_tree, sync_filesystem
from alfresco_backup.system.folders import appending_text
from alfresco_backup.system.mounts import is_empty, mounts_within, require_mounts
from alfresco_backup.system.processes import Command, OnProgress, run_side_by_side

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


def require_filled(record: Record, filled: Filled) -> None:
    """Raise Refused unless each folder that was filled exists, not the empty one its disk is mounted on."""
    for place, inode in _roots_of(filled.folder):
        path = filled.store / place
        if not _is_filled(filled, place, inode):
            raise Refused(
                f"{path} is not the folder that restore {record.restore_id} added documents to: it does not "
                "exist, or is another one without any of these documents. Is its file system mounted?",
                f"findmnt --target {shlex.quote(str(path))}\n"
                f"{undo_command(record.restore_id, record.host)}  # once it is mounted\n{way_out(record)}",
            )


def _roots_of(folder: Path) -> list[tuple[str, int | None]]:
    """The folders that a fill wrote below, relative to the store; fills of older versions noted no inodes."""
    noted = folder / ROOTS
    if not noted.exists():
        return [("", None)]
    items = read_list(noted.read_bytes())
    return [(place, int(inode)) for place, inode in zip(items[::2], items[1::2], strict=True)]


def _is_filled(filled: Filled, place: str, inode: int | None) -> bool:
    """Whether a folder is the one that was filled: by its inode, whatever was deleted in it since.

    Or by any file that was to be added or replaced: a store moved to a new disk has another inode, and some
    network file systems have new ones after every mount.
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


# Files of a store that a fill replaces: kept for its undo, first beside their place, then in its folder.
#
# While rsync runs they stay on their own file system, where keeping one is a rename or a link: of a copy to
# another one a killed rsync would leave half, and an undo would replace the complete file by that.

KEPT = "kept"
PLACES = "places.store"
MOVING = "moving"


def note_places(folder: Path, temporaries: Sequence[str]) -> None:
    """Write down, in a fill's folder, its temporary folders relative to the store."""
    write_names(folder / PLACES, temporaries)


def kept_in_store(store: Path, folder: Path) -> Iterator[tuple[Path, str]]:
    """The replaced files that are still in the store's temporary folders, with the paths they belong at."""
    noted = folder / PLACES
    for temporary in read_list(noted.read_bytes()) if noted.exists() else ():
        kept = store / temporary / KEPT
        for path in sorted(kept.rglob("*")):
            if path.is_file():
                yield path, os.fspath(Path(temporary).parent / path.relative_to(kept))


def keep_in_folder(store: Path, folder: Path) -> None:
    """Bring the replaced files from the store into a fill's folder; each is whole there, or not there."""
    moved = False
    for file, path in kept_in_store(store, folder):
        target = folder / KEPT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            file.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_whole(file, folder / MOVING).replace(target)
        moved = True
    if moved:
        fsync_tree(folder / KEPT)


def _copy_whole(file: Path, copy: Path) -> Path:
    """Copy a file in all respects, to disk."""
    status = file.stat()
    shutil.copyfile(file, copy)
    if os.geteuid() == 0:
        os.chown(copy, status.st_uid, status.st_gid)
    copy.chmod(status.st_mode & 0o7777)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    fsync_file(copy)
    return copy


SMALLEST_COMPARISON = 100
SMALLEST_COPY = 200
PATHS_AT_ONCE = 100_000
"""So many are held in memory; an empty store may lack millions."""
HOUR = 3600.0


@dataclass(frozen=True)
class Fill:
    """One store to fill. `folder` gets the lists; `journal` None: the store is new and needs no undo."""

    store: Path
    sources: tuple[Source, ...]
    folder: Path
    journal: Journal | None
    options: CopyOptions
    parallel: int
    log: Path
    stamp: str

    @property
    def kept(self) -> Path:
        return self.folder / KEPT

    def temporary(self, place: str) -> Path:
        """Where files of a place of the store are written before they get their names, on its file system."""
        return self.store / place / f".restoring-{self.stamp}"


def fill_store(fill: Fill, on_progress: OnProgress) -> Differences:
    """Copy into a store what is missing or differs in it. Deletes nothing; repeating it is harmless.

    The lists of what is added are on disk, and in the journal, before the first file is copied. Raises
    BackupUnsound when a file system mounted within the store is unmounted meanwhile.
    """
    fill.folder.mkdir(parents=True)
    mounts = mounts_within(fill.store)
    counts = find_differences(fill)
    require_mounts(fill.store, mounts)
    if not counts.missing + counts.differing + counts.suspect:
        return counts
    links = Links(os.fspath(fill.store))
    places = _places(fill, links)
    _note_times(fill, places)
    owner = _owner_to_come(fill)
    note_roots(fill.folder, fill.store, places)
    note_places(fill.folder, [os.fspath(fill.temporary(place).relative_to(fill.store)) for place in places])
    fsync_tree(fill.folder)
    act = Filled(fill.store, fill.folder)
    if fill.journal:  # undone in reverse order: the files kept in the temporary folders are restored first
        for place in places:
            fill.journal.touch(fill.store / place)
            fill.journal.act(Created(fill.temporary(place)))
        fill.journal.act(act)
    for place in places:
        fill.temporary(place).mkdir(mode=0o700)
    if owner:
        give(fill.store, owner)
        fill.store.chmod(Path(fill.sources[0].root).stat().st_mode & 0o7777)
    _make_directories(fill)
    with appending_text(fill.log) as said:
        copying = _Copying(fill, on_progress, counts.bytes, said, links)
        copying.copy(("missing", "differing"), ())
        copying.copy(("suspect",), ("--checksum",))
    require_mounts(fill.store, mounts)
    keep_in_folder(fill.store, fill.folder)
    for place in places:
        shutil.rmtree(fill.temporary(place))
        sync_filesystem(fill.store / place)
    _set_times_back(fill, places)
    if fill.journal:
        fill.journal.done(act)
    return counts


def find_differences(fill: Fill) -> Differences:
    """Compare store and sources, by several processes in parallel; the lists are in the fill's folder.

    Raises BackupUnsound when a day that a source should contain is missing.
    """
    units = units_of(Path(source.root) for source in fill.sources)
    commands = []
    program = alfresco_backup.restore.content.fill_differences.__file__
    sources = [f"{'+' if source.replaces else '-'}{source.root}" for source in fill.sources]
    for number, share in enumerate(deal(units, fill.parallel, SMALLEST_COMPARISON)):
        names = write_names(fill.folder / f"compare.{number}", share)
        argv = (sys.executable, "-I", program, *map(str, (names, fill.folder, number, fill.store)), *sources)
        commands.append(Command(argv, fill.options.limit_hours * HOUR, hint=fill.options.hint))
    total = Differences()
    for finished in run_side_by_side(commands, log=fill.log, keep_output=True):
        for name, count in json.loads(finished.output).items():
            setattr(total, name, getattr(total, name) + count)
    _require_days(fill)
    return total


def _require_days(fill: Fill) -> None:
    lost = sorted(entries_of(fill.folder, "lost"))
    if lost:
        listed = ", ".join(lost[:10]) + (f" and {len(lost) - 10} more" if len(lost) > 10 else "")
        raise BackupUnsound(
            f"{len(lost)} day folders of the backup of {fill.store} are missing: the links {listed} are "
            "broken; nothing was copied. Restore the folder that the link names, or remove the link to do "
            "without that day",
            f"readlink {shlex.quote(lost[0])}",
        )


def _owner_to_come(fill: Fill) -> Account | None:
    """The new owner of an empty store that belongs to root: a newly mounted disk, which Alfresco cannot use.

    None: the store's own folder is not changed. Else what it has is noted, for the undo.
    """
    status = fill.store.stat()
    owner = fill.options.owner or owner_of(Path(fill.sources[0].root))
    if os.geteuid() != 0 or status.st_uid != 0 or owner.uid == 0 or not is_empty(fill.store):
        return None
    numbers = (status.st_mtime_ns, status.st_uid, status.st_gid, status.st_mode & 0o7777)
    write_names(fill.folder / "attributes.store", ["", *map(str, numbers)])
    return owner


def _make_directories(fill: Fill) -> None:
    """Make the folders that are missing, with the mode they have in the first source that has them."""
    for path in entries_of(fill.folder, "directories"):
        target = fill.store / path
        source = next(place for item in fill.sources if (place := Path(item.root, path)).is_dir())
        status = source.stat()
        target.mkdir(mode=0o700, exist_ok=True)
        give(target, fill.options.owner or Account(status.st_uid, status.st_gid))
        target.chmod(status.st_mode & 0o7777)


class _Copying:
    """The rsyncs of one fill."""

    def __init__(self, fill: Fill, on_progress: OnProgress, total: int, said: TextIO, links: Links) -> None:
        self.fill, self.on_progress, self.total, self.said = fill, on_progress, total, said
        self.done = 0
        self.links = links

    def copy(self, kinds: Sequence[str], options: Sequence[str]) -> None:
        """Copy the files of some lists, source by source, several rsyncs at a time."""
        for number, source in enumerate(self.fill.sources):
            wanted = (path for kind in kinds for path in entries_of(self.fill.folder, f"{kind}.{number}"))
            for turn, paths in enumerate(batches(wanted, PATHS_AT_ONCE)):
                commands = list(self._commands(source, paths, options, f"{kinds[0]}.{number}.{turn}"))
                for first in range(0, len(commands), self.fill.parallel):
                    part = commands[first : first + self.fill.parallel]
                    run_side_by_side(part, on_line=self._on_line)

    def _commands(
        self, source: Source, paths: Iterable[str], options: Sequence[str], name: str
    ) -> Iterator[Command]:
        """One rsync for each share, and for what is behind each link of the store shares of its own."""
        fill = self.fill
        behind: dict[str, list[str]] = {}
        for path in paths:
            link = self.links.above(os.path.dirname(path))  # noqa: PTH120
            behind.setdefault(link, []).append(path[len(link) + 1 :] if link else path)
        for place, (link, found) in enumerate(behind.items()):
            for number, share in enumerate(deal(found, fill.parallel, SMALLEST_COPY)):
                names = write_entries(fill.folder / f"copy-{name}.{place}.{number}", share)
                kept = single_files(fill.temporary(link), fill.temporary(link) / KEPT)
                roots = (Path(source.root, link), fill.store / link)
                yield fill.options.command((*kept, *options), names, *roots)

    def _on_line(self, line: str) -> None:
        size = copied_bytes(line)
        if size is None:
            self.said.write(f"{line}\n")
            return
        self.done += size
        self.on_progress(self.done, max(self.total, self.done))


def _places(fill: Fill, links: Links) -> list[str]:
    """The store's own folder, and each link and mount point in it behind which something will be copied."""
    paths = (path for kind in KINDS for path in entries_of(fill.folder, kind))
    return sorted({"", *(links.above(os.path.dirname(path)) for path in paths)})  # noqa: PTH120


def _note_times(fill: Fill, places: Sequence[str]) -> None:
    """Note the times of the folders that get a temporary folder, which changes them."""
    items = [item for place in places for item in (place, str((fill.store / place).stat().st_mtime_ns))]
    write_names(fill.folder / "times.store", items)


def _set_times_back(fill: Fill, places: Sequence[str]) -> None:
    """Reset the times of these folders, unless something was added right in them."""
    times: dict[str, list[int]] = {place: [] for place in places}
    for path, time in times_of(fill.folder):
        if path in times:
            times[path].append(time)
    for place, noted in times.items():
        if len(noted) == 1:
            os.utime(fill.store / place, ns=(noted[0], noted[0]))
