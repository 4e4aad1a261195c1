"""A host whose Alfresco and PostgreSQL run in containers: the demo's documents, rows and writer in them.

directory/alfresco/alf_data/contentstore    bind mount of uid 33000, with the documents
directory/alfresco/keystore                 another one
directory/backup/                           BACKUP_DIR
directory/.env                              the settings, with PG_CONTAINER and ALF_CONTAINERS
a named volume                              the data directory, of uid 999
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

from demo.cluster import Cluster, free_port
from demo.documents import Document
from demo.home import Home
from demo.host import SEED, DemoHost
from demo.population import load_rows, make_population, write_files
from demo.state import DATABASE
from demo.writer import Commit, Writer
from tests.support import container_engine as engine
from tests.support.common import wait_until
from tests.support.places import own_folder, reachable_directory

ROLE = "alfresco"
PASSWORD = "alfresco's-secret"
TOMCAT = "/usr/local/tomcat"
KEYSTORE = f"{TOMCAT}/shared/classes/alfresco/extension/keystore"


class ContainerCluster(Cluster):
    """The cluster in the container, asked from the host; started and stopped by the engine."""

    container = ""

    @property
    def running(self) -> bool:
        return (
            engine.podman("container", "inspect", "-f", "{{.State.Running}}", self.container, check=False)
            == "true"
        )

    def start(self) -> None:
        engine.podman("start", self.container)
        wait_until(self.answers, lambda: engine.podman("logs", self.container))

    def stop(self, mode: str = "fast") -> None:
        """`immediate` kills all processes of the container at once."""
        if self.running:
            engine.podman(*(("kill",) if mode == "immediate" else ("stop", "-t", "60")), self.container)
            wait_until(lambda: not self.running, "the container has stopped")

    def answers(self) -> bool:
        argv = ("exec", self.container, "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
        return engine.podman(*argv, "-d", DATABASE, check=False) == "" and self._lets_in()

    def _lets_in(self) -> bool:
        inside = (
            "exec",
            "-e",
            f"PGPASSWORD={self.password}",
            self.container,
            "psql",
            "-XAtq",
            "-h",
            "127.0.0.1",
        )
        argv = (*inside, "-p", str(self.port), "-U", self.superuser, "-d", DATABASE, "-c", "SELECT 1")
        return engine.podman(*argv, check=False) == "1"


@dataclass(kw_only=True)
class AlfrescosWriter(Writer):
    """Writes files as uid 33000, as the container does."""

    def _commit(self, what: str, documents: Sequence[Document], *rest: object) -> Commit:
        give_to_alfresco(self.store)
        return super()._commit(what, documents, *rest)


def give_to_alfresco(folder: Path) -> None:
    """All that root has written there."""
    for place, names, files in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in (*names, *files))):
            if path.lstat().st_uid != engine.ALFRESCO_UID:
                os.chown(path, engine.ALFRESCO_UID, engine.ALFRESCO_UID, follow_symlinks=False)


@dataclass(frozen=True)
class ContainerHost(DemoHost):
    """A running host; `prefix` begins the names of its containers and volumes."""

    prefix: str = field(default="")
    image: str = field(default="")

    @property
    def postgres(self) -> str:
        return f"{self.prefix}-postgres-1"

    @property
    def alfresco(self) -> str:
        return f"{self.prefix}-alfresco-1"

    @property
    def volume(self) -> str:
        return f"{self.prefix}_postgres-data"

    @property
    def containers(self) -> list[str]:
        """All containers there are on this machine's engine for the tests."""
        return engine.podman("ps", "--all", "--format", "{{.Names}}").split()

    @classmethod
    def begin(
        cls, directory: Path, documents: int = 100, name: str = "alf1", image: str = ""
    ) -> "ContainerHost":
        """Make and start it."""
        prefix = f"t{secrets.token_hex(4)}"
        volume = f"{prefix}_postgres-data"
        engine.podman("volume", "create", *engine.label(), volume)
        data = Path(engine.podman("volume", "inspect", "-f", "{{.Mountpoint}}", volume))
        bindir = engine.server_bindir()
        cluster = ContainerCluster(
            bindir, data, superuser=ROLE, password=PASSWORD, durable=False, runtime=directory
        )
        host = cls(directory, cluster, free_port(), name, prefix, image or engine.image())
        cluster.container = host.postgres
        host._make_places()
        host.run_postgres()
        population = make_population(documents, SEED)
        write_files(population, host.layout.contentstore)
        give_to_alfresco(host.layout.root)
        schema = Path(__file__).parents[2] / "demo/schema.sql"
        cluster.sql_file(schema, DATABASE)
        load_rows(population.changes, cluster, directory)
        host._write_env()
        host.run_alfresco()
        return host

    def _make_places(self) -> None:
        for folder in ("alf_data/contentstore", "alf_data/contentstore.deleted", "keystore"):
            (self.home / folder).mkdir(parents=True)
        (self.home / "keystore/keystore").write_bytes(b"\xce\xce\xce\xce" + secrets.token_bytes(2000))
        self.backup_dir.mkdir()

    def run_postgres(self) -> None:
        """Make and start PostgreSQL's container, with the arguments that the usual compose files have."""
        environment = {
            "POSTGRES_USER": ROLE,
            "POSTGRES_PASSWORD": PASSWORD,
            "POSTGRES_DB": DATABASE,
            "PGPORT": self.cluster.port,
        }
        command = (
            "postgres",
            "-c",
            "max_connections=60",
            "-c",
            "track_commit_timestamp=on",
            "-c",
            "fsync=off",
        )
        self._run(self.postgres, environment, (f"{self.volume}:{engine.DATA}",), command)
        wait_until(self.cluster.answers, lambda: engine.podman("logs", self.postgres))

    def run_alfresco(self) -> None:
        """Make and start Alfresco's container: a process that answers on a port."""
        url = f"jdbc:postgresql://127.0.0.1:{self.cluster.port}/{DATABASE}"
        options = (
            f"-Ddb.driver=org.postgresql.Driver -Ddb.url={url} -Ddb.username={ROLE} -Ddb.password={PASSWORD}"
        )
        environment = {
            "JAVA_OPTS": options,
            "JAVA_TOOL_OPTIONS": f"-Dencryption.keystore.location={KEYSTORE}/keystore",
            "PORT": self.tomcat_port,
        }
        mounts = (f"{self.home}/alf_data:{TOMCAT}/alf_data", f"{self.home}/keystore:{KEYSTORE}")
        self._run(
            self.alfresco, environment, mounts, ("stand-in-alfresco",), "--user", str(engine.ALFRESCO_UID)
        )
        self.wait_for_alfresco()

    def _run(
        self,
        name: str,
        environment: dict[str, object],
        mounts: Sequence[str],
        command: Sequence[str],
        *options: str,
    ) -> None:
        told = {**environment, "SWEPT_WITH": own_folder()}  # by which the sweeper finds the processes
        variables = [word for key, value in told.items() for word in ("-e", f"{key}={value}")]
        volumes = [word for mount in mounts for word in ("-v", mount)]
        project = ("--label", f"com.docker.compose.project={self.prefix}")
        named = ("--name", name, *engine.label(), *project)
        engine.podman("run", "-d", *named, *variables, *volumes, *options, self.image, *command)

    def wait_for_alfresco(self) -> None:
        def answers() -> bool:
            try:
                return "documents" in self.answer()
            except OSError:
                return False

        wait_until(answers, lambda: engine.podman("logs", self.alfresco))

    def start(self, component: str = "") -> str:
        self.cluster.start()
        engine.podman("start", self.alfresco)
        self.wait_for_alfresco()
        return ""

    def stop(self, component: str = "") -> str:
        engine.podman("stop", "-t", "10", self.alfresco)
        self.cluster.stop()
        return ""

    @property
    def layout(self) -> Home:
        return Home(self.directory / "alfresco")

    @cached_property
    def writer(self) -> Writer:
        plain = DemoHost.writer.func(self)
        return AlfrescosWriter(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})

    def _write_env(self) -> None:
        settings = {
            "PGHOST": "127.0.0.1",
            "PGPORT": self.cluster.port,
            "PGUSER": ROLE,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": DATABASE,
            "PGSUPERUSER": ROLE,
            "BACKUP_DIR": self.backup_dir,
            "ALF_HOST_NAME": self.name,
            "PG_CONTAINER": self.postgres,
            "ALF_CONTAINERS": self.alfresco,
            "WAL_STREAMING": "yes",
            "TOMCAT_PORT": self.tomcat_port,
            "RETENTION_DAYS": 7,
            "CUSTOMER_NAME": "Demo",
            "ARCHIVE_WAIT_MINUTES": 1,
            "SERVICE_STOP_MINUTES": 1,
            "BUSY_WAIT_MINUTES": 2,
        }
        self.env_file.touch(0o600)
        self.env_file.write_text("".join(f'{name}="{value}"\n' for name, value in settings.items()))

    def destroy(self) -> None:
        """Remove containers and volumes, those that were made of them included."""
        if "writer" in self.__dict__:
            self.writer.close()
        for name in (self.alfresco, self.postgres):
            engine.remove("container", name)
        engine.remove("volume", self.volume)  # with any other container that has it


@contextmanager
def container_host(documents: int = 100, name: str = "alf1", image: str = "") -> Iterator[ContainerHost]:
    """A running container host, with the tests' podman on PATH; skips where no container can run."""
    if reason := engine.engine_or_reason():
        pytest.skip(reason)
    with reachable_directory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{engine.program().parent}:{os.environ['PATH']}")
        made: list[ContainerHost] = []
        try:
            made.append(ContainerHost.begin(directory / "host", documents, name, image))
            yield made[0]
        finally:
            for host in made:
                host.destroy()
