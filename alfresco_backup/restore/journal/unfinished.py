"""While a restore is unfinished, nothing else may change its host."""

from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.restore.journal.journal_record import PENDING, Record, find_unfinished
from alfresco_backup.settings.commands import accept_command, discard_command, undo_command


def way_out(record: Record) -> str:
    """What is left to do where a restore can never be undone, since what that needs is gone for good."""
    if record.state in PENDING:
        way = accept_command(record.stamp, record.host)
        return f"if it is gone for good, bring the host to where it is to stay, by hand, then: {way}"
    return f"if it is gone for good, keep the host as it is: {discard_command(record.stamp, record.host)}"


def require_finished(restores: Path, host: str) -> None:
    """Raise Refused while an unfinished restore is in a host's folder of restores.

    A new restore would set half a database aside, a backup would publish one as a whole.
    """
    for record in find_unfinished(restores):
        raise Refused(
            f"the restore {record.stamp} of {host} is {record.state.value}: the host is in the middle of it "
            f"({record.path})",
            f"{undo_command(record.stamp, host)}\n  or, where it was finished by hand or what is left of it "
            f"is not needed: {accept_command(record.stamp, host)}",
        )
