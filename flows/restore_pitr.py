"""Flow `restore-pitr`."""

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import (
    Backup,
    Confirm,
    Content,
    From,
    PlanOrExecute,
    StartAlfresco,
    TargetTime,
    Timeline,
)
from alfresco_backup.restore.planning.request import LATEST, RestoreRequest
from flows.restore_full import carry_out
from tasks.alerts.hooks import HOOKS
from tasks.restore.plan import plan_or_execute
from tasks.runs.history import run_name
from tasks.runs.identity import load_own_host


@flow(name="restore-pitr", flow_run_name=run_name, retries=0, **HOOKS)
def restore_pitr(  # noqa: PLR0913, PLR0917 - the fields of a form
    target_time: TargetTime,
    contentstore: Content = "fill",
    mode: PlanOrExecute = "plan",
    confirm: Confirm = "",
    start_alfresco: StartAlfresco = True,
    timeline: Timeline = None,
    backup: Backup = LATEST,
    source: From = "local",
) -> State[str]:
    """Restore database and documents of this host to a target time: all that was committed by then.

    The newest base backup before the target time is taken, or the named one, and the WAL from there on;
    documents come from the snapshots around it. A target time that cannot be restored is refused, with what
    is restorable.

    Mode `plan` shows what would be stopped, moved and written, how long it takes and what will be lost, and
    changes nothing. To execute, `confirm` must be the host's name. The present data is set aside beside its
    place, never removed; `undo-restore` brings it back, after a failure or later. Everything that can refuse
    is checked first. At the end the content file of every document of the database is checked; the run fails
    with a list when some are missing.

    Source `offsite` plans from the off-site copy, fetches what is needed into BACKUP_DIR and restores from
    there; mode `plan` fetches metadata only.
    """
    request = RestoreRequest(
        "pitr",
        target_time=target_time,
        timeline=timeline,
        backup=backup,
        contentstore=contentstore,
        start_alfresco=start_alfresco,
        mode=mode,
        confirm=confirm,
        source=source,
    )
    return plan_or_execute(load_own_host(), request, carry_out)
