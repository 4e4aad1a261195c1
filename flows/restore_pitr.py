"""Flow `restore-pitr`."""

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.host import load_host
from alfresco_backup.restore_parameters import (
    Backup,
    Confirm,
    Content,
    PlanOrExecute,
    StartAlfresco,
    TargetTime,
    Timeline,
)
from alfresco_backup.restore_request import LATEST, RestoreRequest
from tasks.alerts import HOOKS
from tasks.history import finished, run_name
from tasks.recovery import recover_database
from tasks.restoration import begin_restore
from tasks.restore_content import restore_content
from tasks.restore_database import extract_database, set_aside_database, stop_services
from tasks.restore_finish import (
    check_content,
    compare_configuration,
    report_restore,
    set_aside_indexes,
    start_up_alfresco,
)
from tasks.restore_plan import accept_request, plan_restore, planned, restore_slot


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
    host = load_host()
    request = accept_request(
        host,
        RestoreRequest(
            "pitr",
            target_time=target_time,
            timeline=timeline,
            backup=backup,
            contentstore=contentstore,
            start_alfresco=start_alfresco,
            mode=mode,
            confirm=confirm,
        ),
    )
    with restore_slot(host, mode):
        plan = plan_restore(host, request)
        if mode == "plan":
            return planned(plan)
        restoration = begin_restore(host, plan)
        stop_services(restoration)
        set_aside_database(restoration)
        extracted = extract_database(restoration)
        reached = recover_database(restoration)
        content = restore_content(restoration)
        checked = check_content(restoration)
        configuration = compare_configuration(restoration)
        set_aside_indexes(restoration)
        start_up_alfresco(restoration)
        return finished(*report_restore(restoration, checked, content, reached, extracted, configuration))
