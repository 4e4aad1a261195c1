"""Flow `restore-postgres`."""

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import (
    Backup,
    Confirm,
    From,
    OptionalTargetTime,
    PlanOrExecute,
    StartAlfresco,
    Timeline,
)
from alfresco_backup.restore.planning.request import LATEST, RestoreRequest
from flows.restore_full import carry_out
from tasks.alerts.hooks import HOOKS
from tasks.restore.plan import plan_or_execute
from tasks.runs.history import run_name
from tasks.runs.identity import load_own_host


@flow(name="restore-postgres", flow_run_name=run_name, retries=0, **HOOKS)
def restore_postgres(  # noqa: PLR0913, PLR0917 - the fields of a form
    backup: Backup = LATEST,
    target_time: OptionalTargetTime = None,
    mode: PlanOrExecute = "plan",
    confirm: Confirm = "",
    start_alfresco: StartAlfresco = True,
    timeline: Timeline = None,
    source: From = "local",
) -> State[str]:
    """Restore the database of this host only, to the end of a backup or to a target time; not the documents.

    Mode `plan` shows what would be stopped, moved and written, how long it takes and what will be lost, and
    changes nothing. To execute, `confirm` must be the host's name. The present data is set aside beside its
    place, never removed; `undo-restore` brings it back, after a failure or later. Everything that can refuse
    is checked first. At the end the content file of every document of the database is checked; the run fails
    with a list when some are missing.

    Source `offsite` plans from the off-site copy, fetches what is needed into BACKUP_DIR and restores from
    there; mode `plan` fetches metadata only.
    """
    request = RestoreRequest(
        "postgres",
        backup=backup,
        target_time=target_time,
        timeline=timeline,
        start_alfresco=start_alfresco,
        mode=mode,
        confirm=confirm,
        source=source,
    )
    return plan_or_execute(load_own_host(), request, carry_out)
