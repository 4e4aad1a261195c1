"""What a finding of a drill is about: the set that was restored, or something else. Reads that set's files.

Only what is about the set counts against it: retention prefers others to a set that was found damaged. A step
that could not do its work has found nothing, whatever stopped it.
"""

import errno
import hashlib
import re
from collections.abc import Mapping

from alfresco_backup.errors import (
    BackupError,
    BackupUnsound,
    DocumentsMissing,
    RecoveryNotReached,
    ToolFailed,
    ToolTimedOut,
)
from alfresco_backup.repository.records import BaseBackup, BaseFile
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.settings.commands import program_command
from alfresco_backup.wal.chain import keeps_own_wal

_DAMAGED = (errno.EIO, errno.EUCLEAN)
# Not that database files are incompatible: this host's programs may lack a locale, which is no damage.
_CORRUPTION = re.compile(
    r"invalid page|page verification failed|could not read block|missing chunk number|unexpected chunk"
    r'|relation "[^"]*" does not exist'
    r"|could not locate a valid checkpoint record|invalid (primary )?checkpoint record"
    r'|could not open file "(base|global|pg_xact|pg_multixact|pg_tblspc)/'
    r"|could not access status of transaction|cache lookup failed|WAL contains references to invalid pages"
    r"|invalid memory alloc request size|initialized with PG_CONTROL_VERSION"
    r"|incorrect checksum in control file",
    re.IGNORECASE,
)
_OF_THE_HOST = re.compile(
    r"No space left on device|out of memory|Input/output error|Permission denied|Too many open files",
    re.IGNORECASE,
)


def is_damage(error: BackupError, target: Target) -> bool:
    """Whether an error that ended a drill says that its set is damaged.

    Recovery that did not reach the end of the base backup does. Beyond that end it is about the WAL archive.
    So does a server that ends, or fails a query, with PostgreSQL's own words for corrupt data, by which no
    earlier drill counts any more. Any other end has proved nothing; nor has one in which the host's disk or
    memory is named as the cause.
    """
    if isinstance(error, RecoveryNotReached):
        return target.kind == "immediate"
    if isinstance(error, BackupUnsound | DocumentsMissing):
        return True
    if isinstance(error, ToolTimedOut) or _OF_THE_HOST.search(error.message):
        return False
    return _CORRUPTION.search(error.message) is not None


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
