"""Flow `restore-contentstore`."""

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import Backup, Confirm, Content, From, PlanOrExecute, StartAlfresco
from alfresco_backup.restore.planning.request import LATEST, RestoreRequest
from alfresco_backup.restore.recovery.restoration import Restoration
from tasks.alerts.hooks import HOOKS
from tasks.restore.content import restore_content
from tasks.restore.database import stop_services
from tasks.restore.finish import Restored, check_content, report_restore, start_up_alfresco
from tasks.restore.plan import plan_or_execute
from tasks.runs.history import finished, run_name
from tasks.runs.identity import load_own_host


@flow(name="restore-contentstore", flow_run_name=run_name, retries=0, **HOOKS)
def restore_contentstore(
    backup: Backup = LATEST,
    contentstore: Content = "fill",
    mode: PlanOrExecute = "plan",
    confirm: Confirm = "",
    start_alfresco: StartAlfresco = True,
    source: From = "local",
) -> State[str]:
    """Restore the documents of this host only, from a backup's snapshot or the newest; not the database.

    Mode `plan` shows what would be stopped, moved and written, how long it takes and what will be lost, and
    changes nothing. To execute, `confirm` must be the host's name. The present data is set aside beside its
    place, never removed; `undo-restore` brings it back, after a failure or later. Everything that can refuse
    is checked first. At the end the content file of every document of the database is checked; the run fails
    with a list when some are missing.

    Source `offsite` plans from the off-site copy, fetches what is needed into BACKUP_DIR and restores from
    there; mode `plan` fetches metadata only.
    """
    request = RestoreRequest(
        "contentstore",
        backup=backup,
        contentstore=contentstore,
        start_alfresco=start_alfresco,
        mode=mode,
        confirm=confirm,
        source=source,
    )
    return plan_or_execute(load_own_host(), request, restore_documents)


def restore_documents(restoration: Restoration) -> State[str]:
    """The steps of a restore of the documents only, in their order."""
    stop_services(restoration)
    content = restore_content(restoration)
    checked = check_content(restoration)
    started = start_up_alfresco(restoration)
    return finished(*report_restore(restoration, Restored(checked, started, content)))
