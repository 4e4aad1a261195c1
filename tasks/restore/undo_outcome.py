"""After an undo, or in its place: a restore that counts as complete; documents looked for."""

import glob
import shlex
from collections.abc import Iterator

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import BackupError, DocumentsMissing, Refused, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.host.service_control import look_at
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.restore.journal.journal_record import Record
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.recovery.recovery_settings import CLOSED_HBA
from alfresco_backup.restore.undo.undo_plan import set_aside_by
from alfresco_backup.settings.commands import accept_command, undo_command
from tasks.restore.content_check import check_documents
from tasks.restore.opening import reopen
from tasks.restore.undo import undo_log

FINDINGS = "undo-content-check.csv"
CLOSED = (
    "end the recovery as docs/explanation/restores.md says under Recovery settings, "
    "since until then nobody is let in"
)


@task(name="accept-restore", cache_policy=NO_CACHE, retries=0)
def accept_restore(host: Host, record: Record) -> str:
    """Count an unfinished restore as complete. Raises Refused unless the database is open for work.

    One that was recovered well and is still closed, since the restore ended before its end, is opened first.
    """
    if record.recovered and Step.OPEN_DATABASE not in record.done and is_closed(host):
        get_run_logger().info("restarting PostgreSQL as always: until now it let in nobody but the restore")
        reopen(host, undo_log(host, record))
    require_open(host, record)
    Journal(record.path).accept(record.not_done)
    not_done = ", ".join(record.not_done) or "nothing"
    get_run_logger().warning("restore %s accepted; it did not do: %s", record.stamp, not_done)
    return f"the restore {record.stamp} of {host.name} counts as complete; it did not do: {not_done}"


def is_closed(host: Host) -> bool:
    """Whether a server that runs lets in the restore alone, though opening it may have been begun already."""
    if (host.installation.data_directory / CLOSED_HBA).exists():
        return True
    if look_at(host, "postgresql").down:
        return False
    try:
        host.database.value("SELECT 1")
    except ToolFailed:
        return True
    return False


def require_open(host: Host, record: Record) -> None:
    """Raise Refused unless PostgreSQL answers and is not in recovery: nothing half restored is backed up."""
    undo = f"to go back instead: {undo_command(record.stamp, record.host)}"
    again = f"then: {accept_command(record.stamp, record.host)}\n  {undo}"
    head = f"the restore {record.stamp} cannot be accepted"
    try:
        answer = host.database.value("SELECT pg_is_in_recovery()")
    except ToolFailed as error:
        closed = (host.installation.data_directory / CLOSED_HBA).exists()
        fix = CLOSED if closed else "start PostgreSQL on data that is whole"
        raise Refused(f"{head}: the database does not answer: {error.message}", f"{fix}, {again}") from error
    if answer != "f":
        raise Refused(f"{head}: PostgreSQL is still in recovery", f"promote it, {again}")


@task(name="look-for-documents", cache_policy=NO_CACHE, retries=0)
def look_for_documents(host: Host, record: Record) -> str:
    """Look for every document of the database that runs now; says what was found.

    Raises DocumentsMissing, which names where they may lie, or what kept the check from being made. What was
    to be done with the restore has been done by then; so the host's places are looked up anew.
    """
    host = host.looked_at_again()
    if look_at(host, "postgresql").down:
        return "PostgreSQL is down, so its documents were not looked for"
    try:
        result = check_documents(host, record.folder / FINDINGS)
        result.require_complete()
    except DocumentsMissing as error:
        error.hint = "\n  ".join([error.hint, *documents_may_lie(host, record)])
        raise
    except BackupError as error:
        error.hint += "\n  this concerns the content check only; everything before it was done"
        raise
    return result.sentence()


def documents_may_lie(host: Host, record: Record) -> Iterator[str]:
    """What brings back documents that were written to a store which the undo took out of use."""
    replaced = {act.source for act in set_aside_by(record)}
    for store in host.installation.stores.values():
        for kept in sorted(store.parent.glob(f"{glob.escape(store.name)}.undone-{record.stamp}*")):
            if store in replaced:
                command = shlex.join(("rsync", "-a", "--ignore-existing", f"{kept}/", f"{store}/"))
                yield f"those written since the restore lie in {kept}; to bring them back: {command}"
