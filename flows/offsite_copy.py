"""Flow `offsite-copy`."""

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.errors import HostBusy
from alfresco_backup.offsite.copy import Sent, with_sent
from alfresco_backup.offsite.locks import action_lock
from alfresco_backup.offsite.state import note_sets, noted
from tasks.alerts.hooks import HOOKS
from tasks.offsite.copy import plan_copy_of, send, show_sets
from tasks.runs.history import finished, run_name
from tasks.runs.host_lock import skipped
from tasks.runs.identity import load_own_host


@flow(name="offsite-copy", flow_run_name=run_name, **HOOKS)
def offsite_copy() -> State[str]:
    """Send the backup sets that the off-site repository does not have yet.

    Each backup ID becomes one encrypted snapshot there: base backup, the day trees that its run copied, the
    snapshot's links, configuration and the metadata of all sets. A set counts when everything it refers to is
    there. It waits for no backup and holds up none.
    """
    host = load_own_host()
    try:
        with action_lock(host, "copy"), noted(host, "copy") as note:
            engine, far, shipments = plan_copy_of(host)
            sent: list[Sent] = []
            for shipment in shipments:
                if done := send(host, engine, shipment):
                    sent.append(done)
                    note_sets(host, with_sent(host, far, sent))  # a first copy may take days
            note.sent_bytes = sum(item.added_bytes for item in sent)
            note.sentence = show_sets(host, engine, far, sent)
    except HostBusy as busy:
        return skipped(busy.message)
    return finished(note.sentence, note.sentence)
