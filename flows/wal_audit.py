"""Flow `wal-audit`."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.alerts.hooks import HOOKS
from tasks.backup.wal_audit import inspect_wal, refuse_endangered
from tasks.runs.history import finished, run_name
from tasks.runs.identity import load_own_host


@flow(name="wal-audit", flow_run_name=run_name, **HOOKS)
def wal_audit() -> State[str]:
    """Check that the WAL archive is unbroken and say from when to when this host can be restored.

    Runs every 15 minutes. Looks at each archived segment once, follows the chain from every kept base backup
    across timelines to the newest segment, and asks the server how archiving goes. Fails when restores are
    endangered: WAL that is missing with no newer base backup behind it, archive_command failing, segments
    that do not arrive. A gap needs a new base backup at once. The table
    `recovery-window` shows what each base backup can be restored to. Changes nothing in the archive.
    """
    result = inspect_wal(load_own_host())
    refuse_endangered(result)
    return finished(result.summary, result.summary)
