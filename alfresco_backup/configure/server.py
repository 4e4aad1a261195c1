"""What `configure` asks the server: settings and where they are from, roles, rights, rules of pg_hba.conf."""

import os
import socket
from pathlib import Path

from alfresco_backup.configure.access import AccessState, RoleState, SuperuserState, rights_needed
from alfresco_backup.configure.settings import COMMAND_LINE, NAMES, Setting
from alfresco_backup.configure.superuser import in_database
from alfresco_backup.errors import HostNotReady, ToolFailed
from alfresco_backup.host.host import Host
from alfresco_backup.postgres.conf_file import AUTO_CONF, read_setting
from alfresco_backup.postgres.database import CONNECT_SECONDS, Database, identify_system, quoted_literal
from alfresco_backup.postgres.hba import Connection, Rule, parse_hba
from alfresco_backup.postgres.versions import VersionFacts

_LIST = "\x1d"


def inspect_settings(host: Host, superuser: Database, facts: VersionFacts) -> dict[str, Setting]:
    """The settings that archiving and base backups depend on."""
    names = ", ".join(map(quoted_literal, NAMES))
    auto_conf = _text(host.installation.data_directory / AUTO_CONF)
    rows = superuser.query(
        "SELECT name, setting, source, coalesce(sourcefile, ''), coalesce(boot_val, '') FROM pg_settings"
        f" WHERE name IN ({names})"
    )
    files = tuple(dict.fromkeys(row[3] for row in rows if row[3]))
    written = _written(superuser, facts, names, files)
    found = {}
    for name, value, source, _, boot in rows:
        text, file = written.get(name, (None, ""))
        origin = COMMAND_LINE if source == COMMAND_LINE else Path(file).name or "default"
        found[name] = Setting(value, source, origin, text, read_setting(auto_conf, name), boot)
    return found


def _written(
    superuser: Database, facts: VersionFacts, names: str, files: tuple[str, ...]
) -> dict[str, tuple[str, str]]:
    """What the configuration files say now, whether the server has taken it or not, and which file does.

    9.5 and later read them for us. Before, they are read in the order of the server: includes are those that
    a value in force is from.
    """
    if facts.has_file_settings:
        rows = superuser.query(
            f"SELECT name, coalesce(setting, ''), sourcefile FROM pg_file_settings WHERE name IN ({names})"
            " ORDER BY seqno"
        )
        return {row[0]: (row[1], row[2]) for row in rows}
    places = superuser.query("SELECT current_setting('config_file'), current_setting('data_directory')")[0]
    automatic = str(Path(places[1]) / AUTO_CONF)
    order = dict.fromkeys([places[0], *(file for file in files if file != automatic), automatic])
    texts = {file: _text(Path(file)) for file in order}
    return {
        name: (value, file)
        for file, text in texts.items()
        for name in NAMES
        if (value := read_setting(text, name)) is not None
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise HostNotReady(f"{path} cannot be read: {error.strerror}", "run this as root") from error


def can_alter(superuser: Database) -> bool:
    """Whether ALTER SYSTEM is allowed (17 and later can forbid it)."""
    return superuser.value("SELECT setting FROM pg_settings WHERE name = 'allow_alter_system'") != "off"


def require_primary(superuser: Database) -> None:
    """Raise HostNotReady for a standby: its settings come with those of its primary, and it cannot write."""
    if superuser.value("SELECT pg_is_in_recovery()") == "t":
        raise HostNotReady("the server is a standby (it is in recovery)", "run configure on the primary")


def inspect_access(
    host: Host, superuser: Database, facts: VersionFacts, settings: dict[str, Setting]
) -> AccessState:
    """Roles, rights, and which rule of pg_hba.conf decides about a replication connection of PGUSER."""
    database = host.settings.pgdatabase
    exists = superuser.value(f"SELECT 1 FROM pg_database WHERE datname = {quoted_literal(database)}") == "1"
    inside = in_database(superuser, database) if exists else superuser
    user = _role(inside, host.settings.pguser)
    works, refused = _replicates(host)
    ready = (user.replication or user.superuser) and settings["max_wal_senders"].value != "0"
    hba_file = superuser.value("SHOW hba_file")
    text = _text(Path(hba_file))
    rules, errors = _rules(superuser, facts, text, hba_file)
    return AccessState(
        user=user,
        superuser=_superuser(host, inside, facts, user),
        database=database,
        database_exists=exists,
        works=works,
        connection=Connection(
            host.settings.pguser,
            "replication",
            _client_address(host),
            superuser.value("SHOW ssl") == "on",
            _memberships(superuser, host.settings.pguser),
            host.account.name,
        ),
        rules=rules,
        hba_file=hba_file,
        hba_text=text,
        hba_errors=errors,
        has_password=bool(host.settings.pgpassword.get_secret_value()),
        trouble=_trouble(host.database) if exists else "",
        refused="" if works or not ready else refused,
    )


def _role(inside: Database, name: str) -> RoleState:
    role = quoted_literal(name)
    rows = inside.query(
        "SELECT rolsuper, rolreplication, CASE WHEN rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram-sha-256'"
        f" WHEN rolpassword LIKE 'md5%' THEN 'md5' ELSE '' END FROM pg_authid WHERE rolname = {role}"
    )
    tables = (
        "FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public')"
        " AND relkind = 'r' AND relname LIKE 'alf\\_%'"
    )
    if not rows:
        stored = "scram-sha-256" if inside.value("SHOW password_encryption") == "scram-sha-256" else "md5"
        return RoleState(
            name, False, reads_tables=inside.value(f"SELECT count(*) {tables}") == "0", stored=stored
        )
    unread = inside.value(f"SELECT count(*) {tables} AND NOT has_table_privilege({role}, oid, 'SELECT')")
    superuser, replication, stored = rows[0]
    return RoleState(name, True, superuser == "t", replication == "t", unread == "0", stored)


def _superuser(host: Host, inside: Database, facts: VersionFacts, user: RoleState) -> SuperuserState:
    """PGSUPERUSER, as which the backup will connect: tried."""
    name = host.settings.pgsuperuser
    elsewhere = ""
    if host.settings.pgsuperpassword is not None:
        elsewhere = "PGSUPERPASSWORD is set in the .env"
    elif "PGSUPERUSER" in os.environ:
        elsewhere = "PGSUPERUSER is set in the environment, which wins over the .env"
    trouble = _trouble(host.superuser_database)
    if trouble and name == user.name:  # it connects as soon as PGUSER does
        return SuperuserState(name, True, user.superuser, _lacking(inside, facts, user))
    if trouble:
        return SuperuserState(name, False, False, (), trouble, _lacking(inside, facts, user), elsewhere)
    role = _role(inside, name)
    return SuperuserState(name, True, role.superuser, _lacking(inside, facts, role))


def _lacking(inside: Database, facts: VersionFacts, role: RoleState) -> tuple[str, ...]:
    rights = rights_needed(facts)
    if not role.exists:
        return rights
    name = quoted_literal(role.name)
    questions = {
        right: f"has_function_privilege({name}, {quoted_literal(right.split(' ', 3)[3])}, 'execute')"
        if right.startswith("EXECUTE")
        else f"pg_has_role({name}, {quoted_literal(right)}, 'usage')"
        for right in rights
    }
    return tuple(right for right, question in questions.items() if inside.value(f"SELECT {question}") != "t")


def _memberships(superuser: Database, name: str) -> frozenset[str]:
    rows = superuser.query(
        "WITH RECURSIVE of_user AS (SELECT m.roleid FROM pg_auth_members m JOIN pg_roles r"
        f" ON r.oid = m.member WHERE r.rolname = {quoted_literal(name)}"
        " UNION SELECT m.roleid FROM pg_auth_members m"
        " JOIN of_user o ON m.member = o.roleid) SELECT rolname FROM pg_roles JOIN of_user ON oid = roleid"
    )
    return frozenset(row[0] for row in rows)


def _rules(
    superuser: Database, facts: VersionFacts, text: str, hba_file: str
) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
    """The rules as the server reads them, and its complaints; before 10 as this program reads them."""
    if not facts.has_hba_rules:
        return tuple(parse_hba(text)), ()
    lists = ", ".join(f"array_to_string({name}, E'\\x1d')" for name in ("database", "user_name", "options"))
    file = "file_name" if facts.has_hba_files else "''"
    rows = superuser.query(
        f"SELECT line_number, coalesce(error, ''), coalesce(type, ''), {lists}, coalesce(address, ''),"
        f" coalesce(netmask, ''), coalesce(auth_method, ''), {file} FROM pg_hba_file_rules"
        " ORDER BY " + ("rule_number" if facts.has_hba_files else "line_number")
    )
    rules, errors = [], []
    for line, error, kind, databases, users, options, address, netmask, method, place in rows:
        if error:
            errors.append(f"line {line}{f' of {place}' if place not in ('', hba_file) else ''}: {error}")
            continue
        words = [tuple(item for item in words.split(_LIST) if item) for words in (databases, users, options)]
        other = "" if place in ("", hba_file) else place
        rules.append(Rule(int(line), kind, words[0], words[1], address, netmask, method, words[2], other))
    return tuple(rules), tuple(errors)


def _replicates(host: Host) -> tuple[bool, str]:
    try:
        identify_system(host.database)
    except ToolFailed as failure:
        return False, failure.tail or failure.message
    return True, ""


def _trouble(database: Database) -> str:
    """Why a connection cannot be made; empty when it can."""
    try:
        database.value("SELECT 1")
    except ToolFailed as failure:
        return failure.tail or failure.message
    return ""


def _client_address(host: Host) -> str:
    """The address this machine has in the eyes of the server; empty for a local socket."""
    place = host.settings.pghost
    if not place or place.startswith("/"):
        return ""
    try:
        with socket.create_connection((place, host.settings.pgport), CONNECT_SECONDS) as connection:
            return str(connection.getsockname()[0]).partition("%")[0]
    except OSError as error:
        raise HostNotReady(
            f"{place}:{host.settings.pgport} cannot be connected to: {error}",
            "start PostgreSQL; check PGHOST and PGPORT in the .env, and listen_addresses of the server",
        ) from error
