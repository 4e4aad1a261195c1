"""Which data directories the PostgreSQL programs of this host must not start, and why.

A server in a container is seen by no pg_ctl of the host: it would start a second one on live data. And
another libc has other collations, with which text indexes are damaged in silence by a server that starts as
if all were well.
"""

import platform

from alfresco_backup.errors import Refused
from alfresco_backup.findings import Finding, error
from alfresco_backup.host.containers import MUSL
from alfresco_backup.host.host import Host
from alfresco_backup.host.postmaster import postmaster, workers_in
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.settings.commands import edit_setting, program_command


def libc_here() -> str:
    """The libc of this host's programs, as BaseBackup.libc names it."""
    return platform.libc_ver()[0] or MUSL  # which it does not know


def why_not_started_here(host: Host, base: BaseBackup | None = None) -> Finding | None:
    """Why this host's programs must not start the server of the data directory, or of a base backup of it.

    None where nothing is known against it. Changes nothing.
    """
    if host.settings.pg_container:
        return error(
            "PostgreSQL",
            f"it runs in container {host.settings.pg_container}; restores, drills and searches for documents "
            "as of a time are not supported there: this host's programs must not start its data directory",
            f"{program_command('status')}  # what there is; docs/how-to/containers.md: restoring by hand",
        )
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
