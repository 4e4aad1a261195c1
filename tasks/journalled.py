"""Changes to the host that undo can take back: each is in the journal, on disk, before it is made."""

import os
from pathlib import Path

from alfresco_backup.durable import fsync_directory
from alfresco_backup.errors import BackupError
from alfresco_backup.journal import Journal
from alfresco_backup.journal_acts import Created, MadeDirectory, Renamed
from alfresco_backup.runner import Account


def restoring_name(path: Path, stamp: str) -> Path:
    """Where a restore builds what will lie at `path`: beside it, on the same file system."""
    return path.with_name(f"{path.name}.restoring-{stamp}")


def rename(journal: Journal, source: Path, target: Path) -> None:
    """Rename on one file system; `target` must be free. Used to set aside and to put in place."""
    if os.path.lexists(target):
        raise BackupError(f"{target} is in the way: {source} was to be renamed to it", f"ls -ld {target}")
    journal.touch(source.parent)
    journal.touch(target.parent)
    status = source.lstat()
    act = Renamed(source, target, status.st_dev, status.st_ino)
    journal.act(act)
    source.rename(target)
    for directory in {source.parent, target.parent}:
        fsync_directory(directory)
    journal.done(act)


def make_directory(journal: Journal, path: Path, mode: int, owner: Account) -> None:
    """Make a new directory whose name bears the restore's stamp, and what is missing above it."""
    make_parents(journal, path.parent, owner)
    journal.touch(path.parent)
    act = Created(path)
    journal.act(act)
    path.mkdir(mode=0o700)
    give(path, owner)
    path.chmod(mode)
    fsync_directory(path.parent)
    journal.done(act)


def make_parents(journal: Journal, directory: Path, owner: Account) -> None:
    """Make the directories that are missing on the way to a place, from the top down."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        journal.touch(path.parent)
        act = MadeDirectory(path)
        journal.act(act)
        path.mkdir(mode=0o755)
        give(path, owner)
        fsync_directory(path.parent)
        journal.done(act)


def give(path: Path, owner: Account) -> None:
    """Hand a path to an account; as an ordinary user it already has its only possible owner."""
    if os.geteuid() == 0:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
