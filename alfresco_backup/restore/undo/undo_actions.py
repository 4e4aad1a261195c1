"""What undoing a restore does to the host, action by action; each is harmless to repeat."""

import errno
import glob
import os
import shlex
import shutil
from contextlib import suppress
from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.host.host import Host
from alfresco_backup.host.service_control import start_service, stop_service
from alfresco_backup.restore.content.fill import (
    Attributes,
    attributes_of,
    entries_of,
    kept_in_store,
    require_filled,
    times_of,
)
from alfresco_backup.restore.journal.journal_record import Filled, Record, Renamed
from alfresco_backup.restore.journal.unfinished import way_out
from alfresco_backup.restore.recovery.recovery_files import pg_ctl_starts
from alfresco_backup.restore.recovery.recovery_settings import RESTRICTED_HBA
from alfresco_backup.restore.undo.undo_plan import (
    MoveBack,
    Remove,
    RemoveEmpty,
    SetTime,
    StartService,
    StopService,
    UndoAction,
    Unfill,
    set_aside_by,
)
from alfresco_backup.system.files import fsync_directory, sync_filesystem
from alfresco_backup.system.mounts import require_no_mounts


def carry_out_undo(host: Host, record: Record, action: UndoAction, log: Path) -> None:
    """Carry out one action. Raises BackupError or OSError; it can be repeated then."""
    match action:
        case StopService(service):
            directory = host.installation.data_directory
            of_restore = (directory / RESTRICTED_HBA).exists() and pg_ctl_starts(directory)
            stop_service(host, service, log, by_pg_ctl=service == "postgresql" and of_restore)
        case MoveBack():
            move_back(record, action)
        case Remove(path, keep_as):
            remove(path, keep_as)
        case RemoveEmpty(path):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        case Unfill(filled):
            require_filled(record, filled)
            unfill(action)
        case SetTime(path, time_ns):
            if path.is_dir():
                os.utime(path, ns=(path.stat().st_atime_ns, time_ns))
        case StartService(service):
            start_service(host, service, log)


def move_back(record: Record, action: MoveBack) -> None:
    """Rename back what was renamed; does nothing when that has been done, or never happened.

    Something unknown at the source is renamed, not removed. Raises Refused when the host's own data is in
    neither place.
    """
    renamed = action.renamed
    if action.original:
        require_original(record, renamed)
    if not (is_set_aside(renamed) if action.original else is_at(renamed, renamed.target)):
        return
    if os.path.lexists(renamed.source):
        name = f"{renamed.source.name}.undone-{record.restore_id}"
        renamed.source.rename(_free_name(renamed.source.with_name(name)))
    renamed.target.rename(renamed.source)
    fsync_directory(renamed.source.parent)
    fsync_directory(renamed.target.parent)


def require_originals(record: Record) -> None:
    """Raise Refused unless all of the host's own data is where the restore put it, or back already.

    And unless the stores that it added documents to exist: not when their file system is not mounted.
    """
    for renamed in set_aside_by(record):
        require_original(record, renamed)
    for act in record.acts:
        if isinstance(act, Filled):
            require_filled(record, act)


def require_original(record: Record, renamed: Renamed) -> None:
    """See require_originals. The hint is also for data that somebody has removed."""
    if is_set_aside(renamed) or _has_inode(renamed, renamed.source):
        return
    raise Refused(
        f"what was {renamed.source} before restore {record.restore_id} is neither there nor at "
        f"{renamed.target}: it was moved or removed. Find it by its inode and rename it to "
        f"{renamed.target}, then undo again",
        f"find {shlex.quote(str(renamed.source.parent))} -maxdepth 1 -inum "
        f"{renamed.inode}\n{way_out(record)}",
    )


def remove(path: Path, keep_as: Path | None) -> None:
    """Remove a tree that a restore made, or rename it; does nothing when it does not exist."""
    if not os.path.lexists(path):
        return
    if keep_as is None:
        remove_tree(path)
    else:
        path.rename(_free_name(keep_as))
    fsync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a tree; of a link or a file only itself, so that what a link leads to stays.

    Raises BackupError, with nothing removed, when something is mounted in it.
    """
    if path.is_dir() and not path.is_symlink():
        require_no_mounts(path)
        shutil.rmtree(path)
    else:
        path.unlink()


def unfill(action: Unfill) -> None:
    """Remove what a fill added, restore what it replaced, then reset the times of the folders."""
    store, folder = action.filled.store, action.filled.folder
    for number in _sources_of(folder):
        for path in entries_of(folder, f"missing.{number}"):
            with suppress(FileNotFoundError, NotADirectoryError):
                (store / path).unlink()
    kept = folder / "kept"
    for file in sorted(kept.rglob("*")) if kept.is_dir() else ():
        if file.is_file():
            _restore_file(file, store / file.relative_to(kept))
    for file, path in kept_in_store(store, folder):
        _restore_file(file, store / path)
    for attributes in attributes_of(folder):
        _reset_attributes(store / attributes.path, attributes)
    directories = dict.fromkeys(entries_of(folder, "directories"))
    for path in sorted(directories, key=lambda item: item.count("/"), reverse=True):
        made = store / path
        if made.is_dir() and not any(made.iterdir()):
            made.rmdir()
    if action.times:
        for path, time in times_of(folder):
            with suppress(FileNotFoundError, NotADirectoryError):  # Alfresco prunes empty folders
                os.utime(store / path, ns=(time, time))
    sync_filesystem(store)


def _restore_file(kept: Path, target: Path) -> None:
    """Put a kept file over the one that replaced it: itself, or a copy in all respects.

    Its folder is made again where Alfresco has pruned it since.
    """
    status = kept.stat()
    _make_folders_again(target.parent, status)
    try:
        kept.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    partial = target.with_name(f".{target.name}.undo")
    shutil.copyfile(kept, partial)
    if os.geteuid() == 0:
        os.chown(partial, status.st_uid, status.st_gid)
    partial.chmod(status.st_mode & 0o7777)
    os.utime(partial, ns=(status.st_atime_ns, status.st_mtime_ns))
    partial.replace(target)


def _make_folders_again(folder: Path, like: os.stat_result) -> None:
    """Make the folders that are missing, as Alfresco makes them; they belong to the owner of their file."""
    for path in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        path.mkdir(mode=0o755)
        if os.geteuid() == 0:
            os.chown(path, like.st_uid, like.st_gid)


def _reset_attributes(path: Path, attributes: Attributes) -> None:
    """Give a file the time, owner and mode it had; nothing where Alfresco has removed it since."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if os.geteuid() == 0:
            os.chown(path, attributes.uid, attributes.gid)
        path.chmod(attributes.mode)
        os.utime(path, ns=(path.stat().st_atime_ns, attributes.time))


def _sources_of(folder: Path) -> list[str]:
    """The numbers of the sources that a fill's lists of missing files are of."""
    return sorted({path.name.split(".")[1] for path in folder.glob("missing.*.*")})


def _free_name(wanted: Path) -> Path:
    taken = len(list(wanted.parent.glob(f"{glob.escape(wanted.name)}*")))
    return wanted.with_name(f"{wanted.name}-{taken + 1}") if taken else wanted


def is_set_aside(renamed: Renamed) -> bool:
    """Whether what was set aside is where it was put: the restore's ID in its name, and its inode.

    The device does not count there: its number changes with a reboot (LVM, NFS, btrfs).
    """
    return _has_inode(renamed, renamed.target)


def is_at(renamed: Renamed, path: Path) -> bool:
    """Whether what was renamed is at a path now, by inode and device; these may change with a reboot."""
    return _has_inode(renamed, path) and path.lstat().st_dev == renamed.device


def _has_inode(renamed: Renamed, path: Path) -> bool:
    try:
        return path.lstat().st_ino == renamed.inode
    except (FileNotFoundError, NotADirectoryError):
        return False
