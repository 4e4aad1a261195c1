"""Preflight of the database: connection, version, settings, privileges, files, and that archiving works."""

import shlex
from collections.abc import Callable

from alfresco_backup.errors import ArchivingBroken, HostNotReady, ToolFailed
from alfresco_backup.findings import Finding, error, ok
from alfresco_backup.host.host import Host, Run
from alfresco_backup.postgres.database import identify_system, quoted_name, system_identifier
from alfresco_backup.preflight.files import check_data_directory, check_wal_archive, how_to_archive
from alfresco_backup.preflight.rules import judge_server_settings
from alfresco_backup.wal.archive import check_history, prove_archiving

# Preflight of the two roles: what each must be allowed to, and the statement that allows it.


def check_replication(host: Host) -> Finding:
    """Whether PGUSER may replicate: a real replication connection is made."""
    role = quoted_name(host.settings.pguser)
    try:
        identity = identify_system(host.database)
    except ToolFailed as failure:
        fix = (
            f"ALTER ROLE {role} REPLICATION; and a line at the top of pg_hba.conf: {_hba_line(host, role)}; "
            "then SELECT pg_reload_conf()"
        )
        return error("replication", f"{role} may not replicate: {failure.tail}", fix)
    return ok(
        "replication", f"works; system identifier {identity.system_identifier}, timeline {identity.timeline}"
    )


def _hba_line(host: Host, role: str) -> str:
    """The line for the address from which the server sees this machine."""
    client, method = host.database.query(
        "SELECT coalesce(host(inet_client_addr()) || '/' || CASE family(inet_client_addr()) WHEN 4 THEN 32"
        " ELSE 128 END, ''), current_setting('password_encryption')"
    )[0]
    method = "scram-sha-256" if method == "scram-sha-256" else "md5"
    return f"host replication {role} {client} {method}" if client else f"local replication {role} {method}"


def check_superuser(host: Host) -> Finding:
    """Whether PGSUPERUSER can connect, may create restore points and sees how the server archives."""
    role = host.settings.pgsuperuser
    try:
        answer = host.superuser_database.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    except ToolFailed as failure:
        fix = "set PGSUPERPASSWORD in the .env"
        if _grantable(host):
            user = host.settings.pguser
            fix += (
                f"; or PGSUPERUSER={user}, after a superuser's {'; '.join(_grants(host, user))}{_place(host)}"
            )
        return error("PGSUPERUSER", f"{role} cannot connect: {failure.tail}", fix)
    if answer == "t":
        return ok("PGSUPERUSER", f"{role} is a superuser")
    if not _grantable(host):
        fix = f"ALTER ROLE {quoted_name(role)} SUPERUSER, or set PGSUPERUSER in the .env to a superuser"
        return error(
            "PGSUPERUSER", f"{role} is no superuser, and this version grants such rights to none", fix
        )
    questions = [f"has_function_privilege('{name}', 'execute')" for name in _functions(host)]
    questions.append(f"pg_has_role(current_user, '{host.server.monitor_role}', 'usage')")
    if host.superuser_database.value(f"SELECT {' AND '.join(questions)}") == "t":
        return ok("PGSUPERUSER", f"{role} may create restore points and see how the server archives")
    what = f"{role} may not create restore points, switch segments and see archive_command"
    return error("PGSUPERUSER", what, "; ".join(_grants(host, role)) + _place(host))


def _grantable(host: Host) -> bool:
    return bool(host.server.grantable_restore_point and host.server.monitor_role)


def _functions(host: Host) -> tuple[str, str]:
    return "pg_create_restore_point(text)", f"{host.server.switch_wal}()"


def _grants(host: Host, role: str) -> list[str]:
    """What lets a role that is no superuser do all that PGSUPERUSER does for a backup."""
    grants = [f"GRANT EXECUTE ON FUNCTION {name} TO {quoted_name(role)}" for name in _functions(host)]
    return [*grants, f"GRANT {host.server.monitor_role} TO {quoted_name(role)}"]


def _place(host: Host) -> str:
    """Rights on functions are each database's own."""
    return f" (typed in the database {host.settings.pgdatabase})"


ARCHIVE_PROOF_SECONDS = 60.0


def check_database(host: Host) -> list[Finding]:
    """Connection, version, programs, settings, privileges, readable files. Changes nothing."""
    try:
        server = host.server
    except ToolFailed as failure:
        return [error("server", f"cannot be asked: {failure.tail or failure.message}", _connection_fix(host))]
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
    fix = f"set PG_DATA_DIR={place} in the .env, or PGHOST and PGPORT to the server of {directory}"
    return [error("data directory", what, fix)]


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


def _connection_fix(host: Host) -> str:
    settings = host.settings
    words = ("-h", settings.pghost, "-p", str(settings.pgport), "-U", settings.pguser, settings.pgdatabase)
    return "see whether it runs and lets this in: " + shlex.join(("psql", *words))
