"""Flows `offsite-copy`, `offsite-wal`, `offsite-check` and `offsite-prune`."""

from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.cli.forms import form_field
from alfresco_backup.errors import HostBusy
from alfresco_backup.offsite.locks import action_lock
from alfresco_backup.offsite.state import noted
from tasks.alerts.hooks import HOOKS
from tasks.offsite.check import check_far_side
from tasks.offsite.copy import plan_copy_of, require_whole_sets, send_all, send_archive, show_sets
from tasks.offsite.prune import apply_prune, plan_prune_of
from tasks.runs.history import finished, run_name
from tasks.runs.host_lock import skipped
from tasks.runs.identity import load_own_host


@flow(name="offsite-copy", flow_run_name=run_name, **HOOKS)
def offsite_copy() -> State[str]:
    """Send the backup sets that the off-site repository does not have yet.

    Each backup ID becomes one encrypted snapshot there: base backup, the day trees that its run copied, the
    snapshot's links, configuration and the metadata of all sets. Small ones that wait together become one. A
    set counts when everything it refers to is there. It waits for no backup and holds up none.
    """
    host = load_own_host()
    try:
        with action_lock(host, "copy"), noted(host, "copy") as note:
            engine, far, shipments = plan_copy_of(host)
            sent = send_all(host, engine, far, shipments)
            note.sent_bytes = sum(item.added_bytes for item in sent)
            note.sentence = show_sets(host, engine, far, sent)
            require_whole_sets(host, far, sent)
    except HostBusy as busy:
        return skipped(busy.message)
    return finished(note.sentence, note.sentence)


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
