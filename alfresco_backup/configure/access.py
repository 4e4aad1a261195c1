"""Who may replicate and switch segments: roles, and the line of pg_hba.conf that `configure` adds. Pure."""

from dataclasses import dataclass

from alfresco_backup.configure.changes import Change, LinesChange, StatementChange
from alfresco_backup.findings import Finding, warning
from alfresco_backup.postgres.conf_file import replication_line
from alfresco_backup.postgres.database import connection_fix, quoted_name
from alfresco_backup.postgres.rights import rights_needed
from alfresco_backup.postgres.versions import VersionFacts
from alfresco_backup.settings.commands import edit_setting

HBA = "pg_hba.conf"
NOTE = "# alfresco-backup: its role makes base backups"


@dataclass(frozen=True)
class RoleState:
    """PGUSER as the server knows it. `stored`: pg_hba.conf's method for how its password is kept."""

    name: str
    exists: bool = True
    superuser: bool = False
    replication: bool = False
    reads_tables: bool = True
    stored: str = ""


@dataclass(frozen=True)
class SuperuserState:
    """PGSUPERUSER: whether it can connect (`trouble`: the server's words when not) and what it lacks.

    `lacks_of`: rights a backup needs and PGUSER, which could take its place, has not. `elsewhere`: why the
    `.env` cannot be changed to that, empty when it can.
    """

    name: str
    connects: bool = True
    superuser: bool = True
    lacks: tuple[str, ...] = ()
    trouble: str = ""
    lacks_of_user: tuple[str, ...] = ()
    elsewhere: str = ""


@dataclass(frozen=True)
class AccessState:
    """Roles, and whether PGUSER makes a replication connection.

    `works`: one was made; else `refused`: why not. `trouble`: why PGUSER cannot connect at all.
    `address`: this host's, as the server sees it; empty for its socket. `account`: the system's account.
    """

    user: RoleState
    superuser: SuperuserState
    database: str
    database_exists: bool
    works: bool
    address: str
    account: str
    hba_file: str
    hba_text: str
    hba_errors: tuple[str, ...] = ()
    has_password: bool = True
    trouble: str = ""
    refused: str = ""


def plan_roles(seen: AccessState, facts: VersionFacts) -> tuple[list[Change], list[Finding]]:
    """The role PGUSER with REPLICATION, and the rights of PGSUPERUSER where it is no superuser."""
    user, name = seen.user, quoted_name(seen.user.name)
    changes: list[Change] = []
    left: list[Finding] = []
    if not seen.database_exists:
        what = f"database {seen.database} does not exist; no role can be given rights in it"
        left.append(warning("PGDATABASE", what, edit_setting("PGDATABASE")))
        return changes, left
    if not user.exists and not seen.has_password:
        what = f"role {user.name} does not exist; without PGPASSWORD it could not log in"
        left.append(warning("PGUSER", what, edit_setting("PGPASSWORD")))
        return changes, left
    if user.exists and seen.trouble:
        names = ("PGUSER", "PGPASSWORD", "PGHOST", "PGPORT")
        fix = connection_fix(seen.trouble)
        fix = fix or "\n".join(f"{edit_setting(name)}  # as Alfresco's own db.*" for name in names)
        left.append(warning("PGUSER", f"{user.name} cannot connect: {seen.trouble}", fix))
    if not user.exists:
        changes.append(
            StatementChange(
                f"role {user.name}",
                "does not exist",
                "LOGIN REPLICATION, with the PGPASSWORD of the .env",
                "it makes the base backups",
                f"CREATE ROLE {name} LOGIN REPLICATION",
                f"DROP ROLE IF EXISTS {name}",
                seen.database,
                password_of=user.name,
            )
        )
    elif not (user.replication or user.superuser):
        changes.append(
            StatementChange(
                f"role {user.name}",
                "NOREPLICATION",
                "REPLICATION",
                "it makes the base backups",
                f"ALTER ROLE {name} REPLICATION",
                f"ALTER ROLE {name} NOREPLICATION",
                seen.database,
            )
        )
    if not user.reads_tables:
        changes.append(_read_tables(name, seen))
    changes += _rights(seen, facts, left)
    return changes, left


def _read_tables(name: str, seen: AccessState) -> StatementChange:
    return StatementChange(
        f"tables of {seen.database}",
        f"{seen.user.name} may not read them",
        "SELECT on all tables of the schema public",
        "backups count the documents in them",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
        f"REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM {name}",
        seen.database,
    )


def _rights(seen: AccessState, facts: VersionFacts, left: list[Finding]) -> list[Change]:
    superuser = seen.superuser
    if superuser.connects and (superuser.superuser or not superuser.lacks):
        return []
    if not rights_needed(facts):
        what = superuser.trouble or "it is no superuser, and this version gives such rights to no other role"
        edits = (edit_setting(name) for name in ("PGSUPERUSER", "PGSUPERPASSWORD"))
        return _leave(left, f"{superuser.name} cannot be used: {what}", "\n".join(edits))
    if superuser.connects:
        return [_grant(right, superuser.name, seen.database) for right in superuser.lacks]
    if superuser.elsewhere:
        what = f"{superuser.name} cannot connect: {superuser.trouble}; {superuser.elsewhere}"
        other = f"{edit_setting('PGSUPERUSER', seen.user.name)}  # and remove PGSUPERPASSWORD"
        return _leave(left, what, f"{edit_setting('PGSUPERPASSWORD')}\n{other}")
    if seen.user.superuser:
        return []
    return [_grant(right, seen.user.name, seen.database) for right in superuser.lacks_of_user]


def _leave(left: list[Finding], what: str, fix: str) -> list[Change]:
    left.append(warning("PGSUPERUSER", what, fix))
    return []


def takes_over(seen: AccessState, facts: VersionFacts) -> bool:
    """Whether PGUSER is to be PGSUPERUSER as well, the one of the `.env` having no way to connect."""
    superuser = seen.superuser
    possible = bool(rights_needed(facts)) and not superuser.elsewhere and superuser.name != seen.user.name
    return possible and not superuser.connects and seen.database_exists


def _grant(right: str, role: str, database: str) -> StatementChange:
    return StatementChange(
        f"rights of {role}",
        f"without {right.removeprefix('EXECUTE ON FUNCTION ')}",
        f"with {right.removeprefix('EXECUTE ON FUNCTION ')}",
        "restore points and segment switches, without a superuser's password in the .env",
        f"GRANT {right} TO {quoted_name(role)}",
        f"REVOKE {right} FROM {quoted_name(role)}",
        database,
    )


def plan_hba(seen: AccessState) -> tuple[list[Change], list[Finding]]:
    """A line at the top of pg_hba.conf, above all rules, for PGUSER from this host alone.

    Nothing where PGUSER replicates already, or cannot connect at all, which `plan_roles` says. Whether other
    lines let it in is not worked out here: where they do, the connection that is tried after the role has
    its rights works, and the line is left out.
    """
    if seen.works or (seen.user.exists and seen.trouble):
        return [], []
    if seen.hba_errors:
        what = f"{seen.hba_file} has errors, so that no reload takes it: {'; '.join(seen.hba_errors)}"
        return [], [warning(HBA, what, f"edit {seen.hba_file}: correct these lines")]
    where = seen.address or "the local socket"
    method = _method(seen)
    if not method:
        what = f"{seen.user.name} does not replicate from {where}; without PGPASSWORD its method is not known"
        line = replication_line(seen.user.name, seen.address, "METHOD")
        fix = f"edit {seen.hba_file}, where it still does not after this run; at the top: {line}"
        return [], [warning(HBA, what, fix)]
    line = replication_line(seen.user.name, seen.address, method)
    if seen.hba_text.startswith(f"{NOTE}\n{line}\n"):
        what = f"{seen.hba_file} lets {seen.user.name} in from {where}, and yet: {seen.refused}"
        return [], [warning("replication", what, "read the server's log")]
    reason = f"{seen.user.name} replicates from {where}; left out where it can without"
    return [LinesChange(HBA, "no line for that", line, reason, seen.hba_file, 0, (), (NOTE, line))], []


def _method(seen: AccessState) -> str:
    """That of the password where the role has one and the .env knows it; by the socket, the account's own."""
    if seen.has_password and seen.user.stored:
        return seen.user.stored
    return "peer" if not seen.address and seen.user.name == seen.account else ""
