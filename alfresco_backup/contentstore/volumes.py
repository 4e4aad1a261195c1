"""Which links of a content store are followed: those at or above the level of days, to volumes.

A link is a path that whoever made it chose, and root may read everything. So root follows a link of another
account only to a directory of that account's own, or to one in which all is its own, as in a file system that
was mounted for it; and what is behind it is read with that account's rights. All other links stay links.
"""

import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import BackupUnsound
from alfresco_backup.settings.commands import own_links
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.folders import Trace, trace, untrusted_link

OF_FILE_SYSTEMS = frozenset({"lost+found", ".snapshot", ".zfs", "~snapshot"})
"""What a file system or filer has in its own folder: what fsck found, and snapshots of the whole.

They are no part of a store, and root's alone or read-only, so they are passed over above the day level.
"""

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory that takes part in a store: its path without links, and which directory it is.

    `account`: with whose rights it is read; None: with this process's own.
    """

    real: str
    identity: Identity
    account: Account | None = None


def volume_behind(path: str) -> Volume | None:
    """The directory that a path with links leads to, where they are followed; else None, as for a file."""
    try:
        return _volume(path)
    except OSError:
        return None


def require_store(path: Path) -> Volume:
    """The directory of a store itself, which a setting or a property names. Raises BackupUnsound."""
    place = shlex.quote(str(path))
    try:
        found = _volume(str(path.absolute()))
    except OSError as error:
        raise BackupUnsound(
            f"the content store {path} cannot be read: {error.strerror}: {error.filename}",
            f"ls -ld {place}; run the backup as root or as the owner of the store",
        ) from error
    if found is None:
        raise BackupUnsound(
            f"the content store {path} is no directory, or a link of another account on the way to it leads "
            "to a directory that is not that account's own: root does not follow it",
            own_links(untrusted_link(path) or path),
        )
    return found


def leads_out(text: str, link: str) -> bool:
    """Whether the text of a link at `link`, a path relative to its store, leads out of the store.

    An absolute path does: in a restored store it would lead to where the old one was.
    """
    if text.startswith("/"):
        return True
    place = os.path.normpath(os.path.join(os.path.dirname(link), text))  # noqa: PTH118, PTH120 - text paths
    return place == ".." or place.startswith("../")


def _volume(path: str) -> Volume | None:
    found = trace(path)
    maker = next(iter(found.makers), None)
    if not stat.S_ISDIR(found.status.st_mode):
        return None
    if maker and (len(found.makers) > 1 or not _is_of(maker.uid, found)):
        return None
    return Volume(found.real, (found.status.st_dev, found.status.st_ino), maker)


def _is_of(uid: int, found: Trace) -> bool:
    """Whether a directory, or else all in it, belongs to an account. Raises OSError."""
    if found.status.st_uid == uid:
        return True
    with os.scandir(found.real) as entries:
        return all(
            entry.name in OF_FILE_SYSTEMS or entry.stat(follow_symlinks=False).st_uid == uid
            for entry in entries
        )
