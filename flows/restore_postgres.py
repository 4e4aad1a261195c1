"""Flow `restore-postgres`."""

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import (
    Backup,
    Confirm,
    OptionalTargetTime,
    PlanOrExecute,
    StartAlfresco,
    Timeline,
)
from alfresco_backup.host.host import load_host
from alfresco_backup.restore.planning.request import LATEST, RestoreRequest
from alfresco_backup.restore.recovery.restoration import Restoration
from tasks.alerts.hooks import HOOKS
from tasks.restore.database import extract_database, set_aside_database, stop_services
from tasks.restore.finish import (
    Restored,
    check_content,
    compare_configuration,
    report_restore,
    set_aside_indexes,
    start_up_alfresco,
)
from tasks.restore.opening import open_database
from tasks.restore.plan import plan_or_execute
from tasks.restore.recovery import recover_database
from tasks.runs.history import finished, run_name


@flow(name="restore-postgres", flow_run_name=run_name, retries=0, **HOOKS)
def restore_postgres(
    backup: Backup = LATEST,
    target_time: OptionalTargetTime = None,
    mode: PlanOrExecute = "plan",
    confirm: Confirm = "",
    start_alfresco: StartAlfresco = True,
    timeline: Timeline = None,
) -> State[str]:
    """Restore the database of this host alone, to the end of a backup or to a moment; not the documents.

    Mode `plan` shows what would be stopped, moved and written, how long it takes and what will be lost, and
    touches nothing. To execute, `confirm` must be the host's name. What is in place now is set aside beside
    where it lies, never removed; `undo-restore` puts it back, after a failure or later. Everything that can
    refuse is checked first. At the end every document of the database is looked for in the content store;
    the run fails with their list when documents are missing.
    """
    request = RestoreRequest(
        "postgres",
        backup=backup,
        target_time=target_time,
        timeline=timeline,
        start_alfresco=start_alfresco,
        mode=mode,
        confirm=confirm,
    )
    return plan_or_execute(load_host(), request, restore_database)


def restore_database(restoration: Restoration) -> State[str]:
    """The steps of a restore of the database alone, in their order."""
    stop_services(restoration)
    set_aside_database(restoration)
    extracted = extract_database(restoration)
    reached = recover_database(restoration)
    checked = check_content(restoration)
    configuration = compare_configuration(restoration)
    set_aside_indexes(restoration)
    open_database(restoration)
    started = start_up_alfresco(restoration)
    done = Restored(checked, started, (), reached, extracted, configuration)
    return finished(*report_restore(restoration, done))
