"""Asking the PostgreSQL server, through its own `psql`: any version, no driver.

The password goes to the child by its environment, never on the command line.
"""

import re
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from alfresco_backup.errors import ToolFailed
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.postgres.wal_files import Lsn
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.processes import Command, run, stream_lines

QUERY_SECONDS = 60.0
CONNECT_SECONDS = 15
CONTROL_WITHOUT_PREVIOUS = 1100  # PG_CONTROL_VERSION of 11
LONGEST_ARGUMENT = 100_000  # of a program, Linux allows 128 KiB (MAX_ARG_STRLEN)
SCRIPT_FAILED = 3  # what psql ends with after an error in a script; 2 is a connection that failed
_FIELD, _RECORD = "\x1f", "\x1e"
_SETTINGS_BY_WORDS = {
    "password authentication failed": ("PGPASSWORD", "PGUSER"),
    "no password supplied": ("PGPASSWORD",),
    "Peer authentication failed": ("PGUSER", "PGHOST"),
    "Ident authentication failed": ("PGUSER", "PGHOST"),
    "Connection refused": ("PGPORT", "PGHOST"),
    "Is the server running": ("PGPORT", "PGHOST"),
    "could not translate host name": ("PGHOST",),
    "timeout expired": ("PGHOST", "PGPORT"),
    "No route to host": ("PGHOST",),
    "Network is unreachable": ("PGHOST",),
}
"""What libpq and the server say (fe-connect.c, auth.c), and the settings it is about, likeliest first."""
_ABSENT = {
    r'FATAL: +role "[^"]*" does not exist': "PGUSER",
    r'FATAL: +database "[^"]*" does not exist': "PGDATABASE",
}


@dataclass(frozen=True)
class Database:
    """A server, a role and a database to connect to. Each query is a connection of its own."""

    programs: Programs
    environment: dict[str, str] = field(repr=False)
    account: Account | None = None
    timeout_seconds: float = QUERY_SECONDS
    superuser: bool = False

    def query(self, sql: str) -> list[tuple[str, ...]]:
        """All rows of a statement as text; NULL is an empty string. Raises ToolFailed.

        Where there was no connection its hint names the settings that the message is about.
        """
        with self._explained():
            output = run(self._command(sql, "-A"), keep_output=True).output
        rows = output.split(_RECORD)
        return [tuple(row.strip("\n").split(_FIELD)) for row in rows if row.strip("\n")]

    def value(self, sql: str) -> str:
        """The first field of the first row; an empty string when there is none."""
        rows = self.query(sql)
        return rows[0][0] if rows else ""

    def stream(self, sql: str, timeout_seconds: float) -> Generator[list[str], None, None]:
        """Rows of a SELECT one by one through COPY, unescaped; memory does not grow with their number."""
        copy = f"COPY ({sql}) TO STDOUT"
        if len(copy) < LONGEST_ARGUMENT:
            return self._rows(("-c", copy), timeout_seconds)
        return self._rows(("-w", "-f", "-"), timeout_seconds, f"{copy};\n")

    def stream_after(
        self, first: str, sql: Sequence[str], timeout_seconds: float
    ) -> Generator[list[str], None, None]:
        """The same of SELECTs in turn, all over one connection, in which `:name` is what `first` found.

        That SELECT has one row, and a name for each column. psql puts the values in as they are: no text that
        people wrote may be among them. It leaves alone what is within quotes.
        """
        copies = "".join(f"COPY ({one}) TO STDOUT;\n" for one in sql)
        return self._rows(("-w", "-f", "-"), timeout_seconds, f"{first} \\gset\n{copies}")

    def _rows(
        self, options: tuple[str, ...], timeout_seconds: float, script: str | None = None
    ) -> Generator[list[str], None, None]:
        argv = (self.programs.path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *options)
        with self._explained():
            for line in stream_lines(Command(argv, timeout_seconds, self.environment, self.account), script):
                yield [_unescape(field) for field in line.split("\t")] if "\\" in line else line.split("\t")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ToolFailed as failure:
            failure.hint = failure.hint or connection_fix(failure.tail, superuser=self.superuser)
            raise

    def takes_connections(self) -> bool:
        """Whether the server is ready: not starting up, in crash recovery or shutting down.

        Its port answers before it is. Whether the role may connect does not matter. True where there is no
        pg_isready beside psql to tell. Raises ToolFailed.
        """
        if not self.programs.has("pg_isready"):
            return True
        not_yet = {1: "the server rejects connections for now", 2: "the server does not answer"}
        # Without what a certificate must be like: that is no matter of being ready.
        where = {name: self.environment[name] for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE")}
        argv = (self.programs.path("pg_isready"), "-q")
        asked = Command(argv, self.timeout_seconds, where, self.account, tolerated=not_yet)
        return not run(asked).tolerated

    def set_password(self, role: str, password: str) -> None:
        """Give a role a password: psql hashes it, so that neither argv nor the server's log ever holds it.

        psql asks for it twice, on its input where it has no terminal. Raises ToolFailed.
        """
        name = '"' + role.replace('"', '""') + '"'
        argv = (self.programs.path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", f"\\password {name}")
        command = Command(argv, self.timeout_seconds, self.environment, self.account)
        run(command, input_text=f"{password}\n{password}\n")

    def _command(self, sql: str, *options: str) -> Command:
        separators = ("-F", _FIELD, "-R", _RECORD)
        argv = (
            self.programs.path("psql"),
            "-X",
            "-q",
            "-t",
            *options,
            *separators,
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
        )
        return Command(argv, self.timeout_seconds, self.environment, self.account)


def connection_environment(settings: Settings, *, superuser: bool = False) -> dict[str, str]:
    """libpq's variables for this host; the password is among them: for a child's environment only."""
    role = settings.pgsuperuser if superuser else settings.pguser
    secret = settings.superuser_password if superuser else settings.pgpassword
    environment = {
        **settings.libpq,
        "PGHOST": settings.pghost,
        "PGPORT": str(settings.pgport),
        "PGUSER": role,
        "PGDATABASE": settings.pgdatabase,
        "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
        "PGCLIENTENCODING": "UTF8",
        "PGAPPNAME": "alfresco-backup",
        "PGOPTIONS": "-c datestyle=ISO -c timezone=UTC -c statement_timeout=0",
    }
    return environment | ({"PGPASSWORD": secret.get_secret_value()} if secret.get_secret_value() else {})


def connection_fix(said: str, *, superuser: bool = False) -> str:
    """Which settings to edit where a connection failed, by libpq's words; empty where they tell nothing."""
    names = [name for pattern, name in _ABSENT.items() if re.search(pattern, said)]
    names += [name for words, found in _SETTINGS_BY_WORDS.items() if words in said for name in found]
    supers = {"PGUSER": "PGSUPERUSER", "PGPASSWORD": "PGSUPERPASSWORD"} if superuser else {}
    found = [supers.get(name, name) for name in dict.fromkeys(names)]
    others = [f"{edit_setting(name)}  # if {found[0]} is right" for name in found[1:]]
    return "\n".join([*map(edit_setting, found[:1]), *others])


def quoted_name(name: str) -> str:
    """A role's or database's name as a statement or pg_hba.conf wants it."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def quoted_literal(text: str) -> str:
    """A text as a statement wants it."""
    return "'" + text.replace("'", "''") + "'"


def connect(
    settings: Settings, programs: Programs, account: Account | None = None, *, superuser: bool = False
) -> Database:
    """The database as PGUSER, or as PGSUPERUSER for what only a superuser may do.

    `account` is the operating system account psql runs as when this process is root: the data
    directory's owner, whom peer authentication knows.
    """
    environment = connection_environment(settings, superuser=superuser)
    return Database(programs, environment, account, superuser=superuser)


@dataclass(frozen=True)
class Identity:
    """What a server says of itself over a replication connection: who it is and where its WAL stands."""

    system_identifier: str
    timeline: int
    lsn: str


def identify_system(database: Database) -> Identity:
    """IDENTIFY_SYSTEM. Raises ToolFailed when the role may not replicate or pg_hba.conf refuses it."""
    fields = _ask_for_replication(database, "IDENTIFY_SYSTEM")
    return Identity(fields[0], int(fields[1]), fields[2])


def timeline_history(database: Database, timeline: int) -> str:
    """The text of a timeline's history, which the first one has not. Raises ToolFailed as identify_system."""
    return _ask_for_replication(database, f"TIMELINE_HISTORY {timeline}")[1]


def _ask_for_replication(database: Database, question: str) -> list[str]:
    argv = ("psql", "-X", "-q", "-A", "-t", "-F", _FIELD, "-d", "replication=true", "-c", question)
    command = Command(
        (database.programs.path(argv[0]), *argv[1:]),
        database.timeout_seconds,
        database.environment,
        database.account,
    )
    return run(command, keep_output=True).output.strip().split(_FIELD)


def system_identifier(data_directory: Path) -> str:
    """The cluster's identifier: the first eight bytes of pg_control. Empty where it cannot be read."""
    try:
        with (data_directory / "global/pg_control").open("rb") as stream:
            return str(int.from_bytes(stream.read(8), "little"))
    except OSError:
        return ""


def last_checkpoint(data_directory: Path) -> tuple[int, Lsn] | None:
    """Timeline and position of a cluster's last checkpoint; None where its control file cannot be read.

    The record there is the last one of a server that was shut down, and was on disk before it was noted.
    pg_control.h, the same from 9.4 to 18, but for the checkpoint before, which it named until 10.
    """
    try:
        with (data_directory / "global/pg_control").open("rb") as stream:
            data = stream.read(64)
            version, position = struct.unpack_from("<8xI20xQ", data)
            place = 48 if version >= CONTROL_WITHOUT_PREVIOUS else 56
            return int(struct.unpack_from("<I", data, place)[0]), Lsn(position)
    except (OSError, struct.error):
        return None


_ESCAPES = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}


def _unescape(field: str) -> str:
    """COPY's text form back to the value; `\\N` (NULL) becomes an empty string."""
    if field == "\\N":
        return ""
    parts = field.split("\\")
    plain = [parts[0]]
    position = 1
    while position < len(parts):
        part = parts[position]
        if part:
            plain.append(_ESCAPES.get(part[0], part[0]) + part[1:])
        else:  # an escaped backslash: the next part is plain text
            plain.append("\\" + (parts[position + 1] if position + 1 < len(parts) else ""))
            position += 1
        position += 1
    return "".join(plain)
