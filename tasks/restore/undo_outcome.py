"""Instead of an undo: an unfinished restore is accepted. After both: the content check."""

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
from alfresco_backup.restore.recovery.recovery_settings import RESTRICTED_HBA
from alfresco_backup.restore.undo.undo_plan import set_aside_by
from alfresco_backup.settings.commands import accept_command, undo_command
from tasks.restore.content_check import check_documents
from tasks.restore.opening import restart_with_normal_access
from tasks.restore.undo import undo_log

FINDINGS = "undo-content-check.csv"
STILL_RESTRICTED = (
    "; only the restore can connect until the recovery is ended as docs/explanation/restores.md describes "
    "under Recovery settings"
)


@task(name="accept-restore", task_run_name="accept the restore", cache_policy=NO_CACHE, retries=0)
def accept_restore(host: Host, record: Record) -> str:
    """Count an unfinished restore as complete. Raises Refused unless the database accepts connections.

    One that was recovered and still has restricted access, since the restore was interrupted, is restarted
    first; then BackupError.
    """
    restarted = False
    if record.recovered and Step.OPEN_DATABASE not in record.done and is_restricted(host):
        get_run_logger().info(
            "restarting PostgreSQL with its normal pg_hba.conf (until now only the restore could connect)"
        )
        restart_with_normal_access(host, undo_log(host, record))
        restarted = True
    try:
        require_usable(host, record)
    except Refused as error:
        if restarted:  # it would tell that nothing was changed
            raise BackupError(f"{error.message}; it was restarted with normal access", error.hint) from error
        raise
    Journal(record.path).accept(record.not_done, accept_command(record.restore_id, record.host))
    not_done = ", ".join(record.not_done) or "none"
    get_run_logger().warning("restore %s accepted; steps not done: %s", record.restore_id, not_done)
    return f"restore {record.restore_id} of {host.name} counts as complete; steps not done: {not_done}"


def is_restricted(host: Host) -> bool:
    """Whether only the restore can connect to a running server, its restart having begun or not."""
    if (host.installation.data_directory / RESTRICTED_HBA).exists():
        return True
    if look_at(host, "postgresql").down:
        return False
    try:
        host.database.value("SELECT 1")
    except ToolFailed:
        return True
    return False


def require_usable(host: Host, record: Record) -> None:
    """Raise Refused unless PostgreSQL answers and has ended its recovery: it will be backed up."""
    undo = f"{undo_command(record.restore_id, record.host)}  # to undo the restore instead"
    again = f"{accept_command(record.restore_id, record.host)}  # once that is fixed\n{undo}"
    head = f"restore {record.restore_id} cannot be accepted"
    try:
        answer = host.database.value("SELECT pg_is_in_recovery()")
    except ToolFailed as error:
        restricted = (host.installation.data_directory / RESTRICTED_HBA).exists()
        why = STILL_RESTRICTED if restricted else "; start PostgreSQL first"
        raise Refused(f"{head}: the database does not answer: {error.message}{why}", again) from error
    if answer != "f":
        raise Refused(f"{head}: PostgreSQL is still in recovery and must be promoted first", again)


@task(name="look-for-documents", task_run_name="content check", cache_policy=NO_CACHE, retries=0)
def look_for_documents(host: Host, record: Record) -> str:
    """Check the content file of every document of the database that runs now; says what was found.

    Raises DocumentsMissing, which names where the files may be, or why the check failed. The undo or the
    acceptance is complete by then, so the host's places are looked up again.
    """
    host = host.looked_at_again()
    if look_at(host, "postgresql").down:
        return "PostgreSQL is down, so its documents were not checked"
    try:
        result = check_documents(host, record.folder / FINDINGS)
        result.require_complete()
    except DocumentsMissing as error:
        error.hint = "\n".join([error.hint, *bring_documents_back(host, record)])
        raise
    except BackupError as error:
        error.message += " (only the content check failed; everything before it is complete)"
        raise
    return result.sentence()


def bring_documents_back(host: Host, record: Record) -> Iterator[str]:
    """The commands for documents that were written to a store which the undo set aside."""
    replaced = {act.source for act in set_aside_by(record)}
    for store in host.installation.stores.values():
        for kept in sorted(store.parent.glob(f"{glob.escape(store.name)}.undone-{record.restore_id}*")):
            if store in replaced:
                command = shlex.join(("rsync", "-a", "--ignore-existing", f"{kept}/", f"{store}/"))
                yield f"{command}  # copies those written since the restore"
