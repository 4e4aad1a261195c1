"""Which data directories the PostgreSQL programs of this host must not start, and why.

A server in a container is seen by no pg_ctl of the host: it would start a second one on live data. And
another libc has other collations, with which text indexes are damaged in silence by a server that starts as
if all were well.
"""

import platform
from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.findings import Finding, error
from alfresco_backup.host.containers import MUSL
from alfresco_backup.host.host import Host
from alfresco_backup.host.one_off_server import why_no_one_off
from alfresco_backup.host.postmaster import postmaster, workers_in
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.settings.commands import edit_setting


def libc_here() -> str:
    """The libc of this host's programs, as BaseBackup.libc names it."""
    return platform.libc_ver()[0] or MUSL  # which it does not know


def why_not_started_here(
    host: Host, base: BaseBackup | None = None, wal: tuple[Path, str] | None = None
) -> Finding | None:
    """Why no server is started here for a recovery of the data directory, or of a base backup of it.

    That of a container is started in a one-off container of its image, never with the programs of this host.
    None where nothing is known against it. Changes nothing. `wal`: see why_no_one_off.
    """
    if host.settings.pg_container:
        return why_no_one_off(host, base, wal)
    directory = host.installation.data_directory
    elsewhere = [] if postmaster(directory) else [each for each in workers_in(directory) if each.elsewhere]
    if elsewhere:
        return error(
            "PostgreSQL",
            f"{elsewhere[0]} works in {directory}: the programs of this host must never start this data "
            "directory, and PG_CONTAINER is not set",
            "\n".join(edit_setting(name) for name in ("PG_CONTAINER", "ALF_CONTAINERS")),
        )
    if base is not None and base.libc not in ("", libc_here()):
        return error(
            "PostgreSQL",
            f"base backup {base.stamp} is of a server with {base.libc} (image {base.image}), the programs of "
            f"this host are of {libc_here()}, which sorts text differently: indexes would be damaged",
            edit_setting("PG_CONTAINER"),
        )
    return None


def why_not_backed_up_here(host: Host) -> Finding | None:
    """Why a backup is refused: its server is in a container that no setting names. None where it is not."""
    return None if host.settings.pg_container else why_not_started_here(host)


def require_startable_here(host: Host, base: BaseBackup | None = None) -> None:
    """Raise Refused for what why_not_started_here says."""
    if reason := why_not_started_here(host, base):
        raise Refused(reason.line, reason.fix)
