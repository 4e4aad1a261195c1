"""Deletes below a folder without ever following a symlink, however often it is interrupted and repeated.

What is not there any more counts as deleted. Nothing is changed in a file before its name goes: files of
snapshots are hard links, so a changed mode would change every other snapshot. Folders without permissions
(rsync -a keeps them) are opened up first; they belong to one tree only.
"""

import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.retention.inventory import REMOVED
from alfresco_backup.system.files import fsync_directory
from alfresco_backup.system.folders import open_folder, remove_folder, rename

OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Freed:
    """Names removed (without folders) and bytes of disk freed; a file with other links frees nothing."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(self.files + other.files, self.bytes + other.bytes)


def remove_below(folder: Path, relative: str) -> Freed:
    """Remove `folder/relative`, a file, a link or a whole tree.

    No part of `relative` may be a symlink but the last, which is then removed itself; on the way to `folder`
    root follows its own. Raises OSError; what was removed until then is gone.
    """
    *parents, name = relative.split("/")
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(open_folder(folder))
            for parent in parents:
                descriptor = os.open(parent, OPEN, dir_fd=descriptor)
                stack.callback(os.close, descriptor)
            return _remove(descriptor, name)
        except FileNotFoundError:
            return Freed()


def remove_published(tree: Path) -> Freed:
    """Remove a tree that readers list: it loses its name first, so that it is never seen half deleted."""
    doomed = tree.with_name(tree.name + REMOVED)
    freed = remove_below(doomed.parent, doomed.name)
    try:
        rename(tree, doomed)
    except FileNotFoundError:
        return freed
    fsync_directory(tree.parent)
    return freed + remove_below(doomed.parent, doomed.name)


def remove_empty_parents(folder: Path, relative: str) -> None:
    """Remove the folders between `folder` and `folder/relative` that have become empty, innermost first."""
    parts = relative.split("/")[:-1]
    while parts:
        try:
            remove_folder(folder.joinpath(*parts))
        except OSError:
            return
        parts.pop()


def _remove(parent: int, name: str) -> Freed:
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=parent)
        return Freed(1, status.st_blocks * 512 if status.st_nlink == 1 else 0)
    descriptor = _open(parent, name)
    try:
        with os.scandir(descriptor) as entries:
            names = [entry.name for entry in entries]
        files = size = 0
        for entry in names:
            freed = _remove_if_there(descriptor, entry)
            files, size = files + freed.files, size + freed.bytes
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=parent)
    return Freed(files, size + status.st_blocks * 512)


def _remove_if_there(parent: int, name: str) -> Freed:
    try:
        return _remove(parent, name)
    except FileNotFoundError:
        return Freed()


def _open(parent: int, name: str) -> int:
    """Open a folder that is to be emptied; its owner gets access where its mode forbids that."""
    try:
        descriptor = os.open(name, OPEN, dir_fd=parent)
    except PermissionError:
        os.chmod(name, stat.S_IRWXU, dir_fd=parent)
        descriptor = os.open(name, OPEN, dir_fd=parent)
    try:
        status = os.fstat(descriptor)
        if status.st_mode & stat.S_IRWXU != stat.S_IRWXU and status.st_uid == os.geteuid():
            os.fchmod(descriptor, stat.S_IRWXU)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
