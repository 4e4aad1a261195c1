"""Flow `backup`."""

from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from alfresco_backup.backup.concerns import Part
from alfresco_backup.backup.report import losses_of
from alfresco_backup.backup.solr import IndexBackups, wants_indexes
from alfresco_backup.cli.forms import form_field
from alfresco_backup.errors import HostBusy
from alfresco_backup.host.host import Host
from alfresco_backup.repository.layout import COMPONENTS, Component
from tasks.alerts.hooks import HOOKS
from tasks.alerts.missed_runs import newer_run_due
from tasks.backup.base_backup import make_base_backup
from tasks.backup.begin import begin_run, remove_leftovers_of, settle_repository
from tasks.backup.configuration import copy_configuration, copy_indexes
from tasks.backup.contentstore import snapshot_store
from tasks.backup.preflight import check_host
from tasks.backup.report import report_backup
from tasks.backup.retention import enforce_retention
from tasks.backup.wal_audit import audit_wal
from tasks.restore.undo import discard_old_restores
from tasks.runs.history import finished, name_run, not_searched, publish_catalogue, run_name
from tasks.runs.host_lock import backup_wait, host_lock, skipped, skipped_or_raise
from tasks.runs.identity import load_own_host

Mode = Literal["quick", "full", "checksum"]
EVERYTHING = list(COMPONENTS)


@flow(name="backup", flow_run_name=run_name, **HOOKS)
def backup(
    components: Annotated[list[Component], form_field("Parts", "which parts to back up")] = EVERYTHING,
    contentstore_mode: Annotated[
        Mode,
        form_field(
            "Comparison of the content store",
            "quick: changed days only; full: compare every file; checksum: and every byte",
        ),
    ] = "quick",
) -> State[str]:
    """Back up this Alfresco host into one set and show that it can be restored from.

    Order: removal of what failed runs left, preflight (nothing is copied when it finds an error), Solr's
    copies of its indexes where SOLR_URL is set (one that fails is a warning of the report), base backup of
    the database, content stores (only after the base backup has ended, so that they hold every file it
    refers to), configuration, audit of the WAL archive, retention, removal of what restores set aside over
    SET_ASIDE_DAYS ago. The set is listed only when its parts are whole. Run it at night with all
    components, and hourly with `contentstore` alone. A run that fails leaves older backups as they were.
    While another run holds the host it waits, at most an hour; with `contentstore` alone it is skipped.
    While a restore is unfinished it is refused. Of scheduled runs that were missed because the worker was
    away only the newest is made up for; the others are skipped.
    """
    host = load_own_host()
    if reason := newer_run_due():
        return skipped(reason)
    wait = backup_wait(components, contentstore_mode)
    try:
        with host_lock(host, wait):
            return make_set(host, components, contentstore_mode)
    except HostBusy as busy:
        return skipped_or_raise(busy, wait)


def make_set(host: Host, components: list[Component], contentstore_mode: Mode) -> State[str]:
    """The backup itself, with the host's lock held."""
    run, catalogue = begin_run(host, "backup")
    name_run("backup", components, run.stamp)
    remove_leftovers_of(run, components)
    check_host(run, components, not_searched(catalogue))
    settle_repository(host, catalogue)
    parts: list[Part] = []
    indexes = copy_indexes(run) if wants_indexes(host.settings, components) else IndexBackups()
    if "postgres" in components:
        parts.append(make_base_backup(run))
    if "contentstore" in components:
        parts.extend(snapshot_store(run, store, contentstore_mode) for store in host.installation.stores)
    if "configuration" in components:
        parts.append(copy_configuration(run, not_searched(catalogue), indexes))
    window = audit_wal(host)
    freed = enforce_retention(run)
    discarded = discard_old_restores(host)
    publish_catalogue(host, run.stamp)
    report = report_backup(run, not_searched(parts), window, f"{freed} {discarded}".rstrip(), indexes)
    return finished(f"set {run.stamp} published; {window}{losses_of(parts)}", report)
