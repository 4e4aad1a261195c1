"""Flow `undo-restore`."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.form_field import form_field
from alfresco_backup.host import load_host
from alfresco_backup.restore_parameters import Confirm, PlanOrExecute
from alfresco_backup.restore_request import LATEST
from tasks.alerts import HOOKS
from tasks.history import finished, run_name
from tasks.restore_plan import restore_slot
from tasks.undo import confirm_undo, discard_set_aside, plan_undo, put_back, undo_text


@flow(name="undo-restore", flow_run_name=run_name, retries=0, **HOOKS)
def undo_restore(
    restore: Annotated[str, form_field("Restore", "stamp of the restore, or `latest`")] = LATEST,
    discard: Annotated[
        bool, form_field("Discard", "remove for good what the restore set aside, instead of putting it back")
    ] = False,
    mode: PlanOrExecute = "plan",
    confirm: Confirm = "",
) -> State[str]:
    """Put this host back as it was before a restore: after a failure, after a kill at any point, or later.

    Everything is known from the restore's journal. Repeating it is harmless: it goes on where it stopped.
    What a completed restore had brought is set aside in turn. With `discard` the data that the restore set
    aside is removed instead, and it cannot be undone any more. Mode `plan` shows what would be done.
    """
    host = load_host()
    if mode == "execute":
        confirm_undo(host, confirm)
    with restore_slot(host, mode):
        record = plan_undo(host, restore, discard=discard)
        if mode == "plan":
            return finished(
                f"planned, nothing touched: restore {record.stamp}", undo_text(record, discard=discard)
            )
        done = discard_set_aside(host, record) if discard else put_back(host, record)
        return finished(done, done)
