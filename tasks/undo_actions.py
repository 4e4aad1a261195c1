"""What undoing a restore does to the host, action by action; each is harmless to repeat."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from alfresco_backup.durable import fsync_directory, sync_filesystem
from alfresco_backup.errors import BackupError
from alfresco_backup.host import Host
from alfresco_backup.journal import Record, Renamed
from alfresco_backup.undo_plan import (
    MoveBack,
    Remove,
    RemoveEmpty,
    SetTime,
    StartService,
    StopService,
    UndoAction,
    Unfill,
)
from tasks.services import start_service, stop_service
from tasks.store_fill import entries_of, times_of


def carry_out_undo(host: Host, record: Record, action: UndoAction, log: Path) -> None:
    """Carry out one action. Raises BackupError or OSError; it can be repeated then."""
    match action:
        case StopService(service):
            stop_service(host, service, log)
        case MoveBack():
            move_back(record, action)
        case Remove(path, keep_as):
            remove(path, keep_as)
        case RemoveEmpty(path):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        case Unfill():
            unfill(action)
        case SetTime(path, time_ns):
            if path.is_dir():
                os.utime(path, ns=(path.stat().st_atime_ns, time_ns))
        case StartService(service):
            start_service(host, service, log)


def move_back(record: Record, action: MoveBack) -> None:
    """Rename back what was renamed; does nothing when that has been done, or never happened.

    Something unknown that lies in the way is renamed, not removed. Raises BackupError when the host's own
    data is in neither place.
    """
    renamed = action.renamed
    if not is_at(renamed, renamed.target):
        if action.original and not is_at(renamed, renamed.source):
            raise BackupError(
                f"what was {renamed.source} before the restore is neither there nor at {renamed.target}",
                f"it was moved by somebody; find its inode {renamed.inode}: "
                f"find {renamed.source.parent} -maxdepth 1 -inum {renamed.inode}; rename it back, undo again",
            )
        return
    if os.path.lexists(renamed.source):
        renamed.source.rename(_free_name(renamed.source, record.stamp))
    renamed.target.rename(renamed.source)
    fsync_directory(renamed.source.parent)
    fsync_directory(renamed.target.parent)


def remove(path: Path, keep_as: Path | None) -> None:
    """Remove a tree that a restore made, or rename it; does nothing when it is gone."""
    if not os.path.lexists(path):
        return
    if keep_as is None:
        shutil.rmtree(path)
    else:
        path.rename(keep_as)
    fsync_directory(path.parent)


def unfill(action: Unfill) -> None:
    """Remove what a fill added, put back what it replaced, then give the folders their old times."""
    store, folder = action.filled.store, action.filled.folder
    for number in _sources_of(folder):
        for path in entries_of(folder, f"missing.{number}"):
            with suppress(FileNotFoundError, NotADirectoryError):
                (store / path).unlink()
    kept = folder / "kept"
    for file in sorted(kept.rglob("*")) if kept.is_dir() else ():
        if file.is_file():
            _put_file_back(file, store / file.relative_to(kept))
    directories = dict.fromkeys(entries_of(folder, "directories"))
    for path in sorted(directories, key=lambda item: item.count("/"), reverse=True):
        made = store / path
        if made.is_dir() and not any(made.iterdir()):
            made.rmdir()
    if action.times:
        for path, time in times_of(folder):
            os.utime(store / path, ns=(time, time))
    sync_filesystem(store)


def _put_file_back(kept: Path, target: Path) -> None:
    """Put a kept file over the one that replaced it: itself, or a copy in all respects."""
    status = kept.stat()
    if status.st_dev == target.parent.stat().st_dev:
        kept.replace(target)
        return
    partial = target.with_name(f".{target.name}.undo")
    shutil.copyfile(kept, partial)
    if os.geteuid() == 0:
        os.chown(partial, status.st_uid, status.st_gid)
    partial.chmod(status.st_mode & 0o7777)
    os.utime(partial, ns=(status.st_atime_ns, status.st_mtime_ns))
    partial.replace(target)


def _sources_of(folder: Path) -> list[str]:
    """The numbers of the sources that a fill's lists of missing files are of."""
    return sorted({path.name.split(".")[1] for path in folder.glob("missing.*.*")})


def _free_name(path: Path, stamp: str) -> Path:
    name = f"{path.name}.undone-{stamp}"
    taken = len(list(path.parent.glob(f"{name}*")))
    return path.with_name(f"{name}-{taken + 1}" if taken else name)


def is_at(renamed: Renamed, path: Path) -> bool:
    """Whether what was renamed lies at a path now."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (status.st_dev, status.st_ino) == (renamed.device, renamed.inode)
