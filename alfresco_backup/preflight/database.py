"""Preflight of the database: connection, version, settings, privileges, files, and that archiving works."""

import shlex
from collections.abc import Callable
from pathlib import Path

from alfresco_backup.backup.server import find_tablespaces
from alfresco_backup.contentstore.check_queries import table_exists, url_places
from alfresco_backup.errors import ArchivingBroken, HostNotReady, ToolFailed
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.host.foreign_server import why_not_backed_up_here
from alfresco_backup.host.host import Host, Run
from alfresco_backup.postgres.database import identify_system, system_identifier
from alfresco_backup.postgres.rights import lacking_rights, rights_needed
from alfresco_backup.preflight.files import check_data_directory, check_wal_archive
from alfresco_backup.preflight.rules import judge_content_places, judge_server_settings
from alfresco_backup.settings.commands import configure_command, edit_setting, program_command
from alfresco_backup.wal.archive import check_history, prove_archiving

ARCHIVE_PROOF_SECONDS = 60.0


def check_database(host: Host) -> list[Finding]:
    """Connection, version, programs, settings, privileges, readable files. Changes nothing."""
    if reason := why_not_backed_up_here(host):
        return [reason]
    try:
        server = host.server
    except ToolFailed as failure:
        what = f"does not answer: {failure.tail or failure.message}"
        return [error("server", what, "\n".join(filter(None, (failure.hint, _connection_fix(host)))))]
    except HostNotReady as failure:
        return [error("server", failure.message, failure.hint)]
    if host.settings.pg_container and not server.has_manifest:
        what = f"is PostgreSQL {server.label} in a container; supported there are 13 and later"
        return [error("server", what, "upgrade PostgreSQL")]
    superuser = check_superuser(host)
    findings = [ok("server", f"is PostgreSQL {server.label}"), superuser]
    if superuser.level != "error":
        findings += judge_server_settings(
            _server_settings(host), server, streamed=host.settings.wal_streaming and server.has_manifest
        )
    return [
        *findings,
        _finding("pg_basebackup", lambda: f"is {host.backup_client().path('pg_basebackup')}"),
        check_replication(host),
        check_data_directory(host),
        *check_tablespaces(host),
        *check_cluster(host),
        check_wal_archive(host),
    ]


def check_replication(host: Host) -> Finding:
    """Whether PGUSER may replicate: a real replication connection is made."""
    try:
        identity = identify_system(host.database)
    except ToolFailed as failure:
        what = f"{host.settings.pguser} may not replicate: {failure.tail}"
        return error("replication", what, configure_command("--apply"))
    what = f"works; system identifier {identity.system_identifier}, timeline {identity.timeline}"
    return ok("replication", what)


_ABSENT = (
    "SELECT spcname FROM pg_tablespace"
    " WHERE pg_tablespace_location(oid) <> '' AND pg_tablespace_size(oid) IS NULL"
)
"""The size is NULL where the server does not find its own folder there (dbsize.c)."""


def check_tablespaces(host: Host) -> list[Finding]:
    """Whether the files of each tablespace are there: pg_basebackup copies one that is gone as an empty one.

    The server is asked, since the place is a path of its own mount namespace; where the role may not ask,
    the folder is looked at from here.
    """
    spaces = find_tablespaces(host)
    if not spaces:
        return []
    try:
        absent = {name for (name,) in host.superuser_database.query(_ABSENT)}
    except ToolFailed:
        absent = {space.name for space in spaces if not any(Path(space.location).glob("PG_*"))}
    return [
        error(
            f"tablespace {space.name}",
            f"its files are not in {space.location}; a backup would lack them, without an error",
            f"mount {shlex.quote(space.location)}  # then restart PostgreSQL",
        )
        for space in spaces
        if space.name in absent
    ]


def check_superuser(host: Host) -> Finding:
    """Whether PGSUPERUSER can connect, may create restore points and sees how the server archives."""
    role, server = host.settings.pgsuperuser, host.server
    try:
        answer = host.superuser_database.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    except ToolFailed as failure:
        fix = failure.hint or _superuser_settings()
        if rights_needed(server) and host.settings.pgsuperpassword is None:
            fix = f"{configure_command('--apply')}  # gives {host.settings.pguser} the rights instead\n{fix}"
        return error("PGSUPERUSER", f"{role} cannot connect: {failure.tail}", fix)
    if answer == "t":
        return ok("PGSUPERUSER", f"{role} is a superuser")
    if not rights_needed(server):
        what = f"{role} is no superuser, and PostgreSQL {server.label} gives such rights to no other role"
        return error("PGSUPERUSER", what, _superuser_settings())
    lacking = lacking_rights(host.superuser_database, server, role)
    if not lacking:
        return ok("PGSUPERUSER", f"{role} may create restore points and see how the server archives")
    return error("PGSUPERUSER", f"{role} lacks {', '.join(lacking)}", configure_command("--apply"))


def _superuser_settings() -> str:
    return "\n".join(edit_setting(name) for name in ("PGSUPERUSER", "PGSUPERPASSWORD"))


def check_cluster(host: Host) -> list[Finding]:
    """Whether the server that answers is the one of the data directory, which a restore would replace.

    Nothing is said where either cannot be read: other findings tell of that.
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
        f"system identifier mismatch: {directory} is {there}, the server at {settings.pghost}, port "
        f"{settings.pgport}, is {answering} in {place}"
    )
    fix = "\n".join((edit_setting("PG_DATA_DIR", place), edit_setting("PGPORT")))
    return [error("data directory", what, fix)]


def check_content_places(host: Host) -> list[Finding]:
    """Whether the content URLs of the database lead to stores that the backup contains; else which ones.

    Of a `store://` URL the first folder is looked for; whether each file is there the content check tells.
    """
    try:
        if host.database.value(table_exists("alf_content_url")) != "t":
            return []
        rows = host.database.query(url_places())
    except ToolFailed as failure:
        fix = f"{program_command('content-check')}  # shows why"
        return [warning("content URLs", f"could not be read: {failure.tail or failure.message}", fix)]
    places = {(protocol, first): int(count) for protocol, first, count in rows}
    stores = (store for store in host.installation.stores.values() if store.is_dir())
    return judge_content_places(places, {path.name for store in stores for path in store.iterdir()})


def check_archiving(run_: Run) -> list[Finding]:
    """Whether archiving works: writes a restore point, switches the segment, archives the history."""
    return [
        _finding("archiving", lambda: _archived(run_)),
        _finding("timeline", lambda: check_history(run_.host)),
    ]


def _archived(run_: Run) -> str:
    limit = min(ARCHIVE_PROOF_SECONDS, run_.settings.archive_wait_minutes * 60)
    return f"works: segment {prove_archiving(run_.host, run_.stamp, limit)} arrived"


def _finding(subject: str, check: Callable[[], str]) -> Finding:
    """A check that raises one of our errors becomes a finding with its hint."""
    try:
        return ok(subject, check())
    except (HostNotReady, ArchivingBroken, ToolFailed) as failure:
        return error(subject, failure.message, failure.hint or "read the server's log")


def _server_settings(host: Host) -> dict[str, str]:
    rows = host.superuser_database.query(
        "SELECT name, setting FROM pg_settings WHERE name IN ('wal_level', 'archive_mode', 'archive_command',"
        " 'archive_library', 'max_wal_senders', 'archive_timeout')"
    )
    return {row[0]: row[1] for row in rows}


def _connection_fix(host: Host) -> str:
    settings = host.settings
    words = ("-h", settings.pghost, "-p", str(settings.pgport), "-U", settings.pguser, settings.pgdatabase)
    return shlex.join((host.psql.path("psql"), *words))
