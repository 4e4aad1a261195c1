"""Flow `retention`."""

from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import form_field
from alfresco_backup.restore.journal.unfinished import require_finished
from alfresco_backup.settings.commands import retention_command
from tasks.alerts.hooks import HOOKS
from tasks.backup.retention import apply_retention, plan_retention_of
from tasks.runs.history import finished, run_name
from tasks.runs.host_lock import host_lock
from tasks.runs.identity import load_own_host


@flow(name="retention", flow_run_name=run_name, **HOOKS)
def retention(
    mode: Annotated[
        Literal["plan", "execute"], form_field("Mode", "plan: show what would go; execute: remove it")
    ] = "plan",
) -> State[str]:
    """Remove what the recovery window and the minimum redundancy do not need any more.

    Plan mode changes nothing and shows, as the table artifact `retention-plan`, what is kept and what would
    go, each with the reason. Every backup run does this at its end; this flow is for looking at it, and for
    making room after RETENTION_DAYS was lowered. The newest complete sets, time line histories, journals of
    restores and data they set aside are never removed. While a restore is unfinished, nothing is; nor while
    retention is on hold: `accept` on the command line ends a hold.
    """
    host = load_own_host()
    if mode == "plan":
        plan = plan_retention_of(host)
        removes = f"\n\nTo remove it: {retention_command(host.name)}" if plan.removals else ""
        return finished(plan.summary(), f"{plan.text()}{removes}")
    with host_lock(host):
        require_finished(host.repository.restores(host.name), host.name)
        done = apply_retention(plan_retention_of(host)).summary()
        return finished(done, done)
