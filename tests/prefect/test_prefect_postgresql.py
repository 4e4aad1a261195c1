"""A Prefect server on PostgreSQL: as the guide sets it up, and as `make serve DATABASE=postgresql` does."""

import json
import os
import signal
from pathlib import Path

import httpx
from dotenv import dotenv_values
from prefect.client.schemas.actions import VariableCreate

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.cluster import Cluster, client_bindir, default_bindir, free_port
from tests.support.common import temporary_cluster
from tests.support.documents import Names, execute, plain_environment
from tests.support.how_to import HOW_TO
from tests.support.places import reachable_directory
from tests.support.prefect_lab import RUN_SECONDS, Lab, alive, descendants
from tests.support.prefect_serving import Serving

GUIDE = HOW_TO / "postgresql-under-prefect.md"


def follow(cluster: Cluster, place: Path, *words: str) -> None:
    """Blocks of the guide, with a cluster of the test in place of the machine's."""
    names = {
        "runuser -u postgres --": "env",
        "localhost:5432": f"127.0.0.1:{cluster.port}",
        "/etc/alfresco-backup": str(place),
        "/backup/prefect": str(place / "dumps"),
        "-o postgres": "",
        "/opt/alfresco-backup": str(PROJECT_DIRECTORY),
    }
    path = f"{client_bindir(cluster.bindir)}:{os.environ['PATH']}"
    environment = {**plain_environment(place), **cluster.environment(), "PATH": path}
    execute(GUIDE, Names(names), environment, words, only=True)


def test_the_guide_sets_a_server_up_and_a_dump_brings_its_database_back(tmp_path: Path) -> None:
    with temporary_cluster(default_bindir()) as cluster:
        follow(cluster, tmp_path, "database")
        settings = tmp_path / "prefect-server.env"
        settings.write_text("PREFECT_SERVER_API_AUTH_STRING=admin:choose-one\n")
        home = tmp_path / "home"
        home.mkdir()
        login = {"PREFECT_API_AUTH_STRING": "admin:choose-one"}
        follow(cluster, tmp_path, "unit")
        assert settings.stat().st_mode & 0o777 == 0o600
        lab = Lab(home, {**login, **{name: value or "" for name, value in dotenv_values(settings).items()}})
        try:
            lab.start_server()
            follow(cluster, tmp_path, "worked")
            with lab.client() as client:
                client.create_variable(VariableCreate(name="identity-alf1", value="this machine"))
            follow(cluster, tmp_path, "dump")
            lab.kill_server()
            cluster.sql("DROP DATABASE prefect WITH (FORCE)")
            cluster.sql("CREATE DATABASE prefect OWNER prefect")
            follow(cluster, tmp_path, "lost")
            lab.start_server()
            with lab.client() as client:
                found = client.read_variable_by_name("identity-alf1")
            assert found and found.value == "this machine"
        finally:
            if lab.server:
                lab.kill_server()


def test_serve_keeps_a_cluster_of_its_own_beside_the_file(slow: None) -> None:
    with reachable_directory() as home:
        for _ in range(2):  # made, and started again
            serving = Serving(home, free_port(), "--database", "postgresql")
            try:
                serving.await_words("Worker 'ProcessWorker")
                record = json.loads((home / "postgresql/cluster.json").read_text())
                bindir, data = Path(record["bindir"]), home / "postgresql/data"
                cluster = Cluster(bindir, data, record["port"], password=record["password"])
                assert cluster.sql("SELECT name FROM work_pool", "prefect") == [("alf1",)]
                user, _, password = serving.login.partition(":")
                page = httpx.get(f"{serving.address}/api/admin/version", auth=(user, password), timeout=60)
                assert page.is_success
                assert record["password"] not in serving.output.read_text()
                serving.process.send_signal(signal.SIGTERM)
                assert serving.process.wait(RUN_SECONDS) == 0
                assert not cluster.running
            finally:
                for pid in (serving.process.pid, *descendants(serving.process.pid)):
                    if alive(pid):
                        os.kill(pid, signal.SIGKILL)
                serving.process.wait()
