"""A real Prefect server and worker for tests: own home, own port, nothing of the machine's."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from dotenv import dotenv_values
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.workers.process import ProcessWorker

from alfresco_backup.cli.entry import PREFECT_DEFAULTS
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.cluster import free_port
from tests.support.common import wait_until
from tests.support.prefect_database import give_database

PREFECT = Path(sys.executable).with_name("prefect")
SERVER = PROJECT_DIRECTORY / "deployments/server"
WORKER = PROJECT_DIRECTORY / "deployments/worker"
SERVER_ENV = PROJECT_DIRECTORY / "deployments/prefect-server.env"
START_SECONDS = 600.0
RUN_SECONDS = 600.0
"""How long a run may take to begin or end while others load the machine, and after its worker's outages."""
API_LOGIN = ("admin", "the server's #1 word")
FLOWS = "tests/support/prefect_flows.py"
SET_DIRECTORY = "prefect.deployments.steps.set_working_directory"


@dataclass
class Lab:
    """A Prefect server with workers. `environment`, `settings` among it, is what their processes get."""

    home: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    worker_environments: dict[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        """As the units and `make serve` set it, only quicker: the worker asks every second for work."""
        shipped = {name: value for name, value in dotenv_values(SERVER_ENV).items() if value}
        return {
            **shipped,
            **PREFECT_DEFAULTS,
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.home),  # the worker's folder there is nobody else's
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.address,
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
            **self.settings,
        }

    @property
    def login(self) -> tuple[str, str] | None:
        """What the server asks for, if anything."""
        user, separator, password = self.settings.get("PREFECT_API_AUTH_STRING", "").partition(":")
        return (user, password) if separator else None

    def client(self) -> SyncPrefectClient:
        """A client of this server; the tests' own process is not pointed at it."""
        return SyncPrefectClient(self.address, auth_string=self.settings.get("PREFECT_API_AUTH_STRING"))

    def start_server(self) -> None:
        give_database(self.home)
        with (self.home / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                [SERVER], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self.answers, f"the server answers; see {log.name}", START_SECONDS)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/health", timeout=5).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def kill_server(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self.server
        os.killpg(self.server.pid, number)
        self.server.wait(timeout=600)
        self.server = None

    def start_worker(self, pool: str, **environment: str) -> subprocess.Popen[bytes]:
        """A worker of a process pool, which it makes itself where it is missing."""
        with (self.home / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [WORKER, pool],
                env={**self.environment, **environment},
                cwd=PROJECT_DIRECTORY,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers[pool] = worker
        self.worker_environments[pool] = environment
        return worker

    def revive_workers(self) -> None:
        """Start workers that have ended, as systemd does: one that misses its server for long gives up."""
        for pool, worker in list(self.workers.items()):
            if worker.poll() is not None:
                self.start_worker(pool, **self.worker_environments[pool])

    def stop(self) -> None:
        """End workers, server, and every run that is still under way: all that has this home."""
        for process in (*self.workers.values(), self.server):
            if process is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=600)
        own = f"PREFECT_HOME={self.home}".encode()
        for file in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if own in file.read_bytes().split(b"\0"):
                    os.kill(int(file.parent.name), signal.SIGKILL)

    def run_prefect(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The `prefect` command, as an administrator types it."""
        return subprocess.run(
            [PREFECT, *arguments],
            env={**self.environment, **environment},
            cwd=PROJECT_DIRECTORY,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def run_python(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """A Python program of the project, started at once, its output kept."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**self.environment, **environment},
            cwd=PROJECT_DIRECTORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def deploy(self, function: str, name: str, env_file: Path, *, cron: str = "", file: str = FLOWS) -> str:
        """Deploy a flow of that file to the pool of that name, as prefect.yaml would."""
        variables = {"ALFRESCO_BACKUP_ENV": str(env_file), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
        schedules = [DeploymentScheduleCreate(schedule=CronSchedule(cron=cron), active=True)] if cron else []
        with self.client() as client:
            if name not in {pool.name for pool in client.read_work_pools()}:
                template = ProcessWorker.get_default_base_job_template()
                client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
            client.create_deployment(
                client.create_flow_from_name(function),
                name,
                entrypoint=f"{file}:{function}",
                pull_steps=[{SET_DIRECTORY: {"directory": str(PROJECT_DIRECTORY)}}],
                work_pool_name=name,
                tags=[name],
                job_variables={"stream_output": False, "env": variables},
                schedules=schedules,
            )
        return f"{function}/{name}"

    def start_run(self, deployment: str, env: Mapping[str, str] | None = None, **parameters: Any) -> UUID:
        """Have the worker run a deployment; `env` is added to the environment of this run."""
        self.revive_workers()
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            variables = {"env": {**found.job_variables.get("env", {}), **env}} if env else None
            return client.create_flow_run_from_deployment(
                found.id, parameters=parameters, job_variables=variables
            ).id

    def read(self, run: UUID) -> FlowRun:
        with self.client() as client:
            return client.read_flow_run(run)

    def state(self, run: UUID) -> str:
        """The name of a run's state."""
        found = self.read(run).state
        return (found.name or "") if found else ""

    def message(self, run: UUID) -> str:
        found = self.read(run).state
        return (found.message or "") if found else ""

    def await_state(self, run: UUID, *names: str, seconds: float = RUN_SECONDS) -> FlowRun:
        """Wait for one of the states; a run that ends in another fails the test with its message and log."""

        def come() -> FlowRun | None:
            self.revive_workers()
            found = self.read(run)
            assert found.state
            if found.state.name in names:
                return found
            assert not found.state.is_final(), self._told(run)
            return None

        return wait_until(come, lambda: self._told(run), seconds, every=0.2)

    def _told(self, run: UUID) -> str:
        found = self.read(run)
        return "\n".join([f"{found.name}: {self.state(run)}: {self.message(run)}", *self.log(run)])

    def log(self, run: UUID) -> list[str]:
        """The run's log lines in Prefect, oldest first."""
        wanted = {"logs": {"flow_run_id": {"any_": [str(run)]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return [entry["message"] for entry in self.post("/logs/filter", wanted)]

    def await_log(self, run: UUID, words: str) -> None:
        """Wait for a line with these words; without one the test fails with the whole log."""
        self.await_run(run, lambda: any(words in line for line in self.log(run)), f"{words!r} in its log")

    def await_run(self, run: UUID, condition: Callable[[], object], what: str) -> None:
        """Wait until a run has come so far; where it does not the test fails with its state and log."""

        def come() -> object:
            self.revive_workers()
            return condition()

        wait_until(come, lambda: f"{what}; {self._told(run)}", RUN_SECONDS, every=0.2)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Ask the server. One that is busy says so and is asked again, as Prefect's own client does."""

        def answered() -> httpx.Response | None:
            answer = httpx.post(f"{self.address}{path}", json=body, timeout=600, auth=self.login)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        answer = wait_until(answered, f"an answer to {path}", every=0.5)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def locks_taken(self, name: str) -> int:
        with self.client() as client:
            return client.read_global_concurrency_limit_by_name(name).active_slots

    def forget_leases(self) -> None:
        """Have the server forget who holds what, as when it was away until the leases had run out."""
        for file in (self.home / "concurrency_leases").glob("*-*.json"):
            self.post("/v2/concurrency_limits/decrement-with-lease", {"lease_id": file.stem})

    def process_of(self, run: UUID) -> int:
        """The process of a run that the worker has started."""
        pid = self.read(run).infrastructure_pid
        assert pid
        return int(pid.rpartition(":")[2])


@contextmanager
def prefect_lab(home: Path, **settings: str) -> Iterator[Lab]:
    """A running server, with these variables beside those shipped; workers are started by the tests."""
    home.mkdir(parents=True, exist_ok=True)
    login = ":".join(API_LOGIN)
    passwords = {"PREFECT_API_AUTH_STRING": login, "PREFECT_SERVER_API_AUTH_STRING": login}
    lab = Lab(home, {**passwords, **settings})
    try:
        lab.start_server()
        yield lab
    finally:
        lab.stop()


def now() -> datetime:
    return datetime.now(UTC)


def children_of(pid: int) -> set[int]:
    """The processes that one has started itself and that are still there."""
    lists = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return {int(child) for text in lists for child in text.split()}


def descendants(pid: int) -> set[int]:
    """All processes below one, however deep, as long as their parents live."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    queue = [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        found.update(children)
        queue.extend(children)
    return found


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def program_of(pid: int) -> str:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
