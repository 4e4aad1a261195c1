"""Filling a content store: the differences to its backup are found, written down, and copied in.

First what a fill notes in its folder before it changes the store, for its undo; then the fill itself.
"""

import errno
import filecmp
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
    Ends,
    batches,
    copied_bytes,
    deal,
    single_files,
)
from alfresco_backup.restore.content.filled import (
    note_began,
    note_mounts,
    require_added,
    require_same_mounts,
)
from alfresco_backup.restore.content.owners import StoreFolders
from alfresco_backup.restore.content.sound import StoredFiles, has_content
from alfresco_backup.restore.content.sources import Tree, Units, find_units
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.restore.journal.journal_record import Created, Filled, Record
from alfresco_backup.restore.journal.unfinished import way_out
from alfresco_backup.settings.commands import undo_command
from alfresco_backup.system.accounts import Account, acting_as, is_acting, known_account, owner_of
from alfresco_backup.system.files import fsync_file, fsync_tree, sync_filesystem
from alfresco_backup.system.folders import (
    appending_text,
    creating,
    make_folder,
    make_folders,
    open_file,
    open_folder,
    remove_tree,
    rename,
    set_access,
    set_time,
    unlink,
)
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
    """Raise Refused unless each folder that was filled is there, with what was added to it.

    Not the empty one that its disk is mounted on; nor a disk that is mounted over it since, and whose
    documents have the names of those that were added: see filled.
    """
    roots = _roots_of(filled.folder)
    for place, inode in roots:
        path = filled.store / place
        if not _is_filled(filled, place, inode):
            raise Refused(
                f"{path} is not the folder that restore {record.restore_id} added documents to: it does not "
                "exist, or is another one without any of these documents. Is its file system mounted?",
                f"findmnt --target {shlex.quote(str(path))}\n"
                f"{undo_command(record.restore_id, record.host)}  # once it is mounted\n{way_out(record)}",
            )
    changed = (name for kind in KINDS for name in entries_of(filled.folder, kind))
    require_same_mounts(record, filled, [place for place, _ in roots], changed)
    require_added(record, filled, entries_of(filled.folder, "missing"))


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


def kept_in_store(store: Path, folder: Path) -> Iterator[tuple[Path, str]]:
    """The replaced files that are still in the store's temporary folders, with the paths they belong at."""
    noted = folder / PLACES
    for temporary in read_list(noted.read_bytes()) if noted.exists() else ():
        kept = store / temporary / KEPT
        for path in sorted(kept.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path, os.fspath(Path(temporary).parent / path.relative_to(kept))


def keep_in_folder(store: Path, folder: Path, folders: StoreFolders) -> None:
    """Bring the replaced files from the store into a fill's folder; each is whole there, or not there."""
    moved = False
    for file, path in kept_in_store(store, folder):
        target = folder / KEPT / path
        make_folders(target.parent)
        account = folders.account(os.path.dirname(path))  # noqa: PTH120
        try:
            rename(file, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ELOOP):  # the latter: behind a link to a volume
                raise
            rename(_copy_whole(file, folder / MOVING, account), target)
        moved = True
    if moved:
        fsync_tree(folder / KEPT)


def _copy_whole(file: Path, copy: Path, account: Account | None) -> Path:
    """Copy a file in all respects, to disk: what the account of its place may read."""
    unlink(copy, missing_ok=True)
    with acting_as(account):
        source = os.fdopen(open_file(file, os.O_RDONLY), "rb")
    with source, creating(copy, 0o600) as stream:
        status = os.fstat(source.fileno())
        shutil.copyfileobj(source, stream)
        stream.flush()
        give_attributes(stream.fileno(), status)
    fsync_file(copy)
    return copy


def give_attributes(descriptor: int, status: os.stat_result) -> None:
    """Give a file the owner, mode and times of another; the owner where root does it."""
    if os.geteuid() == 0 and not is_acting():
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, status.st_mode & 0o7777)
    os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))


SMALLEST_COMPARISON = 100
SMALLEST_COPY = 200
PATHS_AT_ONCE = 100_000
"""So many are held in memory; an empty store may lack millions."""
HOUR = 3600.0


@dataclass(frozen=True)
class Fill:
    """One store to fill. `folder` gets the lists; `journal` None: the store is new and needs no undo.

    A new store belongs to root, and nobody else can enter it, until all is in it.
    """

    store: Path
    sources: tuple[Source, ...]
    folder: Path
    journal: Journal | None
    options: CopyOptions
    parallel: int
    log: Path
    stamp: str

    @cached_property
    def stored(self) -> StoredFiles:
        """The recorded checksums of what is copied."""
        return StoredFiles(self.parallel)

    def has(self, path: str, recorded: bytes) -> bool:
        """Whether the store's own file has that checksum."""
        with acting_as(self.folders.account(os.path.dirname(path))):  # noqa: PTH120
            return has_content(self.store / path, recorded, follow=True)

    @property
    def kept(self) -> Path:
        return self.folder / KEPT

    @cached_property
    def units(self) -> tuple[Units, ...]:
        """The day trees of each source."""
        return tuple(find_units(Path(source.root)) for source in self.sources)

    @cached_property
    def folders(self) -> StoreFolders:
        """What is known of the store's folders before anything is changed."""
        owner = _owner_to_come(self)
        return StoreFolders(self.store, self._new_owner, closed=self.journal is None, owner=owner)

    def _new_owner(self, folder: str) -> Account:
        return self.options.owner or owner_of(self.source_of(folder))

    def source_of(self, folder: str) -> Path:
        """A folder in the first source that has it."""
        trees = (units.of(folder) for units in self.units)
        return next(place for tree in trees if tree and (place := Path(tree.real(folder))).is_dir())

    def temporary(self, spot: "Spot") -> Path:
        """Where files of a spot are written before they get their names, on its file system."""
        first = spot.account == self.folders.account(spot.place)
        ending = "" if first else f".{spot.account.uid if spot.account else 0}"
        return self.store / spot.place / f".restoring-{self.stamp}{ending}"

    def real(self, spot: "Spot") -> Path:
        """The same without links."""
        return self.folders.real(spot.place) / self.temporary(spot).name


@dataclass(frozen=True)
class Spot:
    """A place of the store (itself, a link, a mount point), and with whose rights files come there."""

    place: str
    account: Account | None


@dataclass(frozen=True)
class Group:
    """What one round of rsyncs copies: from where, to which place of the store, by which spot's folder."""

    ends: Ends
    place: str
    spot: Spot
    checksum: bool


def fill_store(fill: Fill, on_progress: OnProgress) -> Differences:
    """Copy into a store what is missing or differs in it. Deletes nothing; repeating it is harmless.

    A stored file that differs from its recorded checksum is not used: `fill.stored.found` says which, and
    what was done instead. The lists of what is added are on disk, and in the journal, before the first file
    is copied. Raises BackupUnsound when a file system mounted within the store is unmounted meanwhile.
    """
    make_folders(fill.folder)
    mounts = mounts_within(fill.store)
    counts = find_differences(fill)
    require_mounts(fill.store, mounts)
    if not counts.missing + counts.differing + counts.suspect:
        return counts
    spots = _spots(fill)
    places = sorted({"", *(spot.place for spot in spots)})
    _note_times(fill, places)
    _note_owner(fill)
    note_roots(fill.folder, fill.store, places)
    note_mounts(fill.folder, (fill.store / place for place in places))
    temporaries = (os.fspath(fill.temporary(spot).relative_to(fill.store)) for spot in spots)
    write_names(fill.folder / PLACES, temporaries)
    fsync_tree(fill.folder)
    act = Filled(fill.store, fill.folder)
    if fill.journal:  # undone in reverse order: the files kept in the temporary folders are restored first
        for place in places:
            if not fill.folders.is_elsewhere(place):
                fill.journal.touch(fill.folders.real(place))
        for spot in spots:
            fill.journal.act(Created(fill.real(spot)))
        fill.journal.act(act)
    _give_store(fill)
    _make_temporaries(fill, spots)
    _make_directories(fill)
    with appending_text(fill.log) as said:
        copying = _Copying(fill, on_progress, counts.bytes, said)
        copying.copy(("missing", "differing"))
        copying.copy(("suspect",))
    _take_off(counts, fill)
    require_mounts(fill.store, mounts)
    keep_in_folder(fill.store, fill.folder, fill.folders)
    for spot in spots:
        with acting_as(fill.folders.account(spot.place)):
            remove_tree(fill.real(spot))
    for place in places:
        sync_filesystem(fill.folders.real(place))
    _set_times_back(fill, places)
    if fill.journal:
        fill.journal.done(act)
    return counts


def _take_off(counts: Differences, fill: Fill) -> None:
    """Do not count as copied what was damaged and has come from nowhere else."""
    for item in fill.stored.found:
        if item.tree is None:
            path = fill.store / item.path
            if not os.path.lexists(path):
                counts.missing -= 1
            elif path.stat().st_size < Path(item.place).stat().st_size:
                counts.differing -= 1


def find_differences(fill: Fill) -> Differences:
    """Compare store and sources, by several processes in parallel; the lists are in the fill's folder.

    Raises BackupUnsound when a day that a source should contain is missing.
    """
    require_days({link for units in fill.units for link in units.lost}, fill.store)
    paths = sorted({path for units in fill.units for path in units.trees})
    commands = []
    program = alfresco_backup.restore.content.fill_differences.__file__
    ways = ["+" if source.replaces else "-" for source in fill.sources]
    total = Differences()
    with open_folder(fill.folder) as folder:
        for number, share in enumerate(deal(paths, fill.parallel, SMALLEST_COMPARISON)):
            items = (item for path in share for item in (path, *_places_of(fill, path)))
            names = write_names(fill.folder / f"compare.{number}", items)
            argv = (sys.executable, "-I", program, names.name, str(number), str(fill.store), *ways)
            limit = fill.options.limit_hours * HOUR
            commands.append(Command(argv, limit, hint=fill.options.hint, directory=folder))
        for finished in run_side_by_side(commands, log=fill.log, keep_output=True):
            for name, count in json.loads(finished.output).items():
                setattr(total, name, getattr(total, name) + count)
    return total


def _places_of(fill: Fill, path: str) -> Iterator[str]:
    """Where a unit is in each source; empty where a source does not have it."""
    for units in fill.units:
        tree = units.trees.get(path)
        yield tree.real(path) if tree else ""


def require_days(missing: Iterable[str], store: Path) -> None:
    """Raise BackupUnsound when a day that a source should contain is missing."""
    lost = sorted(missing)
    if lost:
        listed = ", ".join(lost[:10]) + (f" and {len(lost) - 10} more" if len(lost) > 10 else "")
        raise BackupUnsound(
            f"{len(lost)} day folders of the backup of {store} are missing: the links {listed} are "
            "broken; nothing was copied. Restore the folder that the link names, or remove the link to do "
            "without that day",
            f"readlink {shlex.quote(lost[0])}",
        )


def _owner_to_come(fill: Fill) -> Account | None:
    """The new owner of an empty store that belongs to root: a newly mounted disk, which Alfresco cannot use.

    None: the store's own folder is not changed.
    """
    owner = fill.options.owner or owner_of(Path(fill.sources[0].root))
    if os.geteuid() != 0 or fill.store.stat().st_uid != 0 or owner.uid == 0 or not is_empty(fill.store):
        return None
    return owner


def _note_owner(fill: Fill) -> None:
    """Note, for the undo, what the store's own folder has, where it is going to be given away."""
    if fill.folders.owner:
        status = fill.store.stat()
        numbers = (status.st_mtime_ns, status.st_uid, status.st_gid, status.st_mode & 0o7777)
        write_names(fill.folder / "attributes.store", ["", *map(str, numbers)])


def _give_store(fill: Fill) -> None:
    if owner := fill.folders.owner:
        mode = Path(fill.sources[0].root).stat().st_mode & 0o7777
        set_access(fill.store, owner.uid, owner.gid, mode)


def _make_temporaries(fill: Fill, spots: Iterable[Spot]) -> None:
    """Make the folders that files are written in first; their times tell when the fill began."""
    began = []
    for spot in spots:
        with acting_as(fill.folders.account(spot.place)):
            make_folder(fill.real(spot), 0o700, spot.account)
            began.append(fill.real(spot).lstat().st_ctime_ns)
    note_began(fill.folder, began)


def _make_directories(fill: Fill) -> None:
    """Make the folders that are missing, with the mode they have in the first source that has them."""
    for path in entries_of(fill.folder, "directories"):
        source = fill.source_of(path).stat()
        owner = fill.options.owner or known_account(source.st_uid, source.st_gid)
        folder = os.path.dirname(path)  # noqa: PTH120
        with acting_as(fill.folders.account(folder)):
            make_folder(fill.store / path, source.st_mode & 0o7777, owner, exist_ok=True)


class _Copying:
    """The rsyncs of one fill."""

    def __init__(self, fill: Fill, on_progress: OnProgress, total: int, said: TextIO) -> None:
        self.fill, self.on_progress, self.total, self.said = fill, on_progress, total, said
        self.done = self.rsyncs = 0

    def copy(self, kinds: Sequence[str]) -> None:
        """Copy the files of some lists, source by source, several rsyncs at a time."""
        for number in range(len(self.fill.sources)):
            wanted = (path for kind in kinds for path in entries_of(self.fill.folder, f"{kind}.{number}"))
            for turn, paths in enumerate(batches(wanted, PATHS_AT_ONCE)):
                name = f"{kinds[0]}.{number}.{turn}"
                compared = kinds == ("suspect",)
                sound = self._sound(number, paths)
                for group, found in self._groups(sound, compared=compared).items():
                    self._run(group, found, name)

    def _sound(self, number: int, paths: Iterable[str]) -> list[tuple[str, Tree]]:
        """The files to copy, each with the tree that has it as recorded; those that none has are left out."""
        fill = self.fill
        files = []
        for path in paths:
            tree = fill.units[number].of(path)
            if tree is None:
                raise BackupUnsound(f"{path} vanished from {fill.sources[number].root} meanwhile")
            files.append((path, tree))
        damaged = fill.stored.damaged(files, fill.has)
        others = {item.path: item.tree for item in damaged}
        found = [(path, others.get(path, tree)) for path, tree in files]
        return [(path, tree) for path, tree in found if tree is not None]

    def _groups(self, files: Iterable[tuple[str, Tree]], *, compared: bool) -> "dict[Group, list[str]]":
        """Entries for rsync by where it copies from and to, and with whose rights.

        Behind a link or mount point of the store, or a volume of the source, it is told the real directory.
        `compared`: by rsync, byte by byte, which then sets times and modes; so not those of other accounts.
        """
        fill = self.fill
        groups: dict[Group, list[str]] = {}
        for path, tree in files:
            folder = os.path.dirname(path)  # noqa: PTH120
            spot = Spot(fill.folders.place(folder), fill.folders.account(folder))
            place = max(spot.place, tree.prefix, key=len)
            checksum = compared
            if compared and spot.account and (fill.store / path).lstat().st_uid != spot.account.uid:
                if filecmp.cmp(tree.real(path), fill.store / path, shallow=False):
                    continue
                checksum = False
            group = Group(Ends(tree.base, tree.account, spot.account), place, spot, checksum)
            groups.setdefault(group, []).append(tree.entry(path, place))
        return groups

    def _run(self, group: "Group", found: Sequence[str], name: str) -> None:
        fill, temporary = self.fill, self.fill.real(group.spot)
        beside = Path(temporary.name) if group.place == group.spot.place else temporary
        options = (*single_files(beside, beside / KEPT), *(("--checksum",) if group.checksum else ()))
        with open_folder(fill.folders.real(group.place)) as target:
            commands = []
            for number, share in enumerate(deal(found, fill.parallel, SMALLEST_COPY)):
                names = write_entries(fill.folder / f"copy-{name}.{self.rsyncs}.{number}", share)
                commands.append(fill.options.command(options, names, group.ends, target))
            self.rsyncs += 1
            run_side_by_side(commands, on_line=self._on_line)

    def _on_line(self, line: str) -> None:
        size = copied_bytes(line)
        if size is None:
            self.said.write(f"{line}\n")
            return
        self.done += size
        self.on_progress(self.done, max(self.total, self.done))


def _spots(fill: Fill) -> list[Spot]:
    """Where something will be copied to, each with the account that does it."""
    paths = (path for kind in KINDS for path in entries_of(fill.folder, kind))
    places = (os.path.dirname(path) for path in paths)  # noqa: PTH120
    found = {Spot(fill.folders.place(folder), fill.folders.account(folder)) for folder in places}
    return sorted(found, key=lambda spot: (spot.place, spot.account.uid if spot.account else 0))


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
            with acting_as(fill.folders.account(place)):
                set_time(fill.folders.real(place), noted[0])
