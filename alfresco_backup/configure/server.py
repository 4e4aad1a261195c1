"""What `configure` asks the server: settings and where they are from, roles, rights, replication."""

import os
import socket
from pathlib import Path

from alfresco_backup.configure.access import AccessState, RoleState, SuperuserState
from alfresco_backup.configure.settings import COMMAND_LINE, NAMES, Setting
from alfresco_backup.configure.superuser import in_database
from alfresco_backup.errors import HostNotReady, ToolFailed
from alfresco_backup.host.containers import server_container
from alfresco_backup.host.host import Host
from alfresco_backup.postgres.conf_file import AUTO_CONF, read_setting
from alfresco_backup.postgres.database import CONNECT_SECONDS, Database, identify_system, quoted_literal
from alfresco_backup.postgres.rights import lacking_rights, rights_needed
from alfresco_backup.postgres.versions import VersionFacts
from alfresco_backup.settings.commands import edit_setting


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
        raise HostNotReady(f"{path} cannot be read: {error.strerror}", "run it as root") from error


def can_alter(superuser: Database) -> bool:
    """Whether ALTER SYSTEM is allowed (17 and later can forbid it)."""
    return superuser.value("SELECT setting FROM pg_settings WHERE name = 'allow_alter_system'") != "off"


def require_primary(superuser: Database) -> None:
    """Raise HostNotReady for a standby: its settings come with those of its primary, and it cannot write."""
    if superuser.value("SELECT pg_is_in_recovery()") == "t":
        raise HostNotReady(
            "the server is a standby (it is in recovery)", "run configure on the primary's host"
        )


def inspect_access(host: Host, superuser: Database, facts: VersionFacts) -> AccessState:
    """Roles, rights, and whether PGUSER makes a replication connection: tried."""
    database = host.settings.pgdatabase
    exists = superuser.value(f"SELECT 1 FROM pg_database WHERE datname = {quoted_literal(database)}") == "1"
    inside = in_database(superuser, database) if exists else superuser
    user = _role(inside, host.settings.pguser)
    works, refused = replicates(host)
    trouble = _trouble(host.database) if exists else ""
    hba_file = _on_this_host(host, superuser.value("SHOW hba_file"))
    _require_here(hba_file)
    return AccessState(
        user=user,
        superuser=_superuser(host, inside, facts, user),
        database=database,
        database_exists=exists,
        works=works,
        address=_client_address(host, connects=exists and not trouble),
        account=host.account.name,
        hba_file=hba_file,
        hba_text=_text(Path(hba_file)),
        hba_errors=_hba_errors(superuser, facts),
        has_password=bool(host.settings.pgpassword.get_secret_value()),
        trouble=trouble,
        refused=refused,
    )


def _on_this_host(host: Host, file: str) -> str:
    """The path that a file of the server's has on this host; the same where it is in none of its mounts."""
    if not host.settings.pg_container:
        return file
    return str(server_container(host.settings).host_path(Path(file)) or file)


def _require_here(file: str) -> None:
    """Raise HostNotReady for a file of the server's that this host does not have: it runs in a container."""
    if not os.path.lexists(file):
        raise HostNotReady(
            f"the server's pg_hba.conf is {file}, which is not on this host: the server sees another file "
            "system, as in a container; configure cannot change it",
            "run configure where the server runs, or give the container its folders under the same paths",
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
    return lacking_rights(inside, facts, role.name) if role.exists else rights_needed(facts)


def _hba_errors(superuser: Database, facts: VersionFacts) -> tuple[str, ...]:
    """The lines of pg_hba.conf that the server does not understand; before 10 it cannot be asked."""
    if not facts.has_hba_rules:
        return ()
    file = "' of ' || file_name" if facts.has_hba_files else "''"
    rows = superuser.query(
        f"SELECT 'line ' || line_number || {file} || ': ' || error FROM pg_hba_file_rules"
        " WHERE error IS NOT NULL"
    )
    return tuple(row[0] for row in rows)


def replicates(host: Host) -> tuple[bool, str]:
    """Whether PGUSER makes a replication connection, and why not."""
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


def _client_address(host: Host, *, connects: bool) -> str:
    """The address this host has in the eyes of the server, which is asked where PGUSER connects.

    Empty for a local socket.
    """
    if connects:
        return host.database.value("SELECT coalesce(host(inet_client_addr()), '')")
    place = host.settings.pghost
    if not place or place.startswith("/"):
        return ""
    try:
        with socket.create_connection((place, host.settings.pgport), CONNECT_SECONDS) as connection:
            return str(connection.getsockname()[0]).partition("%")[0]
    except OSError as error:
        raise HostNotReady(
            f"{place}:{host.settings.pgport} does not accept connections: {error}",
            "\n".join((edit_setting("PGHOST"), edit_setting("PGPORT"))),
        ) from error
