"""Preflight of the database: connection, version, settings, privileges, readable files, working archiving."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from alfresco_backup.database import identify_system
from alfresco_backup.errors import ArchivingBroken, HostNotReady, ToolFailed
from alfresco_backup.host import Host, Run
from alfresco_backup.installation import account_for_people
from alfresco_backup.preflight import Finding, error, judge_server_settings, judge_unreadable, ok
from alfresco_backup.runner import Account
from alfresco_backup.settings import PROJECT_DIRECTORY
from tasks.archive import prove_archiving

ARCHIVE_PROOF_SECONDS = 60.0
WAL_COMMANDS = PROJECT_DIRECTORY / "deployments/wal"


def check_database(run_: Run) -> list[Finding]:
    """Connection, version, programs, settings, privileges, readable files; last, that archiving works."""
    host = run_.host
    try:
        server = host.server
    except ToolFailed as failure:
        return [
            error("server", f"cannot be asked: {failure.tail or failure.message}", _connection_mend(host))
        ]
    except HostNotReady as failure:
        return [error("server", failure.message, failure.hint)]
    findings = [ok("server", f"is PostgreSQL {server.label}")]
    findings += judge_server_settings(_server_settings(host), server, WAL_COMMANDS)
    findings += [
        _finding("pg_basebackup", lambda: f"is {host.backup_client().path('pg_basebackup')}"),
        check_replication(host),
        check_superuser(host),
        check_data_directory(host),
    ]
    if not any(item.level == "error" for item in findings):
        findings.append(_finding("archiving", lambda: _proof(run_)))
    return findings


def check_replication(host: Host) -> Finding:
    """Whether PGUSER may replicate: a real replication connection is made."""
    try:
        identity = identify_system(host.database)
    except ToolFailed as failure:
        role = host.settings.pguser
        mend = (
            f"ALTER ROLE {role} REPLICATION; and a line in pg_hba.conf: host replication {role} "
            "127.0.0.1/32 scram-sha-256 (md5 before 10); then SELECT pg_reload_conf()"
        )
        return error("replication", f"{role} may not replicate: {failure.tail}", mend)
    return ok(
        "replication", f"works; system identifier {identity.system_identifier}, timeline {identity.timeline}"
    )


def check_superuser(host: Host) -> Finding:
    """Whether PGSUPERUSER can connect and may create restore points."""
    role = host.settings.pgsuperuser
    try:
        answer = host.superuser_database.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    except ToolFailed as failure:
        return error(
            "PGSUPERUSER", f"{role} cannot connect: {failure.tail}", "set PGSUPERUSER and PGSUPERPASSWORD"
        )
    if answer == "t":
        return ok("PGSUPERUSER", f"{role} is a superuser")
    functions = ("pg_create_restore_point(text)", f"{host.server.switch_wal}()")
    questions = " AND ".join(f"has_function_privilege('{name}', 'execute')" for name in functions)
    if host.server.grantable_restore_point and host.superuser_database.value(f"SELECT {questions}") == "t":
        return ok("PGSUPERUSER", f"{role} may create restore points")
    mend = "; ".join(f"GRANT EXECUTE ON FUNCTION {name} TO {role}" for name in functions)
    return error("PGSUPERUSER", f"{role} may not create restore points and switch segments", mend)


def check_data_directory(host: Host) -> Finding:
    """Whether the server's account can read every file of its data directory."""
    directory = host.installation.data_directory
    if not (directory / "PG_VERSION").is_file():
        return error("data directory", f"{directory} holds no PG_VERSION", "set PG_DATA_DIR in the .env")
    account = host.account
    if os.geteuid() not in (0, account.uid):
        people = account_for_people(account)
        return error(
            "data directory",
            f"belongs to {people}",
            f"run the backup as root or as {people.partition(':')[0]}",
        )
    return judge_unreadable(_unreadable_files(directory, account), account_for_people(account))


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
    return f"psql -h {settings.pghost} -p {settings.pgport} -U {settings.pguser} {settings.pgdatabase}"


def _unreadable_files(directory: Path, account: Account) -> Iterator[Path]:
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            try:
                status = path.lstat()
            except FileNotFoundError:  # a temporary file of the running server
                continue
            if stat.S_ISREG(status.st_mode) and not _readable(status, account):
                yield path


def _readable(status: os.stat_result, account: Account) -> bool:
    mode = status.st_mode
    if status.st_uid == account.uid:
        return bool(mode & stat.S_IRUSR)
    if status.st_gid == account.gid:
        return bool(mode & stat.S_IRGRP)
    return bool(mode & stat.S_IROTH)
