"""A demo host: an Alfresco home with a real PostgreSQL, documents of several years, WAL archiving, an .env.

directory/alfresco/   ALF_BASE_DIR
directory/backup/     BACKUP_DIR
directory/wal/        archive-wal and restore-wal, where PostgreSQL's account can run them
directory/.env        the settings
directory/demo.json   what `DemoHost.open` needs
"""

import json
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.system.processes import Command, run
from demo.cluster import Cluster, default_bindir, free_port
from demo.home import ROLE, ROLE_PASSWORD, Home, copy_wal_commands
from demo.places import give_to
from demo.population import load_rows, make_population, write_files
from demo.rows import LIBRARY_FIRST, RowMaker
from demo.state import DATABASE, State, literal, read_state
from demo.writer import Writer

CONTROL_SECONDS = 180.0
SEED = 20260101
MARKER = "demo.json"


@dataclass(frozen=True)
class DemoHost:
    """A host in `directory`, which every account must be able to reach."""

    directory: Path
    cluster: Cluster
    tomcat_port: int
    name: str

    @classmethod
    def create(
        cls,
        directory: Path,
        bindir: Path | None = None,
        documents: int = 2000,
        *,
        name: str = "demo",
        durable: bool = True,
    ) -> "DemoHost":
        """A host with its documents, running. `durable=False` turns fsync off: for tests."""
        host = cls.install(directory, bindir, name=name, durable=durable)
        host.furnish(documents)
        return host

    def furnish(self, documents: int) -> None:
        """Give an installed host its cluster, documents and configuration, and start it."""
        self._create_cluster()
        population = make_population(documents, SEED)
        write_files(population, self.layout.contentstore)
        load_rows(population.changes, self.cluster, self.directory)
        self.layout.add_configuration(self.cluster, SEED)
        self.start()

    @classmethod
    def install(
        cls,
        directory: Path,
        bindir: Path | None = None,
        *,
        name: str = "demo",
        durable: bool = True,
        like: "DemoHost | None" = None,
    ) -> "DemoHost":
        """A host with everything but data: no cluster, no documents, no configuration; nothing runs.

        `like` makes it the replacement of another host, which must be stopped: same ports, same programs,
        same repository.
        """
        directory.mkdir(parents=True, exist_ok=True)
        home = Home(directory / "alfresco")
        cluster = Cluster(
            like.cluster.bindir if like else bindir or default_bindir(),
            home.data_directory,
            port=like.cluster.port if like else free_port(),
            durable=durable,
            runtime=home.root / "postgresql",
        )
        host = cls(directory, cluster, like.tomcat_port if like else free_port(), like.name if like else name)
        home.install(cluster, host.tomcat_port)
        give_to(home.root / "postgresql", cluster.account)
        copy_wal_commands(directory / "wal")
        if like:
            host.backup_dir.symlink_to(like.backup_dir)
        else:
            (host.backup_dir / "pg_wal").mkdir(parents=True)
            give_to(host.backup_dir / "pg_wal", cluster.account)
        host._write_env()
        host._write_marker()
        return host

    @classmethod
    def open(cls, directory: Path) -> "DemoHost":
        """A host made before. It may run or not."""
        marker = json.loads((directory / MARKER).read_text())
        home = Home(directory / "alfresco")
        cluster = Cluster(
            Path(marker["bindir"]),
            home.data_directory,
            port=marker["port"],
            durable=marker["durable"],
            runtime=home.root / "postgresql",
        )
        return cls(directory, cluster, marker["tomcat_port"], marker["name"])

    @property
    def home(self) -> Path:
        """ALF_BASE_DIR."""
        return self.layout.root

    @property
    def layout(self) -> Home:
        """The places below `home`."""
        return Home(self.directory / "alfresco")

    @property
    def backup_dir(self) -> Path:
        return self.directory / "backup"

    @property
    def wal_archive(self) -> Path:
        return self.backup_dir / "pg_wal"

    @property
    def env_file(self) -> Path:
        return self.directory / ".env"

    @cached_property
    def writer(self) -> Writer:
        """The host's one writer; it knows every commit from the moment it is first asked for."""
        state = read_state(self.cluster)
        keys = [int(str(key[0])) for rows in state.tables.values() for key in rows]
        numbers = [number for number in keys if number < LIBRARY_FIRST]
        return Writer(
            cluster=self.cluster,
            store=self.layout.contentstore,
            deleted_store=self.layout.deleted_contentstore,
            baseline=state,
            since=datetime.now(UTC),
            rows=RowMaker(first=max(numbers, default=0) + 1),
        )

    def start(self, component: str = "") -> str:
        """alfresco.sh start: PostgreSQL, then Tomcat. Raises ToolFailed with what the script said."""
        return self.control("start", component)

    def stop(self, component: str = "") -> str:
        """alfresco.sh stop: Tomcat, then PostgreSQL."""
        return self.control("stop", component)

    def control(self, verb: str, component: str = "") -> str:
        """alfresco.sh with a verb and perhaps a component; what it printed."""
        argv = (str(self.layout.control_script), verb, *([component] if component else []))
        hint = f"tail {self.home}/tomcat/logs/catalina.out {self.cluster.log}"
        return run(Command(argv, CONTROL_SECONDS, hint=hint), keep_output=True).output

    def answer(self) -> str:
        """What the stand-in for Alfresco answers on its port. Raises URLError where it is down."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.tomcat_port}/alfresco", timeout=30) as reply:
            return str(reply.read().decode().strip())

    def read_state(self) -> State:
        """The rows as they are in the database now."""
        return read_state(self.cluster)

    def missing_documents(self, state: State) -> list[str]:
        """URLs of the live documents of `state` whose file is missing or differs in a byte."""
        store = self.layout.contentstore
        return [
            document.url
            for document in state.live_documents()
            if not (store / document.path).is_file()
            or (store / document.path).read_bytes() != document.content()
        ]

    def wipe(self) -> None:
        """Stop, and lose what a disaster takes: data directory, documents, configuration. Programs stay."""
        self._stop_all()
        for path in (self.home / "alf_data", self.home / "tomcat/shared"):
            shutil.rmtree(path)

    def destroy(self) -> None:
        """Stop the host and remove it with its backups. Nothing is saved, so PostgreSQL need not tidy up."""
        self._stop_all(immediately=True)
        shutil.rmtree(self.directory)

    def _stop_all(self, *, immediately: bool = False) -> None:
        if "writer" in self.__dict__:  # asking for one now would need the database
            self.writer.close()
        if self.layout.control_script.exists():  # not on a host that is half made, or half removed
            self.stop("tomcat")
        self.cluster.stop("immediate" if immediately else "fast")

    def _create_cluster(self) -> None:
        facts = facts_of(self.cluster.version)
        self.cluster.create()
        archive = f'"{self.directory}/wal/archive-wal" --zstd "%p" "%f" "{self.wal_archive}"'
        self.cluster.configure(
            wal_level=facts.recommended_wal_level,
            archive_mode="on",
            archive_command=archive,
            archive_timeout=60,
            max_wal_senders=6,
        )
        if self.cluster.knows("track_commit_timestamp"):
            self.cluster.configure(
                track_commit_timestamp="on"
            )  # the writer tells when each commit took place
        self.start("postgresql")
        self.cluster.sql(f"CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD {literal(ROLE_PASSWORD)}")
        self.cluster.sql(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        schema = Path(__file__).with_name("schema.sql").read_text()
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(f"SET ROLE {ROLE};\n{schema}")
            script.flush()
            self.cluster.sql_file(Path(script.name), DATABASE)

    def _write_marker(self) -> None:
        marker = {
            "bindir": str(self.cluster.bindir),
            "port": self.cluster.port,
            "tomcat_port": self.tomcat_port,
            "name": self.name,
            "durable": self.cluster.durable,
        }
        (self.directory / MARKER).write_text(json.dumps(marker, indent=1))

    def _write_env(self) -> None:
        settings = {
            "PGHOST": "127.0.0.1",
            "PGPORT": self.cluster.port,
            "PGUSER": ROLE,
            "PGPASSWORD": ROLE_PASSWORD,
            "PGDATABASE": DATABASE,
            "PGSUPERUSER": self.cluster.superuser,
            "PGSUPERPASSWORD": self.cluster.password,
            "BACKUP_DIR": self.backup_dir,
            "ALF_BASE_DIR": self.home,
            "ALF_HOST_NAME": self.name,
            "TOMCAT_PORT": self.tomcat_port,
        }
        write_settings(self.env_file, settings)


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def write_settings(env_file: Path, settings: Mapping[str, object]) -> None:
    """The `.env` of a host that is waited for no longer than a demonstration takes."""
    own = {
        "RETENTION_DAYS": 7,
        "CUSTOMER_NAME": "Demo",
        "ARCHIVE_WAIT_MINUTES": 1,
        "SERVICE_STOP_MINUTES": 1,
        "BUSY_WAIT_MINUTES": 2,
    }
    env_file.touch(0o600)
    env_file.write_text("".join(f'{name}="{value}"\n' for name, value in {**settings, **own}.items()))
