"""While a restore is unfinished, nothing else may change its host."""

from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.restore.journal.journal_record import PENDING, Record, RestoreState, find_unfinished
from alfresco_backup.settings.commands import accept_command, discard_command, undo_command


def way_out(record: Record) -> str:
    """The command for a restore that can never be undone, since what that needs was removed."""
    if record.state in PENDING:
        accept = accept_command(record.restore_id, record.host)
        return f"{accept}  # only if it was removed, and after the host was put in order by hand"
    discard = discard_command(record.restore_id, record.host)
    return f"{discard}  # only if it was removed: keeps the host as it is"


def require_finished(restores: Path, host: str) -> None:
    """Raise Refused while an unfinished restore is in a host's folder of restores.

    A new restore would set half a database aside, a backup would publish one as complete.
    """
    for record in find_unfinished(restores):
        what = "the undo of restore" if record.state is RestoreState.UNDOING else "restore"
        raise Refused(
            f"{what} {record.restore_id} of {host} was interrupted; this host is only partly restored "
            f"({record.path})",
            f"{undo_command(record.restore_id, host)}\n{accept_command(record.restore_id, host)}  # only if "
            "the rest was done by hand, or is not needed",
        )
