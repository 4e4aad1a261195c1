"""Flow `backup`."""

from typing import Annotated, Literal

from prefect import flow
from pydantic import Field
from tasks.retention import enforce_retention
from tasks.wal import audit_wal

from alfresco_backup.host import load_host
from tasks.base_backup import make_base_backup
from tasks.begin import begin_run
from tasks.configuration import copy_configuration
from tasks.contentstore import snapshot_store
from tasks.host_slot import host_slot
from tasks.preflight import check_host
from tasks.report import base_row, configuration_row, report_backup, snapshot_row

Component = Literal["postgres", "contentstore", "configuration"]
EVERYTHING: list[Component] = ["postgres", "contentstore", "configuration"]


@flow(name="backup")
def backup(
    components: Annotated[list[Component], Field(description="which parts to back up")] = EVERYTHING,
    contentstore_mode: Annotated[
        Literal["quick", "full", "checksum"],
        Field(description="quick: changed days only; full: compare every file; checksum: and every byte"),
    ] = "quick",
) -> str:
    """Back up this Alfresco host into one set and show that it can be restored from.

    Order: preflight (nothing is copied when it finds an error), base backup of the database, content
    stores (only after the base backup has ended, so that they hold every file it refers to), configuration,
    audit of the WAL archive, retention. The set is listed only when its parts are whole. Run it at night
    with all components, and hourly with `contentstore` alone. A run that fails leaves older backups as they
    were.
    """
    host = load_host()
    with host_slot(host):
        run, catalogue = begin_run(host, "backup")
        check_host(run, components, catalogue)
        parts = []
        if "postgres" in components:
            parts.append(base_row(make_base_backup(run)))
        if "contentstore" in components:
            stores = host.installation.stores
            parts.extend(snapshot_row(snapshot_store(run, store, contentstore_mode)) for store in stores)
        if "configuration" in components:
            parts.append(configuration_row(copy_configuration(run, catalogue)))
        window = audit_wal(host)
        freed = enforce_retention(run)
        return report_backup(run, parts, window, freed)
