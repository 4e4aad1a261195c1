"""Flow `notify`."""

from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import form_field
from tasks.alerts.missed_runs import newer_run_due
from tasks.alerts.watch import look_after_runs, tell_overdue, tell_silent
from tasks.runs.history import finished, run_name
from tasks.runs.host_lock import skipped
from tasks.runs.identity import load_own_host


@flow(name="notify", flow_run_name=run_name)
def notify(
    reason: Annotated[
        Literal["overdue", "silent", "runs"],
        form_field(
            "Reason",
            "overdue: no complete set for too long; silent: a run sends no heartbeat; "
            "runs: end and mail what was left unfinished",
        ),
    ],
    run: Annotated[str, form_field("Run", "with silent: the id of the run")] = "",
) -> State[str]:
    """Look at what an automation has noticed, or has missed, and mail it if it is true.

    Started by the automations `no backup of …` and `silent run of …`, for what no hook of a run can see. An
    overdue backup is looked up in the repository itself; a silent run is given another minute, then shown as
    crashed. Every quarter of an hour all runs are looked at that have given no heartbeat for ten minutes:
    one whose worker was killed before it began, or whose alarm was lost, is ended and mailed then. Nothing is
    mailed when all turns out to be well. Running it by hand does no harm.
    """
    host = load_own_host()
    if reason == "runs" and (missed := newer_run_due()):
        return skipped(missed)
    told = {"overdue": tell_overdue, "runs": look_after_runs}
    sentence = tell_silent(host, run) if reason == "silent" else told[reason](host)
    return finished(sentence, sentence)
