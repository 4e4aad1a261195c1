"""Flow `undo-restore`."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import Confirm, PlanOrExecute, form_field
from alfresco_backup.restore.planning.request import LATEST, require_confirmed
from tasks.alerts.hooks import HOOKS
from tasks.restore.plan import restore_lock
from tasks.restore.undo import discard_set_aside, plan_undo, undo_all, undo_text
from tasks.restore.undo_outcome import accept_restore, look_for_documents
from tasks.runs.history import finished, run_name
from tasks.runs.identity import load_own_host


@flow(name="undo-restore", flow_run_name=run_name, retries=0, **HOOKS)
def undo_restore(
    restore: Annotated[str, form_field("Restore", "ID of the restore, or `latest`")] = LATEST,
    discard: Annotated[
        bool,
        form_field("Discard", "remove what the restore set aside instead; no undo then"),
    ] = False,
    accept: Annotated[
        bool, form_field("Accept", "count an unfinished restore as complete: the rest was done by hand")
    ] = False,
    mode: PlanOrExecute = "plan",
    confirm: Confirm = "",
) -> State[str]:
    """Undo a restore: after a failure, after a kill at any point, or later. The host is as before then.

    Everything is read from the restore's journal. An undo can be repeated: it continues where it stopped.
    Data that the restore brought is set aside in turn if it may have been in use. With `discard` the data
    that the restore set aside is removed instead, and the restore cannot be undone any more. With `accept` an
    unfinished restore counts as complete. After an undo or an acceptance the content file of every document
    is checked if the database runs. Mode `plan` shows what would be done.
    """
    host = load_own_host()
    if mode == "execute":
        require_confirmed("an undo", confirm, host.name)
    with restore_lock(host, mode):
        record = plan_undo(host, restore, discard=discard, accept=accept)
        if mode == "plan":
            text = undo_text(record, discard=discard, accept=accept)
            return finished(f"planned, nothing changed: restore {record.restore_id}", text)
        if discard:
            done = discard_set_aside(host, record)
            return finished(done, done)
        done = accept_restore(host, record) if accept else undo_all(host, record)
        return finished(done, f"{done}. {look_for_documents(host, record)}")
