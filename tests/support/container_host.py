"""A host whose Alfresco and PostgreSQL run in containers: the services of deployments/compose.yaml, of which
docs/how-to/containers.md is about, with the demo's documents, rows and writer in them.

Compose itself is not needed: the services are started by the engine, as compose would, but all of the tests'
one image and on the host's network, each on a port of its own.

directory/srv/alf_data/   bind mount of uid 33000, with the documents; beside it keystore and solr-data
directory/backup/         BACKUP_DIR
directory/.env            the settings, with PG_CONTAINER and ALF_CONTAINERS
a named volume            the data directory, of uid 999
"""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.cluster import Cluster, free_port
from demo.documents import Document
from demo.home import Home
from demo.host import SEED, DemoHost, write_settings
from demo.population import load_rows, make_population, write_files
from demo.state import DATABASE
from demo.writer import Commit, Writer
from tests.support import container_engine as engine
from tests.support.common import wait_until
from tests.support.places import own_folder, reachable_directory

ROLE = "alfresco"
PASSWORD = "alfresco's-secret"
COMPOSE = PROJECT_DIRECTORY / "deployments/compose.yaml"
PLACES = "/srv/alfresco"
VOLUME = "/var/lib/postgresql"
DATA = f"{VOLUME}/data"
NEWER_DATA = f"{VOLUME}/18/docker"
"""Where the usual images of PostgreSQL 18 and later have it, in a volume on /var/lib/postgresql."""
SERVER_OPTIONS = ("-c", "track_commit_timestamp=on", "-c", "fsync=off", "-c", "shared_buffers=16MB")
STOPPED_FIRST = ("share", "alfresco", "solr6")
"""Alfresco's services in the order in which they are stopped."""


@cache
def services() -> Mapping[str, Any]:
    """The services of the compose file, by name."""
    return yaml.safe_load(COMPOSE.read_text())["services"]


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
        """Whether it lets the superuser in by TCP, as Alfresco connects: not while it is being made."""
        client = ("-e", f"PGPASSWORD={self.password}", self.container, "psql", "-XAtq", "-h", "127.0.0.1")
        argv = (*client, "-p", str(self.port), "-U", self.superuser, "-d", DATABASE, "-c", "SELECT 1")
        return engine.podman("exec", *argv, check=False) == "1"


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
    """A running host; `prefix` is the project's name, and begins those of its containers and volumes."""

    prefix: str = field(default="")
    image: str = field(default="")
    data_inside: str = DATA

    def container(self, service: str) -> str:
        """The name that compose gives to a service's container."""
        return f"{self.prefix}-{service}-1"

    @property
    def postgres(self) -> str:
        return self.container("postgres")

    @property
    def alfresco(self) -> str:
        return self.container("alfresco")

    @property
    def volume(self) -> str:
        return f"{self.prefix}_postgres-data"

    @property
    def containers(self) -> list[str]:
        """All containers that have this host's volume or name: those of others run beside it."""
        listing = ("ps", "--all", "--format", "{{.Names}}", "--filter")
        found = [engine.podman(*listing, f"{kind}={self.prefix}") for kind in ("volume", "name")]
        return sorted(set(" ".join(found).split()))

    @classmethod
    def begin(
        cls,
        directory: Path,
        documents: int = 100,
        name: str = "alf1",
        image: str = "",
        data_inside: str = DATA,
    ) -> "ContainerHost":
        """Make and start it."""
        prefix = f"t{secrets.token_hex(4)}"
        volume = f"{prefix}_postgres-data"
        engine.podman("volume", "create", *engine.label(), volume)
        mounted = Path(engine.podman("volume", "inspect", "-f", "{{.Mountpoint}}", volume))
        data = mounted / Path(data_inside).relative_to(DATA if data_inside == DATA else VOLUME)
        cluster = ContainerCluster(
            engine.server_bindir(),
            data,
            superuser=ROLE,
            password=PASSWORD,
            durable=False,
            runtime=directory,
        )
        host = cls(directory, cluster, free_port(), name, prefix, image or engine.image(), data_inside)
        cluster.container = host.postgres
        host._make_places()
        host.run("postgres")
        wait_until(cluster.answers, lambda: engine.podman("logs", host.postgres))
        population = make_population(documents, SEED)
        write_files(population, host.layout.contentstore)
        give_to_alfresco(host.layout.root)
        cluster.sql_file(PROJECT_DIRECTORY / "demo/schema.sql", DATABASE)
        load_rows(population.changes, cluster, directory)
        host._write_env()
        for service in ("solr6", "alfresco", "share"):
            host.run(service)
        host.wait_for_alfresco()
        return host

    def _make_places(self) -> None:
        for folder in ("alf_data/contentstore", "alf_data/contentstore.deleted", "keystore", "solr-data"):
            (self.home / folder).mkdir(parents=True)
        (self.home / "keystore/keystore").write_bytes(b"\xce\xce\xce\xce" + secrets.token_bytes(2000))
        (self.home / "solr-data/alfresco/index").mkdir(parents=True)
        (self.home / "solr-data/alfresco/index/segments_2").write_bytes(secrets.token_bytes(200))
        self.backup_dir.mkdir()

    def run(self, service: str) -> None:
        """Make and start the container of a service of the compose file."""
        item = services()[service]
        command = item.get("command", "stand-in-alfresco").split()
        environment = dict(item["environment"])
        if service == "postgres":
            command += SERVER_OPTIONS
            environment["PGPORT"] = str(self.cluster.port)
            environment["PGDATA"] = self.data_inside
        else:
            environment["PORT"] = str(self.tomcat_port if service == "alfresco" else free_port())
        environment["SWEPT_WITH"] = str(own_folder())  # by which the sweeper finds the processes
        options = ["--user", str(engine.ALFRESCO_UID)] if service == "alfresco" else []
        options += [
            word for key, value in environment.items() for word in ("-e", f"{key}={self._here(value)}")
        ]
        options += [word for mount in item.get("volumes", ()) for word in ("-v", self._here(mount))]
        options += ["--label", f"com.docker.compose.project={self.prefix}"]
        named = ("--name", self.container(service), *engine.label())
        engine.podman("run", "-d", *named, *options, self.image, *command)

    def _here(self, text: str) -> str:
        """A value of the compose file as it is on this host."""
        for written, meant in {
            "${DB_PASSWORD}": PASSWORD,
            "postgres:5432": f"127.0.0.1:{self.cluster.port}",
            f"postgres-data:{DATA}": f"{self.volume}:{DATA if self.data_inside == DATA else VOLUME}",
            PLACES: str(self.home),
        }.items():
            text = text.replace(written, meant)
        return text

    def wait_for_alfresco(self) -> None:
        def answers() -> bool:
            try:
                return "documents" in self.answer()
            except OSError:
                return False

        wait_until(answers, lambda: engine.podman("logs", self.alfresco))

    def start(self, component: str = "") -> str:
        self.cluster.start()
        engine.podman("start", *map(self.container, reversed(STOPPED_FIRST)))
        self.wait_for_alfresco()
        return ""

    def stop(self, component: str = "") -> str:
        engine.podman("stop", "-t", "10", *map(self.container, STOPPED_FIRST))
        self.cluster.stop()
        return ""

    @property
    def layout(self) -> Home:
        return Home(self.directory / "srv")

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
            "ALF_CONTAINERS": ",".join(map(self.container, STOPPED_FIRST)),
            "SOLR_INDEX_DIRS": self.home / "solr-data/alfresco",
            "WAL_STREAMING": "yes",
            "TOMCAT_PORT": self.tomcat_port,
        }
        write_settings(self.env_file, settings)

    def destroy(self) -> None:
        """Remove containers and volumes, those that were made of them included."""
        if "writer" in self.__dict__:
            self.writer.close()
        for name in self.containers:
            engine.remove("container", name)
        engine.remove("volume", self.volume)


@contextmanager
def container_host(
    documents: int = 100, name: str = "alf1", image: str = "", data_inside: str = DATA
) -> Iterator[ContainerHost]:
    """A running container host, with the tests' podman on PATH; skips where no container can run."""
    if reason := engine.engine_or_reason():
        pytest.skip(reason)
    with reachable_directory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{engine.program().parent}:{os.environ['PATH']}")
        made: list[ContainerHost] = []
        try:
            made.append(ContainerHost.begin(directory / "host", documents, name, image, data_inside))
            yield made[0]
        finally:
            for host in made:
                host.destroy()
