"""Flow `restore-drill`."""

from datetime import datetime
from functools import partial
from typing import Annotated, get_args

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import BeforeValidator

from alfresco_backup.cli.forms import TEXT, TIME, Backup, form_field, typed_time
from alfresco_backup.drill.plan import DrillRequest, Named, SourceOfDrill
from alfresco_backup.host.host import Run
from alfresco_backup.offsite.drilling import FarCopy
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.request import LATEST
from tasks.alerts.hooks import HOOKS
from tasks.backup.begin import begin_run
from tasks.drill.drill import (
    check_documents,
    check_keystore,
    check_stopped,
    inspect_database,
    plan,
    restore,
    scratch_server,
)
from tasks.drill.offsite import copy_to_drill, fetch_copy, note_content
from tasks.drill.report import report_drill
from tasks.drill.reread import reread_content, verify_wal
from tasks.runs.history import finished, run_name
from tasks.runs.host_lock import host_lock, restore_wait
from tasks.runs.identity import load_own_host

DrillSource = Annotated[
    SourceOfDrill,
    form_field(
        "Source", "local: BACKUP_DIR; offsite: the off-site copy; alternate: the one not drilled last"
    ),
]
DrillTarget = Annotated[
    datetime | Named,
    BeforeValidator(partial(typed_time, words=get_args(Named))),
    TEXT,
    form_field(
        "Target time",
        f"random: any second of the window; latest: end of all WAL; end: end of the backup; or {TIME}",
    ),
]


@flow(name="restore-drill", flow_run_name=run_name, retries=0, **HOOKS)
def restore_drill(
    backup: Backup = LATEST, target_time: DrillTarget = "random", source: DrillSource = "local"
) -> State[str]:
    """Restore a backup beside the live host, check it, remove it: it is then verified by a restore drill.

    The database is restored into a folder of its own and recovered to a target time by an isolated server
    that archives nothing. Every file is compared with the backup's manifest, every page with its checksum,
    and the content file of every document of that time is looked for in the snapshots it would be restored
    from. A part of the stored content and of the WAL archive (DRILL_READ_CYCLE) is read again and compared
    with its checksums. The live host is not changed. The run fails when anything is missing or damaged.

    Source `offsite` restores from the off-site copy into an empty folder, as a host that has lost everything
    would; documents are looked for in that repository's index, and a share of them is fetched and compared.
    """
    host = load_own_host()
    with host_lock(host, restore_wait(host)):
        run, catalogue = begin_run(host, "restore-drill")
        asked = DrillRequest(backup, target_time)
        with copy_to_drill(run, catalogue, asked, source) as far:
            return finished(*drill_of(run, catalogue, asked, far))


def drill_of(run: Run, catalogue: Catalogue, asked: DrillRequest, far: FarCopy | None) -> tuple[str, str]:
    """The steps of a drill of the repository here, or of the off-site copy; its gist and its report."""
    decided = plan(run, catalogue, asked, far)
    content = fetch_copy(run, decided, far) if far else None
    with scratch_server(run, decided, far) as drill:
        reached = restore(drill)
        looked = inspect_database(drill)
        checked = check_documents(drill, run.log.with_suffix(".csv"))
        check_keystore(drill)
        check_stopped(drill)
        if content:
            note_content(drill, content)
        else:
            reread_content(run, drill, catalogue)
        verify_wal(run, drill)
    return report_drill(run, drill, reached, looked, checked)
