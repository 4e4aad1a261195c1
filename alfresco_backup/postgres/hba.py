"""pg_hba.conf: which rule decides about a connection, and where a new line takes effect. Pure.

The first rule that matches decides, the others are not looked at. As database `all` is not replication.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alfresco_backup.postgres.database import quoted_name

REPLICATION = "replication"
COMMA = ","
KEYWORDS = frozenset({"all", "sameuser", "samerole", "samegroup", REPLICATION})
_TOKEN = re.compile(r'"(?:[^"]|"")*"[^\s,"#]*|[^\s,"#]+|,|#.*')
_SAME_ACCOUNT = frozenset({"peer", "ident"})


@dataclass(frozen=True)
class Rule:
    """One rule, as pg_hba_file_rules shows it. `file` is empty for pg_hba.conf itself."""

    line: int
    kind: str
    databases: tuple[str, ...]
    users: tuple[str, ...]
    address: str
    netmask: str
    method: str
    options: tuple[str, ...] = ()
    file: str = ""


@dataclass(frozen=True)
class Connection:
    """A connection as the server sees it. `address` is empty for a local socket.

    `roles`: those the user is a member of. `account`: the operating system account of the client.
    """

    user: str
    database: str
    address: str = ""
    encrypted: bool = False
    roles: frozenset[str] = frozenset()
    account: str = ""


def parse_hba(text: str) -> list[Rule]:
    """The rules of a file, for versions before 10, which cannot be asked. What is no rule is passed over."""
    rules = []
    for number, line in enumerate(text.split("\n"), start=1):
        fields = _fields(line)
        if len(fields) < 4:
            continue
        kind, databases, users = fields[0][0], tuple(fields[1]), tuple(fields[2])
        rest = [",".join(field) for field in fields[3:]]
        address = netmask = ""
        if kind != "local":
            address = rest.pop(0)
            if rest and re.fullmatch(r"[0-9a-fA-F.:]*[.:][0-9a-fA-F.:]*", rest[0]):
                netmask = rest.pop(0)
        if rest:
            rules.append(Rule(number, kind, databases, users, address, netmask, rest[0], tuple(rest[1:])))
    return rules


def _fields(line: str) -> list[list[str]]:
    """The fields of a line, each a list: commas join what they stand between."""
    fields: list[list[str]] = []
    joined = False
    for token in _TOKEN.findall(line):
        if token.startswith("#"):
            break
        if token == COMMA:
            joined = True
            continue
        plain = re.sub(r'"((?:[^"]|"")*)"', lambda found: found[1].replace('""', '"'), token)
        if joined and fields:
            fields[-1].append(plain)
        else:
            fields.append([plain])
        joined = False
    return fields


def deciding_rule(rules: Iterable[Rule], connection: Connection) -> Rule | None:
    """The rule that decides about a connection; None refuses as well."""
    return next((rule for rule in rules if _matches(rule, connection)), None)


def lets_in(rule: Rule | None, connection: Connection) -> bool:
    """Whether that rule can let the connection in. A password may still be wrong."""
    if rule is None or rule.method == "reject":
        return False
    mapped = any(option.startswith("map=") for option in rule.options)
    return rule.method not in _SAME_ACCOUNT or mapped or connection.account == connection.user


def replication_line(connection: Connection, method: str, options: Sequence[str] = ()) -> str:
    """The line that lets one user replicate from one address, and nobody else."""
    user = f'"{connection.user}"' if connection.user in KEYWORDS else quoted_name(connection.user)
    if not connection.address:
        return "    ".join(["local", REPLICATION, user, method, *options])
    bits = ipaddress.ip_address(connection.address).max_prefixlen
    return "    ".join(["host", REPLICATION, user, f"{connection.address}/{bits}", method, *options])


def place_of_line(text: str, blocker: Rule | None) -> int:
    """Before which line (0 is the first) a new one takes effect: before the rule that refuses, else last.

    Where that rule is in an included file, before the first rule or include.
    """
    lines = text.split("\n")
    if blocker is None:
        return end_of(lines)
    if not blocker.file:
        return blocker.line - 1
    return next((index for index, line in enumerate(lines) if _fields(line)), len(lines))


def end_of(lines: Sequence[str]) -> int:
    """Where a line is added to a text that was split at line feeds: before the empty end of its last line."""
    return len(lines) - 1 if lines and not lines[-1] else len(lines)


def _matches(rule: Rule, connection: Connection) -> bool:
    return (
        _kind_matches(rule, connection)
        and any(_database_matches(name, connection) for name in rule.databases)
        and any(_user_matches(name, connection) for name in rule.users)
    )


def _kind_matches(rule: Rule, connection: Connection) -> bool:
    if rule.kind == "local" or not connection.address:
        return rule.kind == "local" and not connection.address
    encryption = {"host": True, "hostssl": connection.encrypted, "hostnossl": not connection.encrypted}
    # GSSAPI encryption is not used by connections with a password.
    encryption |= {"hostgssenc": False, "hostnogssenc": True}
    return encryption.get(rule.kind, False) and _address_matches(rule, connection.address)


def _database_matches(name: str, connection: Connection) -> bool:
    if REPLICATION in (connection.database, name):
        return name == connection.database
    if name in ("samerole", "samegroup"):
        return connection.database in connection.roles | {connection.user}
    return name in ("all", connection.database) or (
        name == "sameuser" and connection.database == connection.user
    )


def _user_matches(name: str, connection: Connection) -> bool:
    if name.startswith("+"):
        return name[1:] in connection.roles | {connection.user}
    if name.startswith("/"):
        try:
            return re.search(name[1:], connection.user) is not None
        except re.error:
            return False
    return name in ("all", connection.user)


def _address_matches(rule: Rule, address: str) -> bool:
    if rule.address in ("all", "samehost", "samenet"):  # the server is on this machine, as its client is
        return True
    client = ipaddress.ip_address(address)
    try:
        text = f"{rule.address}/{rule.netmask}" if rule.netmask else rule.address
        return client in _network(text)
    except ValueError:
        return client in _addresses_of(rule.address)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    address, _, mask = text.partition("/")
    if mask and ":" in mask:  # Python takes IPv6 masks as a length only
        mask = str(int(ipaddress.IPv6Address(mask)).bit_count())
    return ipaddress.ip_network(f"{address}/{mask}" if mask else address, strict=False)


def _addresses_of(name: str) -> frozenset[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """What a host name stands for; none where it is not known (a `.suffix` is taken not to match)."""
    try:
        found = socket.getaddrinfo(name, None)
    except OSError:
        return frozenset()
    return frozenset(ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found)
