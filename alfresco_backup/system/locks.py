"""Locks that the kernel keeps on a file, and frees when the process that holds one ends, however it ends.

Programs that the process starts do not inherit them.
"""

import fcntl
import os
from pathlib import Path

from alfresco_backup.system.accounts import acting_as, owner_of
from alfresco_backup.system.folders import make_folder, open_file

MODE = 0o660  # whoever may write to the repository, and nobody else: any reader could hold the lock


def open_lock_file(path: Path) -> int:
    """Open the file of a lock, making it if need be, so that root and its folder's owner can both open it.

    Root makes it as that owner, who may exchange it for any other file of the folder. Raises OSError.
    """
    make_folder(path.parent, 0o750, exist_ok=True)
    owner = owner_of(path.parent)
    with acting_as(owner):
        descriptor = open_file(path, os.O_RDWR | os.O_CREAT, MODE)
        if os.fstat(descriptor).st_uid == (os.geteuid() or owner.uid):
            os.fchmod(descriptor, MODE)  # whatever the umask
    return descriptor


def take_lock(descriptor: int, *, wait: bool = False) -> bool:
    """Take the lock of an open file; False where another process holds it, unless it is waited for.

    Raises OSError where the file system knows no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def note_holder(descriptor: int) -> None:
    """Write this process's id into the file of a lock that it holds, for those who find it held."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def holder_of(descriptor: int) -> str:
    """Whom the file of a lock names, for people: `process 4711`."""
    return f"process {os.pread(descriptor, 20, 0).decode('ascii', 'replace').strip() or 'unknown'}"
