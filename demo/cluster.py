"""A PostgreSQL cluster of our own: made, started, asked and stopped by the programs of one version.

It never touches a cluster it has not made. Passwords are really used: pg_hba.conf knows no `trust`.
"""

import contextlib
import itertools
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from alfresco_backup.postgres.versions import VersionFacts, facts_of, version_of_program
from alfresco_backup.settings.commands import make_command
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.processes import Command, Finished, run
from demo.places import cache_directory, give_to, server_account

SUPERUSER = "postgres"
PASSWORD = "demo secret #1'"  # noqa: S105 - a password for a demo, with characters that break careless quoting
LIMIT_SECONDS = 120.0
SOCKET_PATH_LIMIT = 90  # sun_path holds 107 bytes, PostgreSQL adds /.s.PGSQL.NNNNN
PORT_SPAN = 5_000
_FIELD, _RECORD = "\x1f", "\x1e"
# md5 asks for SCRAM where the stored password is a SCRAM one (14 and later by default).
_HBA = """\
# TYPE  DATABASE     USER  ADDRESS       METHOD
local   all          all                 md5
local   replication  all                 md5
host    all          all   127.0.0.1/32  md5
host    replication  all   127.0.0.1/32  md5
"""


def available_bindirs() -> list[Path]:
    """Folders with a PostgreSQL server's programs, oldest version first, one for each major version.

    PG_BINDIRS (separated by colons) counts first, then Debian's packages, then what `make test` has fetched.
    """
    named = [Path(item) for item in os.environ.get("PG_BINDIRS", "").split(os.pathsep) if item]
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    fetched = sorted((cache_directory() / "postgresql").glob("*/bin"))
    by_major: dict[int, Path] = {}
    for folder in (*named, *system, *fetched):
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            by_major.setdefault(major_version(folder), folder)
    return [folder for _, folder in sorted(by_major.items())]


@cache
def stated_version(bindir: Path) -> int:
    """What the server's program says it is: 100023, 150018."""
    probe = Command((str(bindir / "postgres"), "--version"), LIMIT_SECONDS)
    return version_of_program(run(probe, keep_output=True).output)


def major_version(bindir: Path) -> int:
    """The major version as the server counts: 90400, 100000, 150000."""
    return facts_of(stated_version(bindir)).major


def default_bindir() -> Path:
    """PG_TEST_BINDIR, else the newest server with all its programs, Debian's before fetched ones."""
    if named := os.environ.get("PG_TEST_BINDIR"):
        return Path(named)
    complete = [folder for folder in available_bindirs() if (folder / "pg_basebackup").exists()]
    if not complete:
        raise FileNotFoundError(f"there is no PostgreSQL server here\nHINT: {make_command('setup-demo')}")
    system = [folder for folder in complete if folder.is_relative_to("/usr/lib/postgresql")]
    return (system or complete)[-1]


def client_bindir(bindir: Path) -> Path:
    """Where psql lies: beside the server, else the newest other version's (npm's servers come without)."""
    candidates = (bindir, *reversed(available_bindirs()), *filter(None, [_on_path("psql")]))
    for folder in candidates:
        if (folder / "psql").exists():
            return folder
    raise FileNotFoundError(f"there is no psql here\nHINT: {make_command('setup-demo')}")


def free_port() -> int:
    """A TCP port nobody listens on now. None of those that the kernel gives to connections."""
    while True:
        port = next(_own_ports())
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@cache
def _own_ports() -> Iterator[int]:
    """Ports in turn, begun anywhere: one that was given is not given again while its server is down.

    Tests that run side by side each have a span of their own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    start = secrets.randbelow(PORT_SPAN)
    return (10_000 + worker * PORT_SPAN + (start + turn) % PORT_SPAN for turn in itertools.count())


@dataclass
class Cluster:
    """A cluster in `directory` (the data directory itself). `create()` makes it; it need not exist before.

    `durable=False` turns fsync off: for tests only. Log and socket lie in `runtime`, by default beside the
    data directory.
    """

    bindir: Path
    directory: Path
    port: int = field(default_factory=free_port)
    durable: bool = True
    superuser: str = SUPERUSER
    password: str = PASSWORD
    account: Account | None = field(default_factory=server_account)
    runtime: Path | None = None
    initdb_options: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        return stated_version(self.bindir)

    @property
    def runtime_directory(self) -> Path:
        return self.runtime or self.directory.parent

    @property
    def log(self) -> Path:
        return self.runtime_directory / "postgresql.log"

    @property
    def socket_directory(self) -> Path:
        """The runtime directory; where that path suits no socket, a short one in /tmp.

        It may be too long, or have a quote in it: pg_ctl of 9.4 puts it unquoted into a connection string.
        """
        path = os.fsencode(self.runtime_directory)
        if len(path) <= SOCKET_PATH_LIMIT and b"'" not in path:
            return self.runtime_directory
        return Path(tempfile.gettempdir(), f"demo-{self.port}")

    @property
    def system_identifier(self) -> str:
        """The number of the cluster, from its control file; pg_control_system() tells it from 9.6."""
        if self.version >= 90600:
            return self.sql("SELECT system_identifier FROM pg_control_system()")[0][0]
        lines = self._run("pg_controldata", str(self.directory)).output.splitlines()
        (line,) = (line for line in lines if line.startswith("Database system identifier:"))
        return line.split()[-1]

    @property
    def facts(self) -> VersionFacts:
        return facts_of(self.version)

    def current_segment(self) -> str:
        """The name of the WAL segment that is being written."""
        return self.sql(f"SELECT {self.facts.lsn_file}({self.facts.current_lsn}())")[0][0]

    def switch_segment(self) -> str:
        """Finish the WAL segment that is being written; its name."""
        return self.sql(f"SELECT {self.facts.lsn_file}({self.facts.switch_wal}())")[0][0]

    def knows(self, setting: str) -> bool:
        """Whether this version has a setting of that name."""
        described = self._run("postgres", "--describe-config").output
        return any(line.split("\t", 1)[0] == setting for line in described.splitlines())

    def create(self) -> "Cluster":
        """initdb, pg_hba.conf, settings; does not start. The account must be able to reach `directory`."""
        for directory in (self.runtime_directory, self.directory):
            directory.mkdir(parents=True, exist_ok=True)
            give_to(directory, self.account)
        with tempfile.NamedTemporaryFile("w", dir=self.runtime_directory, prefix=".pw") as secret:
            secret.write(self.password)
            secret.flush()
            give_to(Path(secret.name), self.account)
            options = ["-A", "trust", f"--pwfile={secret.name}", "-E", "UTF8", "--locale=C"]
            options += [*self.initdb_options] if self.durable else [*self.initdb_options, "--nosync"]
            self._run("initdb", "-D", str(self.directory), "-U", self.superuser, *options)
        self._write("pg_hba.conf", _HBA)
        self.configure(
            listen_addresses="127.0.0.1",
            port=self.port,
            unix_socket_directories=str(self.socket_directory),
            shared_buffers="16MB",
            max_connections=40,
            fsync="on" if self.durable else "off",
            log_line_prefix="%m [%p] %u@%d ",
        )
        return self

    def configure(self, **settings: object) -> None:
        """Add settings to postgresql.conf; in force after the next start, or `reload()` where enough."""
        lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
        path = self.directory / "postgresql.conf"
        self._write("postgresql.conf", path.read_text() + "".join(lines))

    def start(self) -> None:
        """Start and wait until it answers. Raises ToolFailed with the end of the server's log."""
        if not self.socket_directory.exists():
            self.socket_directory.mkdir()
            give_to(self.socket_directory, self.account)
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", str(self.directory), "-l", str(self.log))

    def stop(self, mode: str = "fast") -> None:
        """Stop, when it runs; `immediate` is a crash."""
        if self.running:
            self._run("pg_ctl", "stop", "-w", "-t", "60", "-m", mode, "-D", str(self.directory))

    def reload(self) -> None:
        self._run("pg_ctl", "reload", "-D", str(self.directory))

    @property
    def running(self) -> bool:
        """Whether the postmaster of postmaster.pid is alive; another process may have got its number."""
        try:
            pid = int((self.directory / "postmaster.pid").read_text().split()[0])
            return Path(f"/proc/{pid}/cwd").readlink() == self.directory.resolve()
        except (OSError, IndexError):
            return False

    def environment(self, user: str | None = None, password: str | None = None) -> dict[str, str]:
        """libpq's variables for this cluster; the superuser's unless another role is named."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": user or self.superuser,
            "PGPASSWORD": self.password if password is None else password,
            "PGCLIENTENCODING": "UTF8",
        }

    def psql_argv(self, database: str = "postgres") -> tuple[str, ...]:
        """psql without start-up file, stopping at the first error, unaligned output with safe separators."""
        program = str(client_bindir(self.bindir) / "psql")
        separators = ("-F", _FIELD, "-R", _RECORD)
        return (program, "-X", "-q", "-A", "-t", *separators, "-v", "ON_ERROR_STOP=1", "-d", database)

    def sql(self, query: str, database: str = "postgres") -> list[tuple[str, ...]]:
        """Run statements as superuser; the rows as text. Raises ToolFailed with the server's words."""
        argv = (*self.psql_argv(database), "-c", query)
        output = run(Command(argv, LIMIT_SECONDS, self.environment()), keep_output=True).output
        rows = output.removesuffix("\n").split(_RECORD) if output else []
        return [tuple(row.split(_FIELD)) for row in rows]

    def sql_file(self, path: Path, database: str = "postgres") -> None:
        """Run a file of statements in one transaction, as superuser."""
        argv = (*self.psql_argv(database), "-1", "-f", str(path))
        run(Command(argv, LIMIT_SECONDS, self.environment()))

    def destroy(self) -> None:
        """Stop and remove it."""
        self.stop("immediate")
        shutil.rmtree(self.directory)
        if self.socket_directory != self.runtime_directory:
            shutil.rmtree(self.socket_directory, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> Finished:
        argv = (str(self.bindir / program), *arguments)
        hint = f"tail {self.log}"
        return run(Command(argv, LIMIT_SECONDS, {"TZ": "UTC"}, self.account, hint=hint), keep_output=True)

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        give_to(path, self.account)


def _quoted(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("'", "''")


def _on_path(program: str) -> Path | None:
    found = shutil.which(program)
    return Path(found).resolve().parent if found else None
