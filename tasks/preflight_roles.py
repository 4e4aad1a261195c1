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
    role, name = host.settings.pgsuperuser, quoted_name(host.settings.pgsuperuser)
    try:
        answer = host.superuser_database.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    except ToolFailed as failure:
        mend = "set PGSUPERUSER and PGSUPERPASSWORD in the .env"
        return error("PGSUPERUSER", f"{role} cannot connect: {failure.tail}", mend)
    if answer == "t":
        return ok("PGSUPERUSER", f"{role} is a superuser")
    if not host.server.monitor_role or not host.server.grantable_restore_point:
        mend = f"ALTER ROLE {name} SUPERUSER, or set PGSUPERUSER in the .env to a superuser"
        return error(
            "PGSUPERUSER", f"{role} is no superuser, and this version can grant its rights to none", mend
        )
    functions = ("pg_create_restore_point(text)", f"{host.server.switch_wal}()")
    questions = [f"has_function_privilege('{function}', 'execute')" for function in functions]
    questions.append(f"pg_has_role(current_user, '{host.server.monitor_role}', 'usage')")
    if host.superuser_database.value(f"SELECT {' AND '.join(questions)}") == "t":
        return ok("PGSUPERUSER", f"{role} may create restore points and see how the server archives")
    grants = [f"GRANT EXECUTE ON FUNCTION {function} TO {name}" for function in functions]
    grants.append(f"GRANT {host.server.monitor_role} TO {name}")
    what = f"{role} may not create restore points, switch segments and see archive_command"
    return error("PGSUPERUSER", what, f"in the database {host.settings.pgdatabase}: {'; '.join(grants)}")
