"""Preflight of the database: connection, version, settings, privileges, files, and that archiving works."""

import shlex
from collections.abc import Callable

from alfresco_backup.archive import prove_archiving
from alfresco_backup.database import identify_system, system_identifier
from alfresco_backup.errors import ArchivingBroken, HostNotReady, ToolFailed
from alfresco_backup.history_file import check_history
from alfresco_backup.host import Host, Run
from alfresco_backup.preflight import Finding, error, judge_server_settings, ok
from alfresco_backup.preflight_files import check_data_directory, check_wal_archive, how_to_archive
from alfresco_backup.preflight_roles import check_replication, check_superuser

ARCHIVE_PROOF_SECONDS = 60.0


def check_database(host: Host) -> list[Finding]:
    """Connection, version, programs, settings, privileges, readable files. Changes nothing."""
    try:
        server = host.server
    except ToolFailed as failure:
        return [
            error("server", f"cannot be asked: {failure.tail or failure.message}", _connection_mend(host))
        ]
    except HostNotReady as failure:
        return [error("server", failure.message, failure.hint)]
    superuser = check_superuser(host)
    findings = [ok("server", f"is PostgreSQL {server.label}"), superuser]
    if superuser.level != "error":
        findings += judge_server_settings(_server_settings(host), server, how_to_archive(host))
    return [
        *findings,
        _finding("pg_basebackup", lambda: f"is {host.backup_client().path('pg_basebackup')}"),
        check_replication(host),
        check_data_directory(host),
        *check_cluster(host),
        check_wal_archive(host),
    ]


def check_cluster(host: Host) -> list[Finding]:
    """Whether the server that answers is the one of the data directory, which a restore would replace.

    Nothing is said where either cannot be looked at: other findings tell of that.
    """
    directory = host.installation.data_directory
    try:
        answering, there = identify_system(host.database).system_identifier, system_identifier(directory)
        if there in ("", answering):
            return []
        place = host.superuser_database.value("SHOW data_directory")
    except ToolFailed:
        return []
    settings = host.settings
    what = (
        f"{directory} is of the cluster {there}, but the server at {settings.pghost}, port {settings.pgport}"
        f", is {answering} in {place}"
    )
    mend = f"set PG_DATA_DIR={place} in the .env, or PGHOST and PGPORT to the server of {directory}"
    return [error("data directory", what, mend)]


def check_archiving(run_: Run) -> list[Finding]:
    """That archiving works, proven: writes a restore point, switches the segment, archives the history."""
    return [
        _finding("archiving", lambda: _proof(run_)),
        _finding("timeline", lambda: check_history(run_.host)),
    ]


def _proof(run_: Run) -> str:
    limit = min(ARCHIVE_PROOF_SECONDS, run_.settings.archive_wait_minutes * 60)
    return f"works: segment {prove_archiving(run_.host, run_.stamp, limit)} arrived"


def _finding(subject: str, look: Callable[[], str]) -> Finding:
    """A look that raises one of our errors becomes a finding with its hint."""
    try:
        return ok(subject, look())
    except (HostNotReady, ArchivingBroken, ToolFailed) as failure:
        return error(subject, failure.message, failure.hint or "look at the server's log")


def _server_settings(host: Host) -> dict[str, str]:
    rows = host.superuser_database.query(
        "SELECT name, setting FROM pg_settings WHERE name IN ('wal_level', 'archive_mode', 'archive_command',"
        " 'archive_library', 'max_wal_senders', 'archive_timeout')"
    )
    return {row[0]: row[1] for row in rows}


def _connection_mend(host: Host) -> str:
    settings = host.settings
    words = ("-h", settings.pghost, "-p", str(settings.pgport), "-U", settings.pguser, settings.pgdatabase)
    return "see whether it runs and lets this in: " + shlex.join(("psql", *words))
