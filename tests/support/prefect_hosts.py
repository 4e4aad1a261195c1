"""Several demo hosts at one Prefect server on PostgreSQL, each with its worker; a mail server for all."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from demo.cluster import Cluster
from demo.host import DemoHost
from deployments.serve_database import CONNECTION, RECORD, postgresql
from tests.support.common import temporary_demo_host
from tests.support.mail_servers import Mailbox, mail_server
from tests.support.places import reachable_directory
from tests.support.prefect_lab import Lab, prefect_lab
from tests.support.prefect_site import add_mail_settings, run_bootstrap


@dataclass
class Hosts:
    """The hosts by name; `cluster` has the server's database."""

    lab: Lab
    cluster: Cluster
    mailbox: Mailbox
    hosts: Mapping[str, DemoHost]

    def start(self, flow: str, **environments: Mapping[str, str]) -> dict[str, UUID]:
        """A run of the flow on every host, one right after the other; `environments` are added by host."""
        return {name: self.lab.start_run(f"{flow}/{name}", environments.get(name)) for name in self.hosts}

    def completed(self, runs: Mapping[str, UUID]) -> dict[str, FlowRun]:
        """Wait for all of them; one that does not complete fails the test."""
        return {name: self.lab.await_state(run, "Completed") for name, run in runs.items()}

    def artifacts(self) -> list[tuple[str, str]]:
        """Of every artifact with a key that key, and the host whose run made it. Progress has none."""
        runs = {run["id"]: run["tags"] for run in self.lab.post("/flow_runs/filter", {})}
        made = self.lab.post("/artifacts/filter", {})
        pairs = ((item["key"], tag) for item in made if item["key"] for tag in runs[item["flow_run_id"]])
        return [(key, host) for key, host in pairs if host in self.hosts]


@contextmanager
def server_database() -> Iterator[tuple[Cluster, str]]:
    """A cluster for a Prefect server, as `make serve DATABASE=postgresql` makes it, and its URL."""
    with reachable_directory() as home, postgresql(home) as url:
        record = json.loads((home / "postgresql" / RECORD).read_text())
        data = home / "postgresql/data"
        yield Cluster(Path(record["bindir"]), data, record["port"], password=record["password"]), url


@contextmanager
def several_hosts(*names: str, **settings: str) -> Iterator[Hosts]:
    """Server, hosts, deployments and workers, running; no schedule is active."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ab-hosts-")))
        cluster, url = stack.enter_context(server_database())
        mailbox = stack.enter_context(mail_server())
        lab = stack.enter_context(prefect_lab(home, **{CONNECTION: url}, **settings))
        hosts = {name: stack.enter_context(temporary_demo_host(name=name)) for name in names}
        for name, host in hosts.items():
            add_mail_settings(host, mailbox)
            done = run_bootstrap(lab, host.env_file)
            assert done.returncode == 0, done.stderr
            lab.start_worker(name, ALFRESCO_BACKUP_ENV=str(host.env_file))
        pause_schedules(lab)
        yield Hosts(lab, cluster, mailbox, hosts)


def pause_schedules(lab: Lab) -> None:
    """Nothing but what is asked for is to run."""
    with lab.client() as client:
        for deployment in client.read_deployments():
            for entry in deployment.schedules:
                client.update_deployment_schedule(deployment.id, entry.id, active=False)
