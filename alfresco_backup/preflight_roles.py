"""Preflight of the two roles: what each must be allowed to, and the statement that allows it."""

from alfresco_backup.database import identify_system, quoted_name
from alfresco_backup.errors import ToolFailed
from alfresco_backup.host import Host
from alfresco_backup.preflight import Finding, error, ok


def check_replication(host: Host) -> Finding:
    """Whether PGUSER may replicate: a real replication connection is made."""
    role = quoted_name(host.settings.pguser)
    try:
        identity = identify_system(host.database)
    except ToolFailed as failure:
        mend = (
            f"ALTER ROLE {role} REPLICATION; and a line at the top of pg_hba.conf: {_hba_line(host, role)}; "
            "then SELECT pg_reload_conf()"
        )
        return error("replication", f"{role} may not replicate: {failure.tail}", mend)
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
        mend = "set PGSUPERPASSWORD in the .env"
        if _grantable(host):
            user = host.settings.pguser
            mend += (
                f"; or PGSUPERUSER={user}, after a superuser's {'; '.join(_grants(host, user))}{_place(host)}"
            )
        return error("PGSUPERUSER", f"{role} cannot connect: {failure.tail}", mend)
    if answer == "t":
        return ok("PGSUPERUSER", f"{role} is a superuser")
    if not _grantable(host):
        mend = f"ALTER ROLE {quoted_name(role)} SUPERUSER, or set PGSUPERUSER in the .env to a superuser"
        return error(
            "PGSUPERUSER", f"{role} is no superuser, and this version grants such rights to none", mend
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
