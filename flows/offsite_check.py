"""Flow `offsite-check`."""

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.errors import HostBusy
from alfresco_backup.offsite.locks import action_lock
from alfresco_backup.offsite.state import noted
from tasks.alerts.hooks import HOOKS
from tasks.offsite.check import check_far_side
from tasks.runs.history import finished, run_name
from tasks.runs.host_lock import skipped
from tasks.runs.identity import load_own_host


@flow(name="offsite-check", flow_run_name=run_name, **HOOKS)
def offsite_check() -> State[str]:
    """Check that what is in the off-site repository is what was sent, and that the sets there are whole.

    restic reads all that describes the copy and one share of the data, another share each time; after
    OFFSITE_CHECK_CYCLE runs all was read. It takes no lock there: the WAL archive is sent meanwhile.
    """
    host = load_own_host()
    try:
        with action_lock(host, "check"), noted(host, "check") as note:
            note.sentence = str(check_far_side(host))
    except HostBusy as busy:
        return skipped(busy.message)
    return finished(note.sentence, note.sentence)
