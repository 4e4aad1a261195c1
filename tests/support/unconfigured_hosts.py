"""Hosts that nobody has made ready: PostgreSQL as a package leaves it, an Alfresco home, an .env."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.postgres.database import quoted_literal
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.processes import Command, run
from demo.cluster import client_bindir, free_port, stated_version
from demo.home import ROLE, ROLE_PASSWORD
from demo.places import give_to, server_account
from tests.support.places import reachable_directory

LIMIT_SECONDS = 600.0
SUPER_PASSWORD = "superuser's §1 secret"
PLAIN = "postgresql.conf in the data directory"
OUTSIDE = "configuration outside the data directory"
READY_FROM = 100000
"""From PostgreSQL 10 on wal_level and max_wal_senders are by default as backups need them."""
HBA = """\
local   all             {superuser}                             peer
local   all             all                                     {password}
host    all             all             127.0.0.1/32            {password}
"""
HBA_REPLICATION = """\
local   replication     all                                     peer
host    replication     all             127.0.0.1/32            reject
"""


def furnish(home: Path, sql: Callable[..., object]) -> None:
    """Alfresco's role and database, a document and the keystore. `sql` runs a statement as the superuser."""
    sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD {quoted_literal(ROLE_PASSWORD)}")
    sql(f"CREATE DATABASE alfresco OWNER {ROLE}")
    schema = (PROJECT_DIRECTORY / "demo/schema.sql").read_text()
    sql(f"SET ROLE {ROLE};\n{schema}", "alfresco")
    document = home / "alf_data/contentstore/2026/1/2/3/4/document.bin"
    document.parent.mkdir(parents=True)
    document.write_bytes(b"a document")
    (home / "alf_data/keystore").mkdir()
    (home / "alf_data/keystore/keystore").write_bytes(b"key")


@dataclass
class PlainHost:
    """A host below `directory`. The superuser has no password and comes in by peer, as with Debian."""

    directory: Path
    bindir: Path
    port: int
    outside: bool = False

    @property
    def account(self) -> Account:
        account = server_account()
        if account:
            return account
        entry = pwd.getpwuid(os.geteuid())
        return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)

    @property
    def version(self) -> int:
        return stated_version(self.bindir)

    @property
    def waits_for(self) -> list[str]:
        """The settings that configure changes and a restart brings into force."""
        early = [] if self.version >= READY_FROM else ["wal_level"]
        return [*early, "archive_mode", *(["max_wal_senders"] if early else [])]

    @property
    def verified(self) -> list[str]:
        """What configure can verify before that restart."""
        return [f"{ROLE} replicates"] if self.version >= READY_FROM else []

    @property
    def password_method(self) -> str:
        return "scram-sha-256" if self.version >= 140000 else "md5"

    @property
    def home(self) -> Path:
        return self.directory / "alfresco"

    @property
    def data(self) -> Path:
        return self.home / "alf_data/postgresql"

    @property
    def configuration(self) -> Path:
        return self.directory / "etc" if self.outside else self.data

    @property
    def hba(self) -> Path:
        return self.configuration / "pg_hba.conf"

    @property
    def backup_dir(self) -> Path:
        return self.directory / "backup"

    @property
    def env_file(self) -> Path:
        return self.directory / ".env"

    @property
    def commands(self) -> Path:
        return self.directory / "wal"

    @property
    def log(self) -> Path:
        return self.directory / "run/postgresql.log"

    def create(self, replication_rules: str = HBA_REPLICATION, **settings: object) -> "PlainHost":
        """initdb, then only what keeps it apart from other servers; started, with role and tables."""
        for path in (self.home / "alf_data", self.directory / "run", self.data):
            path.mkdir(parents=True, exist_ok=True)
            give_to(path, self.account)
        options = ("-U", self.account.name, "-A", "trust", "-E", "UTF8", "--locale=C")
        sync = () if self.version < 100000 else ("--no-sync",)
        self.program("initdb", "-D", str(self.data), *options, *sync)
        text = HBA.format(superuser=self.account.name, password=self.password_method)
        self.write(self.data / "pg_hba.conf", text + replication_rules)
        values: dict[str, object] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory / "run",
            "shared_buffers": "16MB",
            "max_connections": 30,
            "fsync": "off",
            **settings,
        }
        if self.outside:
            values |= {
                "data_directory": self.data,
                "hba_file": self.hba,
                "ident_file": self.configuration / "pg_ident.conf",
            }
            self.configuration.mkdir()
            give_to(self.configuration, self.account)
            for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
                shutil.move(self.data / name, self.configuration / name)
        conf = self.configuration / "postgresql.conf"
        self.write(
            conf, conf.read_text() + "".join(f"{name} = '{value}'\n" for name, value in values.items())
        )
        if "include_dir" in settings:
            folder = self.configuration / str(settings["include_dir"])
            folder.mkdir()
            give_to(folder, self.account)
        self.hba.chmod(0o640)
        self.start()
        self.furnish()
        return self

    def start(self) -> None:
        place = ("-o", f"-c config_file={self.configuration}/postgresql.conf") if self.outside else ()
        self.program("pg_ctl", "start", "-w", "-t", "60", "-D", str(self.data), "-l", str(self.log), *place)

    def stop(self, mode: str = "immediate") -> None:
        if (self.data / "postmaster.pid").exists():
            self.program("pg_ctl", "stop", "-w", "-D", str(self.data), "-m", mode)

    def furnish(self) -> None:
        """What Alfresco has there, and the `.env`."""
        furnish(self.home, self.sql)
        if self.version < 100000:  # rights for restore points can be given from 10 on
            self.sql(f"ALTER ROLE {self.account.name} PASSWORD {quoted_literal(SUPER_PASSWORD)}")
        self.write_env()

    def write_env(self, **changed: object) -> None:
        values: dict[str, object] = {
            "PGHOST": "127.0.0.1",
            "PGPORT": self.port,
            "PGUSER": ROLE,
            "PGPASSWORD": "'" + ROLE_PASSWORD.replace("'", "\\'") + "'",
            "BACKUP_DIR": self.backup_dir,
            "ALF_BASE_DIR": self.home,
            "ALF_HOST_NAME": "plain",
            "ARCHIVE_WAIT_MINUTES": 1,
            "SERVICE_STOP_MINUTES": 2,
            "TOMCAT_PORT": 1,
            **(
                {}
                if (self.bindir / "psql").exists() and self.bindir.parts[1] == "usr"
                else {"PG_BINDIR": self.bindir}
            ),
            **(
                {}
                if self.version >= 100000
                else {"PGSUPERUSER": self.account.name, "PGSUPERPASSWORD": f'"{SUPER_PASSWORD}"'}
            ),
            **changed,
        }
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        self.env_file.chmod(0o644)

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[str, ...]]:
        """As the superuser, by peer."""
        argv = (
            str(client_bindir(self.bindir) / "psql"),
            "-X",
            "-q",
            "-A",
            "-t",
            "-F",
            "\x1f",
            "-v",
            "ON_ERROR_STOP=1",
        )
        environment = {
            "PGHOST": str(self.directory / "run"),
            "PGPORT": str(self.port),
            "PGUSER": self.account.name,
            "PGDATABASE": database,
        }
        command = Command((*argv, "-f", "-"), LIMIT_SECONDS, environment, self.account)
        output = run(command, keep_output=True, input_text=statement + "\n").output
        return [tuple(line.split("\x1f")) for line in output.splitlines()]

    def setting(self, name: str) -> str:
        return self.sql(f"SELECT setting FROM pg_settings WHERE name = '{name}'")[0][0]

    def program(self, name: str, *arguments: str) -> None:
        run(Command((str(self.bindir / name), *arguments), LIMIT_SECONDS, {"TZ": "UTC"}, self.account))

    def write(self, path: Path, text: str) -> None:
        path.write_text(text)
        give_to(path, self.account)

    def configure(self, *arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
        """Type it, WAL commands going to a folder of this host."""
        place = () if "--undo" in arguments else ("--wal-commands", self.commands)
        return configure(self.env_file, *arguments, *place, before=before)

    def state(self) -> dict[str, object]:
        """All that configure may touch, as it is: file contents with owner and mode, settings, role."""
        files = [self.hba, self.env_file, self.data / "postgresql.auto.conf"]
        return {
            "files": {
                str(path): (path.read_bytes(), *_access(path))
                for path in files
                if path.name != "postgresql.auto.conf"
            },
            "auto": sorted(line for line in files[2].read_text().splitlines() if not line.startswith("#")),
            "access": {str(path): _access(path) for path in files},
            "data directory": sorted(item.name for item in self.data.iterdir()),
            "configuration": sorted(item.name for item in self.configuration.iterdir()),
            "commands": sorted(item.name for item in self.commands.glob("*")),
            "role": self.sql(
                "SELECT rolreplication, ARRAY(SELECT roleid FROM pg_auth_members WHERE member = r.oid)"
                " FROM pg_roles r WHERE rolname = 'alfresco'"
            ),
            "rights": self.sql(
                "SELECT has_function_privilege('alfresco', 'pg_create_restore_point(text)', 'execute')",
                "alfresco",
            ),
        }


def _access(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, status.st_mode


def configure(env_file: Path, *arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """The command with next to nothing in the environment; whoever imports Prefect fails."""
    code = "import sys; sys.modules['prefect'] = None; from alfresco_backup.__main__ import main\n"
    code += f"{before}\nsys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "configure", *map(str, arguments), "--env", str(env_file)]
    return subprocess.run(
        argv,
        cwd=PROJECT_DIRECTORY,
        env={"PATH": "/usr/bin:/bin", "HOME": "/", "PYTHONPATH": str(PROJECT_DIRECTORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@dataclass
class DebianHost:
    """A cluster made by pg_createcluster, as Debian's package leaves one, with Alfresco's database in it.

    Its configuration is below `directory`/etc, which PG_CLUSTER_CONF_ROOT names, not in /etc/postgresql: the
    machine's own clusters are not touched.
    """

    directory: Path
    version: str
    port: int
    cluster: str = "main"

    @property
    def etc(self) -> Path:
        return self.directory / "etc"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def home(self) -> Path:
        return self.directory / "alfresco"

    def create(self) -> "DebianHost":
        self.home.mkdir()
        (self.directory / "run").mkdir()
        give_to(self.directory / "run", server_account() or Account(0, 0, "root"))
        places = ("--datadir", str(self.data), "--socketdir", str(self.directory / "run"))
        self.program("pg_createcluster", "--port", str(self.port), *places, self.version, self.cluster)
        self.program("pg_ctlcluster", self.version, self.cluster, "start")
        furnish(self.home, self.sql)
        return self

    def systemctl(self, folder: Path) -> Path:
        """A stand-in for systemctl, which this machine may not run: it calls pg_ctlcluster."""
        script = folder / "systemctl"
        unit = f"postgresql@{self.version}-{self.cluster}"
        script.write_text(
            f"#!/bin/sh\nexport PG_CLUSTER_CONF_ROOT='{self.etc}'\n"
            f'[ "$2" = {unit} ] || exit 5\n'
            f'exec pg_ctlcluster {self.version} {self.cluster} "$1" -- -w\n'
        )
        script.chmod(0o755)
        return script

    def program(self, name: str, *arguments: str) -> None:
        run(Command((name, *arguments), LIMIT_SECONDS, {"PG_CLUSTER_CONF_ROOT": str(self.etc)}))

    def sql(self, statement: str, database: str = "postgres") -> str:
        argv = ("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-")
        where = {
            "PGHOST": str(self.directory / "run"), "PGPORT": str(self.port),
            "PGUSER": "postgres", "PGDATABASE": database,
        }  # fmt: skip
        command = Command(argv, LIMIT_SECONDS, where, server_account())
        return run(command, keep_output=True, input_text=statement + "\n").output.strip()

    def stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.program("pg_ctlcluster", self.version, self.cluster, "stop", "--", "-m", "immediate")


@contextmanager
def debian_host(version: str) -> Iterator[DebianHost]:
    """A running host that is removed afterwards."""
    with reachable_directory() as directory:
        host = DebianHost(directory, version, free_port())
        try:
            yield host.create()
        finally:
            host.stop()


@contextmanager
def plain_host(bindir: Path, *, outside: bool = False, **settings: object) -> Iterator[PlainHost]:
    """A running host that is removed afterwards."""
    with reachable_directory() as directory:
        host = PlainHost(directory, bindir, free_port(), outside)
        try:
            yield host.create(**settings)  # type: ignore[arg-type]
        finally:
            host.stop()
