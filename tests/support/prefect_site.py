"""A demo host at work: Prefect server, deployments, worker and mail server, once for all tests."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from alfresco_backup.host.host import Host, load_host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.home import ROLE_PASSWORD
from demo.host import DemoHost
from tests.support.common import temporary_demo_host, wait_until
from tests.support.mail_servers import PASSWORD as MAIL_PASSWORD
from tests.support.mail_servers import Mailbox, mail_server
from tests.support.prefect_lab import (
    API_LOGIN,
    RUN_SECONDS,
    Lab,
    children_of,
    descendants,
    prefect_lab,
    program_of,
)

NAME = "demo"
LOGIN = ":".join(API_LOGIN)
SUPERUSER_PASSWORD = "demo secret #1'"
STAND_INS = ("hold", "hourly", "moody", "late", "counted")
SLOW = {"BANDWIDTH_LIMIT_MIB": "0.1"}
"""Environment of a backup that is to be met in the middle: 30 MB of database then take minutes."""


@dataclass(frozen=True)
class Held:
    """A run that holds the host, its children, and the file that ends it."""

    run: UUID
    name: str
    children: set[int]
    until: Path

    def stop(self) -> None:
        self.until.touch()


@dataclass(frozen=True)
class Copying:
    """A backup under way, its process and all programs below it."""

    run: UUID
    pid: int
    children: set[int]


@dataclass
class Site:
    """The host, its Prefect, its mail.

    `bootstrapped` is what bootstrap said when it made everything, `schedules` what it then had scheduled, as
    (deployment, cron, time zone): paused since, or a quarter past would take the host from a test.
    """

    host: DemoHost
    lab: Lab
    mailbox: Mailbox
    bootstrapped: str = ""
    schedules: set[tuple[str, str, str]] = field(default_factory=set)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (ROLE_PASSWORD, SUPERUSER_PASSWORD, MAIL_PASSWORD, API_LOGIN[1])

    @property
    def partials(self) -> list[Path]:
        return sorted(self.host.backup_dir.glob("*/*.partial"))

    def bootstrap(self) -> str:
        """What `make deploy` prints."""
        done = run_bootstrap(self.lab, self.host.env_file)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def deployments(self) -> dict[str, DeploymentResponse]:
        """What prefect.yaml deployed, by the name `flow/deployment`."""
        with self.lab.client() as client:
            flows = {item.id: item.name for item in client.read_flows(limit=200)}
            found = {f"{flows[item.flow_id]}/{item.name}": item for item in client.read_deployments()}
        return {name: item for name, item in found.items() if (item.entrypoint or "").startswith("flows/")}

    def pause_schedules(self) -> None:
        with self.lab.client() as client:
            for name, deployment in self.deployments().items():
                for entry in deployment.schedules:
                    assert isinstance(entry.schedule, CronSchedule) and entry.active
                    self.schedules.add((name, entry.schedule.cron, str(entry.schedule.timezone)))
                    client.update_deployment_schedule(deployment.id, entry.id, active=False)

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self.lab.start_worker(NAME, ALFRESCO_BACKUP_ENV=str(self.host.env_file))

    def direct_run(self, flow: str) -> subprocess.Popen[str]:
        """A stand-in flow in a process of its own, as started by hand."""
        environment = {"ALFRESCO_BACKUP_ENV": str(self.host.env_file)}
        return self.lab.run_python("-c", direct_run_code(NAME), flow, **environment)

    def run_moody(self, message: str, words: str, **env: str) -> str:
        """Run the flow that fails with a message, or completes without; the log line with these words."""
        return self.await_moody(self.start_moody(message, **env), message, words)

    def start_moody(self, message: str, **env: str) -> UUID:
        return self.lab.start_run(f"moody/{NAME}", env=env, message=message)

    def await_moody(self, run: UUID, message: str, words: str) -> str:
        self.lab.await_state(run, "Failed" if message else "Completed")
        self.lab.await_log(run, words)
        return next(line for line in self.lab.log(run) if words in line)

    def begin_to_hold(self) -> "Held":
        """A run that holds the host until it is told to stop."""
        lab = self.lab
        self.wait_until_free()
        until = lab.home / f"stop-{uuid4()}"
        run = lab.start_run(f"hold/{NAME}", until=str(until))
        lab.await_state(run, "Running")
        pid = lab.process_of(run)
        lab.await_run(run, lambda: lab.locks_taken(NAME) == 1 and children_of(pid), "hold on the host")
        return Held(run, lab.read(run).name, children_of(pid), until)

    def await_waiting_by_hand(self, flow: str) -> UUID:
        """The only run of a flow that was started by hand and waits for the host."""
        states = {"state": {"name": {"any_": ["WaitingForHost"]}}, "deployment_id": {"is_null_": True}}
        wanted = {"flows": {"name": {"any_": [flow]}}, "flow_runs": states}
        wait_until(lambda: self.lab.post("/flow_runs/filter", wanted), f"a {flow} that waits", RUN_SECONDS)
        [run] = self.lab.post("/flow_runs/filter", wanted)
        return UUID(run["id"])

    def require_set(self) -> None:
        """Make a complete set unless there is one."""
        if not read_catalogue(Repository(self.host.backup_dir)).complete_sets:
            self.lab.await_state(self.lab.start_run(f"backup/{NAME}"), "Completed")

    def begin_slow_backup(self) -> "Copying":
        """A backup that is in the middle of its base backup, for minutes."""
        self.wait_until_free()
        run = self.lab.start_run(f"backup/{NAME}", env=SLOW)

        def copies() -> bool:
            pid = self.lab.read(run).infrastructure_pid
            return bool(pid) and any("pg_basebackup" in program_of(child) for child in self.below(run))

        self.lab.await_run(run, copies, "base backup under way")
        return Copying(run, self.lab.process_of(run), self.below(run))

    def below(self, run: UUID) -> set[int]:
        """The programs that a run has started, and theirs."""
        return descendants(self.lab.process_of(run))

    def wait_until_free(self, seconds: float = RUN_SECONDS) -> None:
        """Wait until nobody holds the host."""
        wait_until(lambda: self.lab.locks_taken(NAME) == 0, "the host's lock is free", seconds)

    def await_mail(self, words: str) -> str:
        """The text of the only mail with these words in its subject."""
        wait_until(lambda: self.mailbox.subjects(words), f"a mail: {words}", RUN_SECONDS)
        return str(self.mailbox.mail(words).get_content()).replace("\r\n", "\n")


def run_bootstrap(lab: Lab, env_file: Path) -> subprocess.CompletedProcess[str]:
    """Bring a server up to date for a host, as `make deploy` does."""
    return subprocess.run(
        [sys.executable, "-m", "alfresco_backup", "deploy", "--env", str(env_file)],
        env={**lab.environment, "BACKUP_TIMEZONE": "Europe/Berlin"},
        cwd=PROJECT_DIRECTORY,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def direct_run_code(host: str) -> str:
    """A program that runs the stand-in flow of its first argument as backup.py would run its own."""
    return (
        "import sys; from alfresco_backup.cli.entry import prepare_environment; prepare_environment(None)\n"
        "from tasks.runs.embedded_server import direct_run; import tests.support.prefect_flows as flows\n"
        f"with direct_run({host!r}): print(getattr(flows, sys.argv[1])(*sys.argv[2:]))"
    )


@contextmanager
def running_site() -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="ab-lab-") as home,
        mail_server() as mailbox,
        prefect_lab(Path(home)) as lab,
        temporary_demo_host(name=NAME) as host,
    ):
        site = Site(host, lab, mailbox)
        add_mail_settings(host, mailbox)
        site.bootstrapped = site.bootstrap()
        site.pause_schedules()
        for flow in STAND_INS:
            lab.deploy(flow, NAME, host.env_file)
        site.start_worker()
        yield site


@contextmanager
def history(site: Site) -> Iterator[Host]:
    """This process as a client of the server; the host whose runs are looked at or written down."""
    with temporary_settings({PREFECT_API_URL: site.lab.address, PREFECT_API_AUTH_STRING: LOGIN}):
        yield load_host(site.host.env_file)


def add_mail_settings(host: DemoHost, mailbox: Mailbox) -> None:
    values = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.port),
        "SMTP_TYPE": "INSECURE",
        "SMTP_PASSWORD": MAIL_PASSWORD,
        "SMTP_TIMEOUT_SECONDS": "60",
        "ALERT_EMAIL": "ops@example.org",
    }
    with host.env_file.open("a") as file:
        file.writelines(f'{name}="{value}"\n' for name, value in values.items())
