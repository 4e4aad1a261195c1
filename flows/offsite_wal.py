"""Flow `offsite-wal`."""

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.errors import HostBusy
from alfresco_backup.offsite.locks import action_lock
from alfresco_backup.offsite.state import noted
from tasks.alerts.hooks import HOOKS
from tasks.offsite.copy import send_archive
from tasks.runs.history import finished, run_name
from tasks.runs.host_lock import skipped
from tasks.runs.identity import load_own_host


@flow(name="offsite-wal", flow_run_name=run_name, **HOOKS)
def offsite_wal() -> State[str]:
    """Send the WAL archive to the off-site repository: what was committed since is what a fire would cost.

    While another machine's or a pruning run has locked the repository it is skipped; the next run is minutes
    away.
    """
    host = load_own_host()
    try:
        with action_lock(host, "wal"), noted(host, "wal") as note:
            note.sent_bytes, note.sentence = send_archive(host)
    except HostBusy as busy:
        return skipped(busy.message)
    return finished(note.sentence, note.sentence)
