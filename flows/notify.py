"""Flow `notify`."""

from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.form_field import form_field
from alfresco_backup.host import load_host
from tasks.history import finished, run_name
from tasks.watch import tell_overdue, tell_silent


@flow(name="notify", flow_run_name=run_name)
def notify(
    reason: Annotated[
        Literal["overdue", "silent"],
        form_field("Reason", "overdue: no complete set for too long; silent: a run sends no sign of life"),
    ],
    run: Annotated[str, form_field("Run", "with silent: the id of the run")] = "",
) -> State[str]:
    """Look at what an automation has noticed and mail it if it is true.

    Started by the automations `no backup of …` and `… fell silent`, for what no hook of a run can see. An
    overdue backup is looked up in the repository itself; a silent run is given another minute, then shown as
    crashed. Nothing is mailed when all turns out to be well. Running it by hand does no harm.
    """
    host = load_host()
    sentence = tell_overdue(host) if reason == "overdue" else tell_silent(host, run)
    return finished(sentence, sentence)
