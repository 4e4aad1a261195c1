"""Who may replicate and switch segments: roles and the line of pg_hba.conf that `configure` adds. Pure."""

from dataclasses import dataclass

from alfresco_backup.configure.changes import Change, LinesChange, StatementChange
from alfresco_backup.findings import Finding, warning
from alfresco_backup.postgres.database import quoted_name
from alfresco_backup.postgres.hba import (
    Connection,
    Rule,
    deciding_rule,
    lets_in,
    place_of_line,
    replication_line,
)
from alfresco_backup.postgres.versions import VersionFacts

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
    """Roles, and what decides about a replication connection. `works`: one was made.

    `trouble`: why PGUSER cannot connect at all. `refused`: why it cannot replicate although role and settings
    are as they should be.
    """

    user: RoleState
    superuser: SuperuserState
    database: str
    database_exists: bool
    works: bool
    connection: Connection
    rules: tuple[Rule, ...]
    hba_file: str
    hba_text: str
    hba_errors: tuple[str, ...] = ()
    has_password: bool = True
    trouble: str = ""
    refused: str = ""


def rights_needed(facts: VersionFacts) -> tuple[str, ...]:
    """The rights of a role that makes restore points, switches segments and sees archive_command.

    Empty where the version can give them to no one but a superuser.
    """
    if not (facts.grantable_restore_point and facts.monitor_role):
        return ()
    functions = ("pg_create_restore_point(text)", f"{facts.switch_wal}()")
    return (*(f"EXECUTE ON FUNCTION {name}" for name in functions), facts.monitor_role)


def plan_roles(seen: AccessState, facts: VersionFacts) -> tuple[list[Change], list[Finding]]:
    """The role PGUSER with REPLICATION, and the rights of PGSUPERUSER where it is no superuser."""
    user, name = seen.user, quoted_name(seen.user.name)
    changes: list[Change] = []
    left: list[Finding] = []
    if not seen.database_exists:
        what = "does not exist; a role's rights in it cannot be given"
        left.append(
            warning(
                "PGDATABASE", f"{seen.database} {what}", "set PGDATABASE in the .env, or install Alfresco"
            )
        )
        return changes, left
    if not user.exists and not seen.has_password:
        what = (
            f"the role {user.name} does not exist, and without PGPASSWORD it would have none to log in with"
        )
        left.append(warning("PGUSER", what, "set PGPASSWORD in the .env"))
        return changes, left
    if user.exists and seen.trouble:
        hint = (
            "correct PGUSER, PGPASSWORD, PGHOST and PGPORT in the .env: they are the ones of Alfresco's db.*"
        )
        left.append(warning("PGUSER", f"{user.name} cannot connect: {seen.trouble}", hint))
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
        "documents are counted in them",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
        f"REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM {name}",
        seen.database,
    )


def _rights(seen: AccessState, facts: VersionFacts, left: list[Finding]) -> list[Change]:
    superuser = seen.superuser
    if superuser.connects and (superuser.superuser or not superuser.lacks):
        return []
    if not rights_needed(facts):
        what = (
            superuser.trouble or "is no superuser, and this version gives such rights to none but superusers"
        )
        hint = "set PGSUPERUSER and PGSUPERPASSWORD in the .env: a superuser that connects as the .env says"
        return _leave(left, f"{superuser.name} cannot be used: {what}", hint)
    if superuser.connects:
        return [_grant(right, superuser.name, seen.database) for right in superuser.lacks]
    if superuser.elsewhere:
        hint = f"correct it; or set PGSUPERUSER={seen.user.name} and no PGSUPERPASSWORD, then configure again"
        return _leave(
            left, f"{superuser.name} cannot connect: {superuser.trouble}; {superuser.elsewhere}", hint
        )
    if seen.user.superuser:
        return []
    return [_grant(right, seen.user.name, seen.database) for right in superuser.lacks_of_user]


def _leave(left: list[Finding], what: str, hint: str) -> list[Change]:
    left.append(warning("PGSUPERUSER", what, hint))
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
    """The line that lets PGUSER replicate, where no line does: placed before the rule that would refuse."""
    if seen.works:
        return [], []
    if seen.hba_errors:
        what = f"{seen.hba_file} has errors, so that no reload takes it: {'; '.join(seen.hba_errors)}"
        return [], [warning("pg_hba.conf", what, f"mend these lines: {seen.hba_file}")]
    connection = seen.connection
    blocker = deciding_rule(seen.rules, connection)
    if blocker and lets_in(blocker, connection):
        if not seen.refused:
            return [], []
        what = f"line {blocker.line} of {seen.hba_file} lets it in, and yet: {seen.refused}"
        return [], [warning("replication", what, "see what the server's log says")]
    ordinary = Connection(
        connection.user,
        seen.database,
        connection.address,
        connection.encrypted,
        connection.roles,
        connection.account,
    )
    way_in = deciding_rule(seen.rules, ordinary)
    method, options = _method(seen, way_in if lets_in(way_in, ordinary) else None)
    if not method:
        where = connection.address or "the local socket"
        what = f"no line of {seen.hba_file} lets {connection.user} from {where} into {seen.database} either"
        return [], [warning("pg_hba.conf", what, "add a line with the method that is to be used there")]
    line = replication_line(connection, method, options)
    old = f"line {blocker.line} refuses: {_words(blocker)}" if blocker else "no line for such a connection"
    return [
        LinesChange(
            "pg_hba.conf",
            old,
            line,
            f"PGUSER cannot replicate from {connection.address or 'the local socket'} otherwise",
            path=seen.hba_file,
            position=place_of_line(seen.hba_text, blocker),
            removed=(),
            added=(NOTE, line),
        )
    ], []


def _method(seen: AccessState, way_in: Rule | None) -> tuple[str, tuple[str, ...]]:
    """A password's method where the role has one and the .env knows it, else that of the ordinary rule."""
    if seen.has_password and seen.user.stored:
        return seen.user.stored, ()
    return (way_in.method, way_in.options) if way_in else ("", ())


def _words(rule: Rule) -> str:
    parts = (rule.kind, ",".join(rule.databases), ",".join(rule.users), rule.address, rule.method)
    return " ".join(part for part in parts if part)
