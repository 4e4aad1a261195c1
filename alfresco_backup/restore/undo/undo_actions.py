"""What undoing a restore does to the host, action by action; each is harmless to repeat."""

import errno
import glob
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from alfresco_backup.errors import Refused
from alfresco_backup.host.host import Host
from alfresco_backup.host.service_control import start_service, stop_service
from alfresco_backup.restore.content.fill import (
    Attributes,
    attributes_of,
    entries_of,
    give_attributes,
    kept_in_store,
    require_filled,
    times_of,
)
from alfresco_backup.restore.content.owners import StoreFolders
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
from alfresco_backup.system import folders
from alfresco_backup.system.accounts import Account, acting_as, is_acting, known_account
from alfresco_backup.system.files import fsync_directory, sync_filesystem
from alfresco_backup.system.folders import (
    creating,
    make_folder,
    open_entry,
    open_file,
    remove_folder,
    rename,
    set_time,
    unlink,
)
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
                remove_folder(path)
        case Unfill(filled):
            require_filled(record, filled)
            unfill(action)
        case SetTime(path, time_ns):
            if path.is_dir():
                set_time(path, time_ns)
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
        rename(renamed.source, _free_name(renamed.source.with_name(name)))
    rename(renamed.target, renamed.source)
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
        rename(path, _free_name(keep_as))
    fsync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a tree; of a link or a file only itself, so that what a link leads to stays.

    Raises BackupError, with nothing removed, when something is mounted in it.
    """
    if path.is_dir() and not path.is_symlink():
        require_no_mounts(path)
    folders.remove_tree(path)


def unfill(action: Unfill) -> None:
    """Remove what a fill added, restore what it replaced, then reset the times of the folders.

    In what another account can change root works with that account's rights: see StoreFolders.
    """
    store, folder = action.filled.store, action.filled.folder
    undoing = _Unfilling(store)
    for number in _sources_of(folder):
        for path in entries_of(folder, f"missing.{number}"):
            undoing.remove(path)
    kept = folder / "kept"
    for file in sorted(kept.rglob("*")) if kept.is_dir() else ():
        if file.is_file() and not file.is_symlink():
            undoing.restore(file, os.fspath(file.relative_to(kept)), None)
    for file, path in kept_in_store(store, folder):
        undoing.restore(file, path, undoing.account(path))
    for attributes in attributes_of(folder):
        undoing.reset(attributes)
    directories = dict.fromkeys(entries_of(folder, "directories"))
    for path in sorted(directories, key=lambda item: item.count("/"), reverse=True):
        undoing.remove_if_empty(path)
    if action.times:
        for path, time in times_of(folder):
            undoing.set_time(path, time)
    sync_filesystem(store)


class _Unfilling:
    """The changes to one store; each does nothing where Alfresco has removed its file or folder since."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._folders = StoreFolders(store, lambda _: Account(0, 0))

    def account(self, path: str) -> Account | None:
        """With whose rights a path is changed."""
        return self._folders.account(os.path.dirname(path))  # noqa: PTH120 - many text paths

    def remove(self, path: str) -> None:
        self._do(self.account(path), lambda: unlink(self._store / path))

    def remove_if_empty(self, path: str) -> None:
        made = self._store / path

        def work() -> None:
            if made.is_dir() and not any(made.iterdir()):
                remove_folder(made)

        self._do(self.account(path), work)

    def set_time(self, path: str, time_ns: int) -> None:
        def work() -> None:
            if is_acting():  # a link leads no further than the account may go
                os.utime(self._store / path, ns=(time_ns, time_ns))
            else:
                set_time(self._store / path, time_ns, follow=True)

        self._do(self._folders.account(path), work)

    def _do(self, account: Account | None, work: Callable[[], None]) -> None:
        """Do it with an account's rights; where they do not suffice, as root where no link is on the way.

        Where one is, nothing of the fill is behind it: the account could not go there then either.
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            try:
                with acting_as(account):
                    work()
            except PermissionError:
                if account is None:
                    raise
                with _behind_no_link():
                    work()

    def restore(self, kept: Path, path: str, reader: Account | None) -> None:
        """Put a kept file over the one that replaced it: itself, or a copy in all respects.

        Its folder is made again where Alfresco has pruned it since. `reader` is with whose rights it is read.
        """
        with acting_as(reader):
            source = os.fdopen(open_file(kept, os.O_RDONLY), "rb")
        with source:
            status = os.fstat(source.fileno())
            self._make_folders_again(path, status)
            try:
                rename(kept, self._store / path)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.ELOOP):  # the latter: behind a link to a volume
                    raise
                self._copy(source, status, self._store / path, self.account(path))

    def _copy(self, source: BinaryIO, status: os.stat_result, target: Path, account: Account | None) -> None:
        partial = target.with_name(f".{target.name}.undo")
        with acting_as(account):
            unlink(partial, missing_ok=True)
            stream = creating(partial, 0o600)
        with stream:
            shutil.copyfileobj(source, stream)
            stream.flush()
            give_attributes(stream.fileno(), status)
        with acting_as(account):
            rename(partial, target)

    def _make_folders_again(self, path: str, like: os.stat_result) -> None:
        """Make the folders that are missing, as Alfresco does; they belong to the owner of their file."""
        owner = known_account(like.st_uid, like.st_gid)
        parents = [os.fspath(parent) for parent in reversed(Path(path).parents)][1:]
        for folder in parents:
            if not (self._store / folder).exists():
                with acting_as(self.account(folder)):
                    make_folder(self._store / folder, 0o755, owner)
                self._folders.forget()

    def reset(self, attributes: Attributes) -> None:
        """Give a file the time, owner and mode it had."""
        account = self.account(attributes.path) if attributes.path else None
        with suppress(FileNotFoundError, NotADirectoryError), _behind_no_link():
            with acting_as(account):
                descriptor = open_entry(self._store / attributes.path)
            try:
                status = os.fstat(descriptor)
                if account is None or status.st_uid == account.uid:
                    if os.geteuid() == 0:
                        os.fchown(descriptor, attributes.uid, attributes.gid)
                    os.fchmod(descriptor, attributes.mode)
                    os.utime(descriptor, ns=(status.st_atime_ns, attributes.time))
            finally:
                os.close(descriptor)


@contextmanager
def _behind_no_link() -> Iterator[None]:
    """Do nothing where a link has taken the place of a file or folder."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise


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
