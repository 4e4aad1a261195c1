"""How much space and how many inodes a run will need, by what the runs before it needed. Pure.

An estimate that is too small stops archiving when the disk fills; one that is too large stops every backup.
So what happens once, such as the first copy of a whole store, is no measure for the runs that follow.
"""

import errno
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median_high

from alfresco_backup.errors import BackupError
from alfresco_backup.repository.records import BaseBackup, Snapshot
from alfresco_backup.settings.commands import program_command, retention_command

RECENT = 20
BASE_MARGIN = 1.5
CONTENT_MARGIN = 2.0
SHARE_OF_THE_STORE = 0.01
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a disk, a quota or a limit of the process says when no more can be written."""


@contextmanager
def telling_of_a_full_disk(host: str, folder: Path) -> Iterator[None]:
    """Around the making of one part of a set in `folder`: raise BackupError where the disk is full there.

    What is left then is `.partial` and no backup.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = shlex.quote(str(folder))
        raise BackupError(
            f"{error.filename or folder} cannot be written: {error.strerror}; this part is not published",
            f"df -h {where}; df -i {where}\n"
            f"{program_command('retention')}  # shows what retention would remove\n"
            f"{retention_command(host)}  # removes it\n"
            f"{program_command('backup')}",
        ) from error


@dataclass(frozen=True)
class Expected:
    """Bytes and directory entries one part is expected to need, and why."""

    bytes: int
    entries: int
    why: str


def expect_base(database_bytes: int, past: Sequence[BaseBackup], *, plain_tars: bool) -> Expected:
    """For a base backup. `plain_tars`: they are there uncompressed at first, beside the compressed ones.

    The WAL written while it is copied arrives in the archive, and is gathered once more for the set. Of that
    the usual amount counts: one copy beside an import must not stop all later ones.
    """
    own = [base for base in past[-RECENT:] if base.stored_bytes and not base.legacy]
    size, why = database_bytes, "the database's size"
    if own:
        size = min(database_bytes, int(max(base.stored_bytes for base in own) * BASE_MARGIN))
        why = "one and a half times the largest recent base backup"
        while_copied = median_high(int(base.stop_lsn) - int(base.start_lsn) for base in own)
        size, why = size + 2 * while_copied, f"{why}, twice the WAL of its time"
    if plain_tars:
        size, why = size + database_bytes, f"{why} and its plain tars"
    return Expected(size, 0, why)


def expect_content(store: str, past: Sequence[Snapshot]) -> Expected | None:
    """For a further snapshot of a store: twice the largest recent one, or a hundredth of the store.

    Snapshots that copied everything do not count. None where there is no earlier one of ours.
    """
    own = [item for item in past if not item.legacy]
    if not own:
        return None
    last = own[-1]
    further = [item for item in own[-RECENT:] if item.new_files < item.files]
    if not further:
        size, files = last.bytes * SHARE_OF_THE_STORE, last.files * SHARE_OF_THE_STORE
        why = f"{store}: a hundredth of it"
    else:
        size = max(item.new_bytes for item in further) * CONTENT_MARGIN
        files = max(item.new_files for item in further) * CONTENT_MARGIN
        why = f"{store}: the largest recent new content, twice"
    # Every new file may be in a folder of its own, and a changed day is linked again as a whole.
    return Expected(int(size), int(files) * 2 + len(last.days), why)
