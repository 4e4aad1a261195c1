"""Access to a recovered database: restricted to the restore at first, normal once all is restored."""

from dataclasses import replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.errors import BackupError, RecoveryNotReached, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.host.service_control import require_down, start_service, stop_service
from alfresco_backup.host.services import pid_file_of
from alfresco_backup.postgres.conf_file import AUTO_CONF
from alfresco_backup.postgres.database import Database
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.recovery.recovery_files import apply_files, pg_ctl_starts, read_text
from alfresco_backup.restore.recovery.recovery_settings import RESTRICTED_HBA, after_promotion, socket_of
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.settings.commands import accept_command, edit_setting
from alfresco_backup.system.accounts import owner_of


@task(name="open-database", task_run_name="open the database to clients", cache_policy=NO_CACHE, retries=0)
def open_database(restoration: Restoration) -> None:
    """Give normal access to the restored database, now that documents are in place. Alfresco stays down.

    Does nothing when that has been done.
    """
    if not (restoration.database.data_directory / RESTRICTED_HBA).exists():
        return
    with restoration.step(Step.OPEN_DATABASE):
        give_normal_access(restoration)
    get_run_logger().info("PostgreSQL runs with its normal pg_hba.conf")


def give_normal_access(restoration: Restoration) -> None:
    """Restart the database for normal access. Raises BackupError when Alfresco was started meanwhile."""
    require_down(restoration.host, "alfresco")
    restart_with_normal_access(restoration.host, restoration.log)
    try:
        require_normal_access(restoration.host)
    except BackupError as error:
        accept = accept_command(restoration.plan.restore_id, restoration.plan.host)
        error.hint = "\n".join(
            filter(None, (error.hint, f"{accept}  # once that is fixed: all else is restored"))
        )
        raise


def restart_with_normal_access(host: Host, log: Path) -> None:
    """Remove the recovery settings and restart PostgreSQL by the host's own command, as usual."""
    directory = host.installation.data_directory
    account = owner_of(directory)
    apply_files(after_promotion(read_text(directory / AUTO_CONF, account)), directory, account)
    stop_service(host, "postgresql", log, by_pg_ctl=pg_ctl_starts(directory))
    start_service(host, "postgresql", log)


def require_normal_access(host: Host) -> None:
    """Ask the server whether recovery is over. Raises BackupError when it is not, or does not answer."""
    try:
        answer = host.database.value("SELECT pg_is_in_recovery()")
    except ToolFailed as error:
        raise BackupError(
            f"the restored database does not answer role {host.settings.pguser}: {error.message}; its roles "
            "and passwords are those of the restored state",
            edit_setting("PGUSER") + "\n" + edit_setting("PGPASSWORD"),
        ) from error
    if answer != "f":
        raise RecoveryNotReached("PostgreSQL is still in recovery")


def database_to_check(restoration: Restoration) -> Database:
    """The restored database for the content check, with restricted access where that is possible.

    It is not where the server has no Unix socket, or its account no name: then normal access is given before
    the check. Where only documents are restored it was never restricted.
    """
    usual = restoration.host.database
    if restoration.plan.database is None:
        return usual
    try:
        inside = _restricted_database(restoration)
        inside.value("SELECT 1")
    except (ToolFailed, OSError) as error:
        get_run_logger().warning("normal access to the database is given before the content check: %s", error)
        open_database(restoration)
        return usual
    return inside


def _restricted_database(restoration: Restoration) -> Database:
    """The connection of the restore while all others are rejected. Raises OSError where there is none."""
    host, directory = restoration.host, restoration.database.data_directory
    text = pid_file_of("postgresql", host.installation).read_text(encoding="utf-8", errors="surrogateescape")
    place = socket_of(text, directory)
    if place is None:
        raise FileNotFoundError("PostgreSQL has no Unix socket (unix_socket_directories)")
    folder, port = place
    environment = {**host.database.environment, "PGHOST": str(folder), "PGPORT": port}
    return replace(host.database, environment=environment, account=restoration.account)
