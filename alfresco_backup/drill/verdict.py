"""What a finding of a drill is about: the set that was restored, or something else. Reads that set's files.

Only what is about the set counts against it: retention prefers others to a set that was found damaged. A step
that could not do its work has found nothing, whatever stopped it.
"""

import errno
import hashlib
from collections.abc import Mapping

from alfresco_backup.errors import (
    BackupError,
    BackupUnsound,
    DocumentsMissing,
    RecoveryNotReached,
    ToolFailed,
)
from alfresco_backup.repository.records import BaseBackup, BaseFile
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.settings.commands import program_command
from alfresco_backup.wal.chain import keeps_own_wal

_DAMAGED = (errno.EIO, errno.EUCLEAN)


def is_damage(error: BackupError, target: Target) -> bool:
    """Whether an error that ended a drill says that its set is damaged.

    Recovery that did not reach the end of the base backup does. Beyond that end it is about the WAL archive.
    """
    if isinstance(error, RecoveryNotReached):
        return target.kind == "immediate"
    return isinstance(error, BackupUnsound | DocumentsMissing)


def require_whole(base: BaseBackup, error: BackupError) -> None:
    """Raise BackupUnsound where a base backup that could not be extracted differs from its checksums.

    One without any, as of the predecessor, is damaged where gzip ended with 1, as it does for what it cannot
    read.
    """
    wrong = [file.name for file in base.files if file.sha256 and _differs(base, file)]
    if not wrong and not (base.legacy and _is_told_by_gzip(error)):
        return
    what = f"checksum mismatch in {', '.join(wrong)}" if wrong else "a file cannot be decompressed"
    raise BackupUnsound(
        f"base backup {base.stamp} is damaged: {what} ({error.message})", program_command("status")
    ) from error


def _is_told_by_gzip(error: BackupError) -> bool:
    return isinstance(error, ToolFailed) and (error.program, error.returncode) == ("gzip", 1)


def _differs(base: BaseBackup, file: BaseFile) -> bool:
    """Whether a file has not its checksum, or its disk cannot read it. One that is away says nothing."""
    try:
        with (base.path / file.name).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256
    except OSError as failure:
        return failure.errno in _DAMAGED


def needs_segment(base: BaseBackup, name: str) -> bool:
    """Whether a base backup cannot be restored without this file of the WAL archive, to any target time.

    That is so from its beginning to its end, where it does not contain this WAL itself.
    """
    return not keeps_own_wal(base) and base.start_wal <= name.partition(".")[0] <= base.stop_wal


def snapshots_of_set(catalogue: Catalogue, base: BaseBackup) -> Mapping[str, str]:
    """The IDs of the snapshots in a base backup's set, by store."""
    own = next((item for item in catalogue.sets if item.base and item.base.path == base.path), None)
    return {store: snapshot.stamp for store, snapshot in own.snapshots.items()} if own else {}
