"""Copying a whole tree of the backup into a new store, for `replace`. It acts.

What was copied with another checksum than the recorded one is replaced by another copy, or taken out.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.contentstore.rsync import write_entries
from alfresco_backup.restore.content.fill import require_days
from alfresco_backup.restore.content.fill_rsync import (
    CopyOptions,
    Ends,
    copied_bytes,
    copied_file,
    deal,
    whole_trees,
)
from alfresco_backup.restore.content.sound import Damaged, StoredFiles, has_content
from alfresco_backup.restore.content.sources import Tree, Units, find_units
from alfresco_backup.system.accounts import Account, known_account
from alfresco_backup.system.folders import (
    appending_text,
    creating,
    make_folders,
    open_file,
    open_folder,
    unlink,
)
from alfresco_backup.system.processes import Command, OnProgress, run_side_by_side

SMALLEST_SHARE = 20


@dataclass(frozen=True)
class NewStore:
    """What to copy: `source`, a tree of the backup, into `new`, which becomes `store` later.

    `aside`: where the former store was set aside, None for none. `folder` gets the lists.
    """

    source: Path
    new: Path
    store: Path
    aside: Path | None
    folder: Path
    options: CopyOptions
    parallel: int
    log: Path
    expected_bytes: int


@dataclass(frozen=True)
class WholeCopy:
    """Files and bytes that were copied into a new store; `damaged`, `unread`: see StoredFiles."""

    files: int = 0
    bytes: int = 0
    damaged: tuple[Damaged, ...] = ()
    unread: frozenset[Path] = frozenset()


def copy_whole(copy: NewStore, on_progress: OnProgress) -> WholeCopy:
    """Copy a whole tree into a new store, by several rsyncs in parallel, and take out what is damaged.

    rsync says the checksum of what it has copied; that is compared with the recorded one.
    """
    make_folders(copy.folder)
    units = find_units(copy.source)
    require_days(units.lost, copy.store)
    files = done = 0
    stored = StoredFiles(copy.parallel)
    differing: list[tuple[str, Tree, bytes]] = []
    with appending_text(copy.log) as said, open_folder(copy.new) as top:

        def on_line(line: str) -> None:
            nonlocal files, done
            size = copied_bytes(line)
            if size is None:
                said.write(f"{line}\n" if not line.startswith("cd") else "")
                return
            files, done = files + 1, done + size
            if (copied := copied_file(line)) and (found := _differs(units, stored, *copied)):
                differing.append(found)
            on_progress(done, max(copy.expected_bytes, done))

        _make_folders_of(units, top)
        for commands in _commands(copy, units, top):
            run_side_by_side(commands, on_line=on_line)
        _give_folders(units, copy.options.owner, top)
    damaged = _replace_damaged(copy, stored, differing)
    left = sum(item.left for item in damaged)
    return WholeCopy(files - left, done, damaged, frozenset(stored.unread))


def _replace_damaged(
    copy: NewStore, stored: StoredFiles, files: Sequence[tuple[str, Tree, bytes]]
) -> tuple[Damaged, ...]:
    """Replace files that were copied with another checksum than the recorded one, or take them out."""

    def has(path: str, recorded: bytes) -> bool:
        return copy.aside is not None and has_content(copy.aside / path, recorded)

    damaged = [stored.judge(*file, has, copy.aside) for file in files]
    for item in damaged:
        _put_right(copy.new, item)
    return tuple(damaged)


def _differs(units: Units, stored: StoredFiles, path: str, digest: bytes) -> tuple[str, Tree, bytes] | None:
    """The path, tree and recorded checksum of a file that was copied with another checksum."""
    tree = units.of(path)
    recorded = stored.recorded(tree, path) if tree else None
    if tree is None or recorded is None or recorded == digest:
        return None
    if len(recorded) != len(digest) and stored.is_sound(tree, path):
        return None
    return path, tree, recorded


def _put_right(new: Path, item: Damaged) -> None:
    """Give a file that was copied damaged the content of another copy, or remove it where there is none.

    Nobody but this process's account can enter the new store yet.
    """
    file = new / item.path
    status = file.stat()
    unlink(file)
    if item.tree is None:
        return
    source = Path(item.tree.real(item.path))
    with os.fdopen(open_file(source, os.O_RDONLY), "rb") as stream, creating(file, 0o600) as target:
        shutil.copyfileobj(stream, target)
        if os.geteuid() == 0:
            os.fchown(target.fileno(), status.st_uid, status.st_gid)
        os.fchmod(target.fileno(), status.st_mode & 0o7777)
    os.utime(file, ns=(status.st_atime_ns, source.stat().st_mtime_ns))


def _commands(copy: NewStore, units: Units, top: int) -> Iterator[list[Command]]:
    """The rsyncs that copy all units into the folder `top`, those that run side by side together.

    Nobody but this process's account can enter that yet.
    """
    groups: dict[tuple[Ends, str], list[str]] = {}
    for path, tree in sorted(units.trees.items()):
        key = (Ends(tree.base, tree.account), tree.prefix)
        groups.setdefault(key, []).append(tree.entry(path, tree.prefix))
    for count, ((source, place), entries) in enumerate(groups.items()):
        with _below(top, place) as target:
            shares = deal(entries, copy.parallel, SMALLEST_SHARE)
            yield [
                copy.options.command(
                    whole_trees(),
                    write_entries(copy.folder / f"copy.{count}.{number}", share),
                    source,
                    target,
                )
                for number, share in enumerate(shares)
            ]


@contextmanager
def _below(top: int, path: str) -> Iterator[int]:
    """A folder within one that is held open, in which nobody else can make links."""
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_folders_of(units: Units, top: int) -> None:
    """Make the folders above the units: rsyncs in parallel would make the same ones at the same time."""
    volumes = {path for path, tree in units.trees.items() if tree.prefix == path}
    for path in sorted({*units.folders, *volumes} - {""}):
        os.mkdir(path, 0o700, dir_fd=top)


def _give_folders(units: Units, owner: Account | None, top: int) -> None:
    """Give these folders what they have in the source; the owner of the new store, where it has one."""
    for path, tree in sorted(units.folders.items(), reverse=True):
        if path:
            status = Path(tree.real(path)).stat()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=top)
            os.chmod(path, status.st_mode & 0o7777, dir_fd=top)
            if os.geteuid() == 0:
                account = owner or known_account(status.st_uid, status.st_gid)
                os.chown(path, account.uid, account.gid, dir_fd=top)
