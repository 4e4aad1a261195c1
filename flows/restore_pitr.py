"""Flow `restore-pitr`."""

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import (
    Backup,
    Confirm,
    Content,
    PlanOrExecute,
    StartAlfresco,
    TargetTime,
    Timeline,
)
from alfresco_backup.host.host import load_host
from alfresco_backup.restore.planning.request import LATEST, RestoreRequest
from flows.restore_full import restore_everything
from tasks.alerts.hooks import HOOKS
from tasks.restore.plan import plan_or_execute
from tasks.runs.history import run_name


@flow(name="restore-pitr", flow_run_name=run_name, retries=0, **HOOKS)
def restore_pitr(  # noqa: PLR0913, PLR0917 - the fields of a form
    target_time: TargetTime,
    contentstore: Content = "fill",
    mode: PlanOrExecute = "plan",
    confirm: Confirm = "",
    start_alfresco: StartAlfresco = True,
    timeline: Timeline = None,
    backup: Backup = LATEST,
) -> State[str]:
    """Restore database and documents of this host to a moment: all that was committed by then, nothing later.

    The newest base backup before the moment is taken, or the named one, and the WAL from there to the moment;
    documents come from the copies around it. A moment that cannot be reached is refused, with what can be.

    Mode `plan` shows what would be stopped, moved and written, how long it takes and what will be lost, and
    touches nothing. To execute, `confirm` must be the host's name. What is in place now is set aside beside
    where it lies, never removed; `undo-restore` puts it back, after a failure or later. Everything that can
    refuse is checked first. At the end every document of the database is looked for in the content store;
    the run fails with their list when documents are missing.
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
    )
    return plan_or_execute(load_host(), request, restore_everything)
