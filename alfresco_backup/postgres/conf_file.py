"""The text of PostgreSQL's configuration files: settings, and a line of pg_hba.conf. Pure."""

import ipaddress
import re
from collections.abc import Iterable

from alfresco_backup.postgres.database import quoted_name

AUTO_CONF = "postgresql.auto.conf"
CONF = "postgresql.conf"
_LINE = re.compile(r"\s*(?P<name>[A-Za-z_][\w.$]*)\s*=?\s*(?P<value>'(?:[^'\\]|\\.|'')*'|[^\s#']*)")
_ESCAPES = {"\\": "\\\\", "'": "''", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_HBA_KEYWORDS = frozenset({"all", "sameuser", "samerole", "samegroup", "replication"})
_UNESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def quoted(value: str) -> str:
    """A value as PostgreSQL's configuration files want it. Raises ValueError for one with a zero byte."""
    if "\0" in value:
        raise ValueError(f"a setting cannot contain a zero byte: {value!r}")
    return "'" + "".join(_ESCAPES.get(character, character) for character in value) + "'"


def without(text: str, names: Iterable[str]) -> str:
    """A configuration file's text without the lines that set one of `names`."""
    unwanted = frozenset(names)
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if (parse_setting(line) or ("", ""))[0] not in unwanted)


def read_setting(text: str, name: str) -> str | None:
    """The value a configuration file gives to a setting, None for none. Includes are not followed."""
    values = [found[1] for line in text.splitlines() if (found := parse_setting(line)) and found[0] == name]
    return values[-1] if values else None


def parse_setting(line: str) -> tuple[str, str] | None:
    """Name (in lower case) and value of a line that sets something."""
    match = _LINE.match(line)
    if match is None:
        return None
    value = match["value"]
    if value.startswith("'"):
        value = re.sub(r"\\(.)|''", _unescaped, value[1:-1])
    return match["name"].lower(), value


def _unescaped(match: re.Match[str]) -> str:
    return _UNESCAPES.get(match[1], match[1]) if match[1] else "'"


def replication_line(user: str, address: str, method: str) -> str:
    """The line of pg_hba.conf that lets one role replicate from one address, and nobody else.

    Without an address: by the local socket.
    """
    name = f'"{user}"' if user in _HBA_KEYWORDS else quoted_name(user)
    if not address:
        return f"local    replication    {name}    {method}"
    bits = ipaddress.ip_address(address).max_prefixlen
    return f"host    replication    {name}    {address}/{bits}    {method}"
