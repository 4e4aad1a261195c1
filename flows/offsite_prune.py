"""Flow `offsite-prune`."""

from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import form_field
from alfresco_backup.errors import HostBusy
from alfresco_backup.offsite.locks import action_lock
from alfresco_backup.offsite.state import noted
from tasks.alerts.hooks import HOOKS
from tasks.offsite.prune import apply_prune, plan_prune_of
from tasks.runs.history import finished, run_name
from tasks.runs.host_lock import skipped
from tasks.runs.identity import load_own_host


@flow(name="offsite-prune", flow_run_name=run_name, **HOOKS)
def offsite_prune(
    mode: Annotated[
        Literal["plan", "execute", "settings"],
        form_field(
            "Mode", "plan: show what may go; execute: remove it; settings: execute where OFFSITE_PRUNE=yes"
        ),
    ] = "settings",
    damaged: Annotated[
        bool, form_field("Damaged", "only what uses packs that the last check found to be damaged")
    ] = False,
) -> State[str]:
    """Remove from the off-site repository what local retention removed OFFSITE_GRACE_DAYS ago.

    It never goes below the minimum redundancy of complete sets there, and does nothing while retention is on
    hold or BACKUP_DIR is not as it should be. It waits until nobody writes to the repository.
    """
    host = load_own_host()
    try:
        with action_lock(host, "prune"), noted(host, "prune") as note:
            plan = plan_prune_of(host, damaged=damaged)
            note.sentence = plan.summary()
            only_shown = mode == "settings" and (plan.held or not host.settings.offsite_prune)
            if mode == "plan" or only_shown or plan.empty:
                return finished(plan.summary(), plan.text())
            note.sentence = apply_prune(host, plan)
    except HostBusy as busy:
        return skipped(busy.message)
    return finished(note.sentence, note.sentence)
