"""Flow `undo-restore`."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import Confirm, PlanOrExecute, form_field
from alfresco_backup.host.host import load_host
from alfresco_backup.restore.planning.request import LATEST, require_confirmed
from tasks.alerts.hooks import HOOKS
from tasks.restore.plan import restore_lock
from tasks.restore.undo import discard_set_aside, plan_undo, put_back, undo_text
from tasks.restore.undo_outcome import accept_restore, look_for_documents
from tasks.runs.history import finished, run_name


@flow(name="undo-restore", flow_run_name=run_name, retries=0, **HOOKS)
def undo_restore(
    restore: Annotated[str, form_field("Restore", "stamp of the restore, or `latest`")] = LATEST,
    discard: Annotated[
        bool, form_field("Discard", "remove for good what the restore set aside, instead of putting it back")
    ] = False,
    accept: Annotated[
        bool, form_field("Accept", "count an unfinished restore as complete: the rest was done by hand")
    ] = False,
    mode: PlanOrExecute = "plan",
    confirm: Confirm = "",
) -> State[str]:
    """Put this host back as it was before a restore: after a failure, after a kill at any point, or later.

    Everything is known from the restore's journal. Repeating it is harmless: it goes on where it stopped.
    What the restore had brought is set aside in turn, once somebody can have worked with it. With `discard`
    the data that the restore set aside is removed instead, and it cannot be undone any more. With `accept` an
    unfinished restore counts as complete, its open database as the host's own. After undoing and accepting,
    every document of a database that runs is looked for. Mode `plan` shows what would be done.
    """
    host = load_host()
    if mode == "execute":
        require_confirmed("an undo", confirm, host.name)
    with restore_lock(host, mode):
        record = plan_undo(host, restore, discard=discard, accept=accept)
        if mode == "plan":
            text = undo_text(record, discard=discard, accept=accept)
            return finished(f"planned, nothing touched: restore {record.stamp}", text)
        if discard:
            done = discard_set_aside(host, record)
            return finished(done, done)
        done = accept_restore(host, record) if accept else put_back(host, record)
        return finished(done, f"{done}. {look_for_documents(host, record)}")
