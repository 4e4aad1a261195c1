"""Flow `offsite-wal`."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.alerts.hooks import HOOKS
from tasks.offsite.copy import send_archive
from tasks.runs.history import finished, run_name
from tasks.runs.identity import load_own_host


@flow(name="offsite-wal", flow_run_name=run_name, **HOOKS)
def offsite_wal() -> State[str]:
    """Send the WAL archive to the off-site repository: what was committed since is what a fire would cost."""
    host = load_own_host()
    sent = send_archive(host)
    return finished("the WAL archive is off-site", f"snapshot {sent.snapshot}")
